//! Batch normalisation with the statistics of the batch, and its gradients, on slices of `f32`.
//!
//! `output = gamma (input - mean) / sqrt(variance + epsilon) + beta`, through ReLU if asked (Ioffe and
//! Szegedy 2015, algorithm 1). The variance is the biased one. Sums run over images in order, so the
//! result depends neither on timing nor on the number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Sizes of a batch of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    /// Values in one map.
    pub(crate) area: usize,
}

impl Maps {
    fn image(&self) -> usize {
        self.channels * self.area
    }

    fn values(&self) -> f64 {
        (self.batch * self.area) as f64
    }

    /// The maps of one channel, image by image.
    fn channel<'a>(&self, channel: usize, values: &'a [f32]) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let (start, area) = (channel * self.area, self.area);
        values.chunks_exact(self.image()).map(move |image| &image[start..start + area])
    }
}

/// Means of all channels, then their variances.
pub(crate) fn moments(maps: Maps, input: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    let of_channel = |channel: usize| {
        let mean = maps.channel(channel, input).map(|map| arch.dispatch(Sum { map })).sum::<f64>() / maps.values();
        let mean = mean as f32;
        let squares = maps.channel(channel, input).map(|map| arch.dispatch(SquaredDistance { map, from: mean }));
        (mean, (squares.sum::<f64>() / maps.values()) as f32)
    };
    let (means, variances): (Vec<f32>, Vec<f32>) = (0..maps.channels).into_par_iter().map(of_channel).unzip();
    [means, variances].concat()
}

struct Sum<'a> {
    map: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        reduce(simd, [self.map, self.map], |simd, value, _| value_of::<S>(simd, value))
    }
}

struct SquaredDistance<'a> {
    map: &'a [f32],
    from: f32,
}

impl WithSimd for SquaredDistance<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let from = simd.splat_f32s(self.from);
        reduce(simd, [self.map, self.map], |simd, value, _| {
            let distance = simd.sub_f32s(value, from);
            simd.mul_f32s(distance, distance)
        })
    }
}

#[inline(always)]
fn value_of<S: Simd>(_simd: S, value: S::f32s) -> S::f32s {
    value
}

/// The sum of `term` over pairs of values, four vectors at a time; a rest is filled up with zeros that
/// are left out of the sum.
#[inline(always)]
fn reduce<S: Simd>(simd: S, [first, second]: [&[f32]; 2], term: impl Fn(S, S::f32s, S::f32s) -> S::f32s) -> f64 {
    let (first, first_rest) = S::as_simd_f32s(first);
    let (second, second_rest) = S::as_simd_f32s(second);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let fours = first.chunks_exact(4).zip(second.chunks_exact(4));
    for (first, second) in fours {
        for ((sum, &first), &second) in sums.iter_mut().zip(first).zip(second) {
            *sum = simd.add_f32s(*sum, term(simd, first, second));
        }
    }
    let whole = first.len() / 4 * 4;
    for (&first, &second) in first[whole..].iter().zip(&second[whole..]) {
        sums[0] = simd.add_f32s(sums[0], term(simd, first, second));
    }
    let [a, b, c, d] = sums;
    let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
    let mut total = f64::from(simd.reduce_sum_f32s(sum));
    for (&first, &second) in first_rest.iter().zip(second_rest) {
        let lanes = term(simd, simd.splat_f32s(first), simd.splat_f32s(second));
        total += f64::from(simd.reduce_max_f32s(lanes));
    }
    total
}

/// What one channel is multiplied with and what is added: `scale * input + shift`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    scale: f32,
    shift: f32,
}

impl Affine {
    /// Writes the channel's map, through ReLU if `relu`; to be called from code that pulp dispatches.
    #[inline(always)]
    pub(crate) fn apply(self, input: &[f32], relu: bool, output: &mut [f32]) {
        for (output, input) in output.iter_mut().zip(input) {
            let value = input.mul_add(self.scale, self.shift);
            // Not `max`: a NaN must stay one.
            *output = if relu && value < 0.0 { 0.0 } else { value };
        }
    }
}

/// The statistics and parameters of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    /// What [`moments`] gave.
    pub(crate) moments: &'a [f32],
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) epsilon: f64,
    pub(crate) relu: bool,
}

impl Layer<'_> {
    fn inverse_deviation(&self, channel: usize) -> f32 {
        let variance = f64::from(self.moments[self.gamma.len() + channel]);
        (1.0 / (variance + self.epsilon).sqrt()) as f32
    }

    /// Of each channel.
    pub(crate) fn affines(&self) -> Vec<Affine> {
        (0..self.gamma.len()).map(|channel| self.affine(channel)).collect()
    }

    fn affine(&self, channel: usize) -> Affine {
        let scale = self.gamma[channel] * self.inverse_deviation(channel);
        Affine { scale, shift: self.beta[channel] - self.moments[channel] * scale }
    }
}

/// The normalised maps.
pub(crate) fn forward(maps: Maps, input: &[f32], layer: Layer<'_>) -> Vec<f32> {
    let affine = layer.affines();
    let arch = Arch::new();
    let mut output = vec![0.0; input.len()];
    output.par_chunks_mut(maps.image()).zip(input.par_chunks(maps.image())).for_each(|(output, input)| {
        let pairs = output.chunks_exact_mut(maps.area).zip(input.chunks_exact(maps.area));
        for ((output, input), &affine) in pairs.zip(&affine) {
            arch.dispatch(Apply { input, output, affine, relu: layer.relu });
        }
    });
    output
}

struct Apply<'a> {
    input: &'a [f32],
    output: &'a mut [f32],
    affine: Affine,
    relu: bool,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.affine.apply(self.input, self.relu, self.output);
    }
}

/// The gradients of [`forward`]; those of gamma and beta are by-products of that of the input.
#[derive(Debug, PartialEq)]
pub(crate) struct Gradients {
    /// Empty if it was not asked for.
    pub(crate) input: Vec<f32>,
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

/// Gradients from that of the output; the statistics depend on the input, and so on its gradient.
pub(crate) fn backward(maps: Maps, input: &[f32], layer: Layer<'_>, gradient: &[f32], wants_input: bool) -> Gradients {
    let arch = Arch::new();
    let sums = |channel: usize| {
        let (affine, mean) = (layer.affine(channel), layer.moments[channel]);
        let pairs = maps.channel(channel, input).zip(maps.channel(channel, gradient));
        let sums =
            pairs.map(|(input, gradient)| arch.dispatch(Sums { input, gradient, affine, mean, relu: layer.relu }));
        let [plain, weighted] =
            sums.fold([0.0; 2], |[plain, weighted], [map, weighted_map]| [plain + map, weighted + weighted_map]);
        (weighted as f32 * layer.inverse_deviation(channel), plain as f32)
    };
    let (gamma, beta): (Vec<f32>, Vec<f32>) = (0..maps.channels).into_par_iter().map(sums).unzip();
    if !wants_input {
        return Gradients { input: Vec::new(), gamma, beta };
    }

    // d input = scale (d - mean(d) - normalised mean(d normalised)), which is linear in d and input.
    let plans: Vec<Plan> = (0..maps.channels)
        .map(|channel| {
            let affine = layer.affine(channel);
            let deviation = layer.inverse_deviation(channel);
            let slope = -affine.scale * deviation * gamma[channel] / maps.values() as f32;
            let constant = -affine.scale * beta[channel] / maps.values() as f32 - slope * layer.moments[channel];
            Plan { affine, slope, constant }
        })
        .collect();
    let mut target = vec![0.0; input.len()];
    let images = input.par_chunks(maps.image()).zip(gradient.par_chunks(maps.image()));
    target.par_chunks_mut(maps.image()).zip(images).for_each(|(target, (input, gradient))| {
        let sources = input.chunks_exact(maps.area).zip(gradient.chunks_exact(maps.area));
        for ((target, (input, gradient)), &plan) in target.chunks_exact_mut(maps.area).zip(sources).zip(&plans) {
            arch.dispatch(Pull { input, gradient, target, plan, relu: layer.relu });
        }
    });
    Gradients { input: target, gamma, beta }
}

/// Sums of a map's gradient, plain and weighted with the input's distance from the mean.
struct Sums<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    affine: Affine,
    mean: f32,
    relu: bool,
}

impl WithSimd for Sums<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f64; 2] {
        let [mean, scale, shift] =
            [self.mean, self.affine.scale, self.affine.shift].map(|value| simd.splat_f32s(value));
        let zero = simd.splat_f32s(0.0);
        let passed = |simd: S, input, gradient| match self.relu {
            true => {
                let cut = simd.less_than_or_equal_f32s(simd.mul_add_f32s(input, scale, shift), zero);
                simd.select_f32s(cut, zero, gradient)
            }
            false => gradient,
        };
        let plain = reduce(simd, [self.input, self.gradient], passed);
        let weighted = reduce(simd, [self.input, self.gradient], |simd, input, gradient| {
            simd.mul_f32s(passed(simd, input, gradient), simd.sub_f32s(input, mean))
        });
        [plain, weighted]
    }
}

/// Gradient of the input: `scale d + slope input + constant`, `d` the gradient that ReLU let through.
#[derive(Clone, Copy, Debug)]
struct Plan {
    affine: Affine,
    slope: f32,
    constant: f32,
}

struct Pull<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    target: &'a mut [f32],
    plan: Plan,
    relu: bool,
}

impl WithSimd for Pull<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Plan { affine, slope, constant } = self.plan;
        for ((target, &input), &gradient) in self.target.iter_mut().zip(self.input).zip(self.gradient) {
            let cut = self.relu && input.mul_add(affine.scale, affine.shift) <= 0.0;
            let gradient = if cut { 0.0 } else { gradient };
            *target = gradient.mul_add(affine.scale, input.mul_add(slope, constant));
        }
    }
}
