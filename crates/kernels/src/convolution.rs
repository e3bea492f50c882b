//! A 2-D convolution and its three gradients, on slices of `f32`, one image a task.
//!
//! Everything is made of the two loops in `tile`: the output is the product of the weights with the
//! runs of the image; the gradient of the input is the product of the transposed weights with the
//! runs of the output's gradient; the gradient of the weights is the product of the runs of the image
//! with the output's gradient. No im2col or col2im matrix is formed.
//!
//! An image's output and input gradient are computed by themselves: they do not depend on the rest of
//! the batch. Sums over images are taken in parts of a fixed size that are added in order: the result
//! depends neither on timing nor on the number of threads.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::geometry::Geometry;
use crate::images::Images;
use crate::tile::{Panels, SLACK, accumulate, at_least, multiply, sum};

/// Most images whose gradients of weights are summed in one task.
const PART: usize = 8;

/// Least number of tasks that a smaller batch is split into.
const PARTS: usize = 8;

/// Working space of one thread, kept from call to call: fresh memory would cost page faults.
#[derive(Default)]
struct Scratch {
    /// An image that was made again.
    image: Vec<f32>,
    /// Spread images.
    images: Vec<f32>,
    /// Spread gradients of the output.
    gradients: Vec<f32>,
    /// The same with channels innermost.
    transposed: Vec<f32>,
    tile: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The convolution of `input` with `weight`, plus `bias`, through ReLU if `relu`.
pub(crate) fn forward(geometry: &Geometry, input: &[f32], weight: &[f32], bias: &[f32], relu: bool) -> Vec<f32> {
    let depth = geometry.depth();
    let panels = Panels::new(geometry.outputs, depth, |row, column| weight[row * depth + column]);
    let taps = geometry.taps();
    let arch = Arch::new();
    let mut output = vec![0.0; geometry.batch * geometry.map()];
    output.par_chunks_mut(geometry.map()).zip(input.par_chunks(geometry.image())).for_each(|(output, image)| {
        SCRATCH.with_borrow_mut(|scratch| {
            arch.dispatch(Forward { geometry, panels: &panels, taps: &taps, bias, relu, image, output, scratch });
        });
    });
    output
}

struct Forward<'a> {
    geometry: &'a Geometry,
    panels: &'a Panels,
    taps: &'a [usize],
    bias: &'a [f32],
    relu: bool,
    image: &'a [f32],
    output: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { geometry, panels, taps, bias, relu, image, output, scratch } = self;
        let Scratch { images, tile, .. } = scratch;
        let images = at_least(images, spread_length(geometry));
        spread_image(geometry, image, images);

        let [height, width] = geometry.output;
        multiply(simd, panels, taps, images, geometry.columns(), tile, |channel, values| {
            let bias = bias[channel];
            let map = &mut output[channel * height * width..][..height * width];
            for (row, values) in map.chunks_exact_mut(width).zip(values.chunks(geometry.grid[1])) {
                for (output, value) in row.iter_mut().zip(values) {
                    let value = value + bias;
                    // Not `max`: a NaN must stay one.
                    *output = if relu && value < 0.0 { 0.0 } else { value };
                }
            }
        });
    }
}

/// Which gradients are asked for, beside that of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) input: bool,
    pub(crate) bias: bool,
}

/// The gradients that were asked for; the others are empty.
#[derive(Debug, PartialEq)]
pub(crate) struct Gradients {
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The gradients of a convolution from that of its output.
///
/// `output` is what [`forward`] gave, if it went through ReLU. The gradient of the weights is computed
/// if there is an `input`; `weight` is read only for the gradient of the input.
pub(crate) fn backward(
    geometry: &Geometry,
    input: Option<&Images<'_>>,
    weight: &[f32],
    output: Option<&[f32]>,
    gradient: &[f32],
    wanted: Wanted,
) -> Gradients {
    let transposed = if wanted.input { Transposed::of_each_phase(geometry, weight) } else { Vec::new() };
    let sums = input.is_some() || wanted.bias;
    let part = if sums { geometry.batch.div_ceil(PARTS).clamp(1, PART) } else { 1 };
    let parts = geometry.batch.div_ceil(part);
    let width = geometry.outputs.next_multiple_of(SLACK);
    let weights = if input.is_some() { geometry.depth() * width } else { 0 };
    let biases = if wanted.bias { geometry.outputs } else { 0 };

    let mut input_gradient = vec![0.0; if wanted.input { geometry.batch * geometry.image() } else { 0 }];
    let mut partial: Vec<Vec<f32>> = vec![Vec::new(); parts];
    let taps = geometry.taps();
    let arch = Arch::new();

    let mut input_parts: Vec<&mut [f32]> = if wanted.input {
        input_gradient.chunks_mut(part * geometry.image()).collect()
    } else {
        (0..parts).map(|_| Default::default()).collect()
    };
    input_parts.par_iter_mut().zip(&mut partial).enumerate().for_each(|(index, (input_gradient, partial))| {
        let first = index * part;
        let images = first..(first + part).min(geometry.batch);
        partial.resize(weights + biases, 0.0);
        let (weight, bias) = partial.split_at_mut(weights);
        SCRATCH.with_borrow_mut(|scratch| {
            arch.dispatch(Backward {
                geometry,
                transposed: &transposed,
                taps: &taps,
                first,
                input,
                output: output.map(|output| &output[images.start * geometry.map()..]),
                gradient: &gradient[images.start * geometry.map()..images.end * geometry.map()],
                input_gradient,
                weight,
                bias,
                scratch,
            });
        });
    });

    let total = partial.into_iter().reduce(|mut total, partial| {
        for (total, partial) in total.iter_mut().zip(partial) {
            *total += partial;
        }
        total
    });
    let total = total.unwrap_or_else(|| vec![0.0; weights + biases]);
    let (weight, bias) = total.split_at(weights);
    let outputs = if input.is_some() { geometry.outputs } else { 0 };
    let weight = (0..outputs).flat_map(|output| weight[output..].iter().step_by(width).copied()).collect();
    Gradients { input: input_gradient, weight, bias: bias.to_vec() }
}

/// The gradients of a few consecutive images; slices for what is not wanted are empty.
struct Backward<'a> {
    geometry: &'a Geometry,
    transposed: &'a [Transposed],
    taps: &'a [usize],
    /// Index of the first of these images.
    first: usize,
    input: Option<&'a Images<'a>>,
    output: Option<&'a [f32]>,
    gradient: &'a [f32],
    input_gradient: &'a mut [f32],
    weight: &'a mut [f32],
    bias: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { geometry, transposed, taps, first, input, output, gradient, .. } = self;
        let Self { input_gradient, weight, bias, scratch, .. } = self;
        let gradients = at_least(&mut scratch.gradients, geometry.outputs * gradient_row(geometry));
        for (index, gradient) in gradient.chunks_exact(geometry.map()).enumerate() {
            let output = output.map(|output| &output[index * geometry.map()..][..geometry.map()]);
            spread_gradient(geometry, gradient, output, gradients);
            if !input_gradient.is_empty() {
                let target = &mut input_gradient[index * geometry.image()..][..geometry.image()];
                for phase in transposed {
                    phase.write(simd, geometry, gradients, &mut scratch.tile, target);
                }
            }
            if let Some(input) = input {
                let image = at_least(&mut scratch.images, spread_length(geometry));
                spread_image(geometry, input.image(first + index, &mut scratch.image), image);
                let width = weight.len() / geometry.depth();
                let factors = at_least(&mut scratch.transposed, geometry.columns() * width);
                transpose_gradient(geometry, gradients, width, factors);
                accumulate(simd, image, taps, factors, width, weight);
            }
            for (bias, row) in bias.iter_mut().zip(gradients.chunks_exact(gradient_row(geometry))) {
                let map = &row[geometry.reach()..];
                *bias += sum(simd, &map[..geometry.columns().next_multiple_of(S::F32_LANES)]);
            }
        }
    }
}

/// The weights that give the input gradient of one phase: a row an input channel.
struct Transposed {
    phase: [usize; 2],
    panels: Panels,
    taps: Vec<usize>,
}

impl Transposed {
    fn of_each_phase(geometry: &Geometry, weight: &[f32]) -> Vec<Self> {
        geometry.each_phase().map(|phase| Self::new(geometry, weight, phase)).collect()
    }

    fn new(geometry: &Geometry, weight: &[f32], phase: [usize; 2]) -> Self {
        let [height, width] = geometry.kernel;
        let mut taps = Vec::new();
        let mut sources = Vec::new();
        for output in 0..geometry.outputs {
            for row in (phase[0]..height).step_by(geometry.stride[0]) {
                for column in (phase[1]..width).step_by(geometry.stride[1]) {
                    taps.push(gradient_start(geometry, output) - geometry.shift(row, column));
                    sources.push(output * geometry.depth() + row * width + column);
                }
            }
        }
        let panels = Panels::new(geometry.inputs, taps.len(), |channel, column| {
            weight[sources[column] + channel * height * width]
        });
        Self { phase, panels, taps }
    }

    /// Writes the gradient of the pixels of this phase into that of the image.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, geometry: &Geometry, gradient: &[f32], tile: &mut Vec<f32>, image: &mut [f32]) {
        let [height, width] = geometry.input;
        let (first_row, rows, start_row) = geometry.inside(0, self.phase[0]);
        let (first_column, columns, start_column) = geometry.inside(1, self.phase[1]);
        let [row_step, column_step] = geometry.stride;
        multiply(simd, &self.panels, &self.taps, gradient, geometry.plane(), tile, |channel, values| {
            let channel = &mut image[channel * height * width..][..height * width];
            for row in 0..rows {
                let values = &values[(first_row + row) * geometry.grid[1] + first_column..][..columns];
                let target = &mut channel[(start_row + row * row_step) * width..][..width];
                if column_step == 1 {
                    target[start_column..start_column + columns].copy_from_slice(values);
                } else if columns > 0 {
                    let target = target[start_column..].iter_mut().step_by(column_step);
                    for (target, value) in target.zip(values) {
                        *target = *value;
                    }
                }
            }
        });
    }
}

/// Length of a spread image.
fn spread_length(geometry: &Geometry) -> usize {
    let [rows, columns] = geometry.phases();
    rows * columns * geometry.inputs * geometry.plane() + SLACK
}

/// Writes an image as its phases, padding included: first all channels of the first phase.
#[inline(always)]
fn spread_image(geometry: &Geometry, image: &[f32], target: &mut [f32]) {
    let [height, width] = geometry.input;
    let filled = target.len() - SLACK;
    target[filled..].fill(0.0);
    if geometry.stride == [1, 1] && geometry.padding == [0, 0] {
        target[..filled].copy_from_slice(image);
        return;
    }
    let [row_step, column_step] = geometry.stride;
    let mut planes = target[..filled].chunks_exact_mut(geometry.plane());
    for phase in geometry.each_phase() {
        let (first_row, rows, start_row) = geometry.inside(0, phase[0]);
        let (first_column, columns, start_column) = geometry.inside(1, phase[1]);
        for (channel, plane) in image.chunks_exact(height * width).zip(&mut planes) {
            plane.fill(0.0);
            let targets = plane[first_row * geometry.grid[1]..].chunks_exact_mut(geometry.grid[1]);
            for (row, target) in targets.take(rows).enumerate() {
                let source = &channel[(start_row + row * row_step) * width..][..width];
                let target = &mut target[first_column..first_column + columns];
                if column_step == 1 {
                    target.copy_from_slice(&source[start_column..start_column + columns]);
                } else if columns > 0 {
                    for (target, source) in target.iter_mut().zip(source[start_column..].iter().step_by(column_step)) {
                        *target = *source;
                    }
                }
            }
        }
    }
}

/// Length of one channel of a spread gradient: zeros before the map as far as the taps reach back,
/// the map in rows as wide as the grid with zeros in the gaps, and zeros to the end of the last run.
fn gradient_row(geometry: &Geometry) -> usize {
    geometry.reach() + geometry.plane() + SLACK
}

/// Where output `(0, 0)` of a channel lies in a spread gradient.
fn gradient_start(geometry: &Geometry, channel: usize) -> usize {
    channel * gradient_row(geometry) + geometry.reach()
}

/// Spreads the gradient of the output, less where ReLU cut the output off.
#[inline(always)]
fn spread_gradient(geometry: &Geometry, gradient: &[f32], output: Option<&[f32]>, target: &mut [f32]) {
    let [height, width] = geometry.output;
    target.fill(0.0);
    for (channel, target) in target.chunks_exact_mut(gradient_row(geometry)).enumerate() {
        let rows = target[geometry.reach()..].chunks_mut(geometry.grid[1]);
        for (row, target) in rows.take(height).enumerate() {
            let start = (channel * height + row) * width;
            let source = &gradient[start..start + width];
            match output {
                None => target[..width].copy_from_slice(source),
                Some(output) => {
                    let output = &output[start..start + width];
                    for ((target, source), output) in target.iter_mut().zip(source).zip(output) {
                        // ReLU passes NaN on, and so does its gradient.
                        *target = if *output <= 0.0 { 0.0 } else { *source };
                    }
                }
            }
        }
    }
}

/// Turns a spread gradient into rows of `width` values, a row an output and a value a channel. Values
/// beyond the channels are of no meaning.
#[inline(always)]
fn transpose_gradient(geometry: &Geometry, gradient: &[f32], width: usize, target: &mut [f32]) {
    const BLOCK: usize = 8;
    let last = geometry.outputs - 1;
    for block in (0..geometry.outputs).step_by(BLOCK) {
        let rows: [&[f32]; BLOCK] = std::array::from_fn(|row| {
            &gradient[gradient_start(geometry, (block + row).min(last))..][..geometry.columns()]
        });
        for (column, target) in target.chunks_exact_mut(width).enumerate().take(geometry.columns()) {
            let values: [f32; BLOCK] = std::array::from_fn(|row| rows[row][column]);
            target[block..block + BLOCK].copy_from_slice(&values);
        }
    }
}
