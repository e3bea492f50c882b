//! A convolution followed by batch-norm, the unit of which the larger backbones are made.

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::{CostCounter, Initializer};

/// Convolution, then batch-norm (Ioffe and Szegedy 2015).
#[derive(Module, Debug)]
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Puts a batch-norm behind `conv`.
    pub(crate) fn new(conv: Conv2d, layers: &Initializer) -> Self {
        let [outputs, ..] = conv.weight.shape().dims::<4>();
        Self { conv, norm: layers.batch_norm(outputs) }
    }

    /// # Shapes
    /// - `map`: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, ceil(height / stride), ceil(width / stride)]`
    pub(crate) fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(map))
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(crate) fn forward_relu(&self, map: Tensor<4>) -> Tensor<4> {
        relu(self.forward(map))
    }
}

/// Counts a convolution without bias and its batch-norm, with square output of `size` a side.
pub(crate) fn count_conv_norm(cost: &mut CostCounter, channels: [usize; 2], kernel: usize, size: usize) {
    cost.convolution(channels, kernel, [size, size], false).batch_norm(channels[1]);
}

/// Counts [`count_conv_norm`] and a ReLU.
pub(crate) fn count_conv_norm_relu(cost: &mut CostCounter, channels: [usize; 2], kernel: usize, size: usize) {
    count_conv_norm(cost, channels, kernel, size);
    cost.relu(channels[1] * size * size);
}
