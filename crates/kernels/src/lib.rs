//! Convolution, batch-norm, pooling and concatenation that are fast on the CPU, as plain functions on Burn tensors.
//!
//! On the Flex backend with 32-bit floats the work is done by this crate's own kernels, forward and
//! backward; a gradient is computed only if something asked for it. On every other device, and for
//! other number types, each function is Burn's own operation. Which it is follows from the tensor's
//! device at run time.
//!
//! An image's output and input gradient do not depend on the other images of the batch, bit for bit,
//! and the same inputs give the same bits on every run, whatever the number of threads.
//!
//! **Architecture invariant:** depends on no neokd crate, knows tensors and no network; has no
//! `unsafe`.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

#[cfg(feature = "flex")]
mod concatenation;
#[cfg(feature = "flex")]
mod convolution;
mod feature_map;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod geometry;
#[cfg(feature = "flex")]
mod images;
#[cfg(feature = "flex")]
mod norm;
#[cfg(feature = "flex")]
mod pool;
#[cfg(feature = "flex")]
mod source;
#[cfg(feature = "flex")]
mod tile;

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

pub use feature_map::FeatureMap;

/// 2-D convolution (cross-correlation, one group, no dilation).
///
/// # Shapes
/// - `input`: `[batch, inputs, height, width]`
/// - `weight`: `[outputs, inputs, kernel height, kernel width]`
/// - `bias`: `[outputs]`
/// - `padding`: zeros on both sides, vertically and horizontally
/// - output: `[batch, outputs, (height + 2 padding - kernel) / stride + 1, ...]`
///
/// # Panics
/// If the shapes do not fit each other or the kernel is larger than the padded image.
pub fn conv2d(
    input: impl Into<FeatureMap>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    convolve(input.into(), weight, bias, stride, padding, false)
}

/// [`conv2d`] followed by ReLU, in one pass.
///
/// # Shapes
/// As those of [`conv2d`].
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_relu(
    input: impl Into<FeatureMap>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    convolve(input.into(), weight, bias, stride, padding, true)
}

/// Max-pooling over windows of 2x2 with stride 2; a last odd row or column is dropped.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - output: `[batch, channels, height / 2, width / 2]`
pub fn max_pool_2x2(input: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::computes(&input) {
        return flex::max_pool_2x2(input);
    }
    max_pool2d(input, MaxPoolOptions::new([2, 2]).with_stride([2, 2]))
}

/// What [`batch_norm_train`] gives.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// The normalised maps, `[batch, channels, height, width]`.
    pub output: FeatureMap,
    /// Mean of each channel over batch and map, `[channels]`; no gradient passes through it.
    pub mean: Tensor<1>,
    /// Biased variance of each channel, `[channels]`; no gradient passes through it.
    pub variance: Tensor<1>,
}

/// Batch normalisation with the statistics of this batch (Ioffe and Szegedy 2015, algorithm 1), then
/// ReLU if asked, in one pass.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - `gamma`, `beta`: `[channels]`
pub fn batch_norm_train(
    input: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    relu_behind: bool,
) -> Normalized {
    #[cfg(feature = "flex")]
    if flex::computes(&input) {
        return flex::batch_norm_train(input, gamma, beta, epsilon, relu_behind);
    }
    let found = burn::tensor::module::batch_norm_train(input, gamma, beta, epsilon);
    let output = if relu_behind { relu(found.output) } else { found.output };
    Normalized { output: output.into(), mean: found.mean.detach(), variance: found.variance.detach() }
}

/// Puts the channels of several maps behind each other.
fn cat(maps: Vec<Tensor<4>>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if maps.iter().all(flex::computes)
        && let Some(whole) = flex::cat(&maps)
    {
        return whole;
    }
    Tensor::cat(maps, 1)
}

fn convolve(
    input: FeatureMap,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
    relu_behind: bool,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::computes(input.tensor()) {
        return flex::conv2d(input, weight, bias, stride, padding, relu_behind);
    }
    let options = ConvOptions::new(stride, padding, [1, 1], 1);
    let output = burn::tensor::module::conv2d(input.into_tensor(), weight, bias, options);
    if relu_behind { relu(output) } else { output }
}
