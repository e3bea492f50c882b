//! Burn's layers run on neokd's kernels: the parameters, and so their names in weights files, stay
//! those of Burn's modules.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use neokd_kernels::{conv2d, conv2d_relu};

/// What [`Conv2d::forward`] gives.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
pub(crate) fn convolve(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    match padding(layer) {
        Some(padding) => conv2d(input, layer.weight.val(), bias(layer), layer.stride, padding),
        None => layer.forward(input),
    }
}

/// ReLU of [`convolve`], in one pass.
pub(crate) fn convolve_relu(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    match padding(layer) {
        Some(padding) => conv2d_relu(input, layer.weight.val(), bias(layer), layer.stride, padding),
        None => relu(layer.forward(input)),
    }
}

/// The layer's padding, if the kernels know its kind of convolution: one group, no dilation, the same
/// padding on opposite sides.
fn padding(layer: &Conv2d) -> Option<[usize; 2]> {
    let plain = layer.groups == 1 && layer.dilation == [1, 1];
    match layer.padding {
        PaddingConfig2d::Valid if plain => Some([0, 0]),
        PaddingConfig2d::Explicit(top, left, bottom, right) if plain && top == bottom && left == right => {
            Some([top, left])
        }
        _ => None,
    }
}

fn bias(layer: &Conv2d) -> Option<Tensor<1>> {
    layer.bias.as_ref().map(|bias| bias.val())
}
