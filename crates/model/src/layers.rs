//! Burn's layers run on neokd's kernels: the parameters, and so their names in weights files, stay
//! those of Burn's modules.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use neokd_kernels::{FeatureMap, conv2d, conv2d_relu};

use crate::Activation;

/// What [`Conv2d::forward`] gives.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
pub(crate) fn convolve(layer: &Conv2d, input: impl Into<FeatureMap>) -> Tensor<4> {
    convolve_with(layer, input, layer.weight.val(), bias(layer), false)
}

/// [`convolve`], then the activation; ReLU in the same pass.
pub(crate) fn convolve_active(layer: &Conv2d, input: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation {
        Activation::Relu => convolve_with(layer, input, layer.weight.val(), bias(layer), true),
        smooth => smooth.apply(convolve(layer, input)),
    }
}

/// The convolution of `layer` with other weights of the same shape.
///
/// # Panics
/// If the layer pads unlike on opposite sides, is dilated or has groups: no backbone has such a layer.
pub(crate) fn convolve_with(
    layer: &Conv2d,
    input: impl Into<FeatureMap>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    relu_behind: bool,
) -> Tensor<4> {
    assert!(layer.groups == 1 && layer.dilation == [1, 1], "a plain convolution");
    let (stride, padding) = (layer.stride, padding(layer));
    match relu_behind {
        true => conv2d_relu(input, weight, bias, stride, padding),
        false => conv2d(input, weight, bias, stride, padding),
    }
}

fn padding(layer: &Conv2d) -> [usize; 2] {
    match layer.padding {
        PaddingConfig2d::Valid => [0, 0],
        PaddingConfig2d::Explicit(top, left, bottom, right) if top == bottom && left == right => [top, left],
        _ => unreachable!("the backbones pad alike on opposite sides"),
    }
}

fn bias(layer: &Conv2d) -> Option<Tensor<1>> {
    layer.bias.as_ref().map(|bias| bias.val())
}
