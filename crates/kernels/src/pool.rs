//! Max-pooling over 2x2 windows with stride 2, on slices of `f32`.
//!
//! Ties go to the first value in reading order, NaN wins over everything: as in Burn and PyTorch.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Planes of one task: enough that starting it costs nothing beside its work.
const PLANES: usize = 16;

/// The maxima, and which of the four values of its window each one is.
pub(crate) fn forward(planes: usize, [height, width]: [usize; 2], input: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let pooled = (height / 2) * (width / 2);
    let mut output = vec![0.0; planes * pooled];
    let mut places = vec![0; planes * pooled];
    if output.is_empty() {
        return (output, places);
    }
    let arch = Arch::new();
    output
        .par_chunks_mut(PLANES * pooled)
        .zip(places.par_chunks_mut(PLANES * pooled))
        .zip(input.par_chunks(PLANES * height * width))
        .for_each(|((output, places), input)| arch.dispatch(Forward { height, width, input, output, places }));
    (output, places)
}

struct Forward<'a> {
    height: usize,
    width: usize,
    input: &'a [f32],
    output: &'a mut [f32],
    places: &'a mut [u8],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { height, width, input, output, places } = self;
        let half = width / 2;
        let pairs = input
            .chunks_exact(height * width)
            .flat_map(|plane| plane[..height / 2 * 2 * width].chunks_exact(2 * width));
        for ((pair, output), places) in pairs.zip(output.chunks_exact_mut(half)).zip(places.chunks_exact_mut(half)) {
            let (upper, lower) = pair.split_at(width);
            let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (((upper, lower), output), place) in windows.zip(output).zip(places) {
                let (left, left_place) = larger((upper[0], 0), (upper[1], 1));
                let (right, right_place) = larger((lower[0], 2), (lower[1], 3));
                (*output, *place) = larger((left, left_place), (right, right_place));
            }
        }
    }
}

/// The second if it is larger or NaN, else the first.
#[inline(always)]
fn larger(first: (f32, u8), second: (f32, u8)) -> (f32, u8) {
    // False if either is NaN; the first one's NaN stays unless the second is NaN as well.
    let second_wins = second.0 > first.0 || second.0.is_nan();
    if second_wins { second } else { first }
}

/// The gradient of the input: each output's gradient at the place of its maximum.
pub(crate) fn backward(planes: usize, [height, width]: [usize; 2], places: &[u8], gradient: &[f32]) -> Vec<f32> {
    let pooled = (height / 2) * (width / 2);
    let mut input = vec![0.0; planes * height * width];
    if gradient.is_empty() {
        return input;
    }
    let arch = Arch::new();
    input
        .par_chunks_mut(PLANES * height * width)
        .zip(places.par_chunks(PLANES * pooled))
        .zip(gradient.par_chunks(PLANES * pooled))
        .for_each(|((input, places), gradient)| arch.dispatch(Backward { height, width, places, gradient, input }));
    input
}

struct Backward<'a> {
    height: usize,
    width: usize,
    places: &'a [u8],
    gradient: &'a [f32],
    input: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { height, width, places, gradient, input } = self;
        let half = width / 2;
        let pairs = input
            .chunks_exact_mut(height * width)
            .flat_map(|plane| plane[..height / 2 * 2 * width].chunks_exact_mut(2 * width));
        for ((pair, gradient), places) in pairs.zip(gradient.chunks_exact(half)).zip(places.chunks_exact(half)) {
            let (upper, lower) = pair.split_at_mut(width);
            let windows = upper.chunks_exact_mut(2).zip(lower.chunks_exact_mut(2));
            for (((upper, lower), &gradient), &place) in windows.zip(gradient).zip(places) {
                let at = |window: u8| if place == window { gradient } else { 0.0 };
                (upper[0], upper[1], lower[0], lower[1]) = (at(0), at(1), at(2), at(3));
            }
        }
    }
}
