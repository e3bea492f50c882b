//! A convolution followed by batch-norm, the unit of which the larger backbones are made.

use burn::module::{Module, RunningState};
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use neokd_kernels::{FeatureMap, batch_norm_train};

use crate::layers::{convolve, convolve_with};
use crate::{Activation, CostCounter, Initializer};

/// Convolution, then batch-norm (Ioffe and Szegedy 2015).
#[derive(Module, Debug)]
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    folded: Option<Folded>,
}

/// A batch-norm with fixed statistics put into the convolution before it.
#[derive(Clone, Debug)]
struct Folded {
    weight: Tensor<4>,
    bias: Tensor<1>,
}

impl ConvNorm {
    /// Puts a batch-norm behind `conv`, and the network's activation where it is asked for.
    pub(crate) fn new(conv: Conv2d, layers: &Initializer) -> Self {
        let [outputs, ..] = conv.weight.shape().dims::<4>();
        Self { conv, norm: layers.batch_norm(outputs), activation: layers.activation(), folded: None }
    }

    /// # Shapes
    /// - `map`: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, ceil(height / stride), ceil(width / stride)]`
    pub(crate) fn forward(&self, map: impl Into<FeatureMap>) -> FeatureMap {
        self.run(map.into(), false)
    }

    /// [`forward`](Self::forward), then the activation.
    pub(crate) fn forward_active(&self, map: impl Into<FeatureMap>) -> FeatureMap {
        match self.activation {
            Activation::Relu => self.run(map.into(), true),
            smooth => smooth.apply(self.run(map.into(), false).into_tensor()).into(),
        }
    }

    fn run(&self, map: FeatureMap, relu_behind: bool) -> FeatureMap {
        match &self.folded {
            Some(Folded { weight, bias }) => {
                convolve_with(&self.conv, map, weight.clone(), Some(bias.clone()), relu_behind).into()
            }
            None => self.normalize(convolve(&self.conv, map), relu_behind),
        }
    }

    /// The same map in evaluation mode, up to rounding, at the cost of the convolution alone:
    /// weights times `gamma / sqrt(variance + epsilon)`, and a bias that holds the rest.
    pub(crate) fn fold(&mut self) {
        let (mean, variance) = (self.norm.running_mean.value(), self.norm.running_var.value());
        let scale = self.norm.gamma.val() / variance.add_scalar(self.norm.epsilon).sqrt();
        let mean = match &self.conv.bias {
            Some(bias) => mean - bias.val(),
            None => mean,
        };
        let bias = self.norm.beta.val() - mean * scale.clone();
        let [outputs] = scale.dims();
        let weight = self.conv.weight.val() * scale.reshape([outputs, 1, 1, 1]);
        self.folded = Some(Folded { weight, bias });
    }

    fn normalize(&self, map: Tensor<4>, relu_behind: bool) -> FeatureMap {
        let norm = &self.norm;
        // Burn's own rule: a layer trains if its flag and its device say so.
        if !(map.device().is_autodiff() && norm.training.is_enabled()) {
            let output = norm.forward(map);
            return if relu_behind { Activation::Relu.apply(output) } else { output }.into();
        }
        let found = batch_norm_train(map, norm.gamma.val(), norm.beta.val(), norm.epsilon, relu_behind);
        self.follow(&norm.running_mean, found.mean);
        self.follow(&norm.running_var, found.variance);
        found.output
    }

    /// Moves a running statistic towards that of the batch: `(1 - momentum) old + momentum new`.
    fn follow(&self, running: &RunningState<Tensor<1>>, of_batch: Tensor<1>) {
        let momentum = self.norm.momentum;
        let old = running.value_sync().to_device(&of_batch.device());
        running.update((old.mul_scalar(1.0 - momentum) + of_batch.mul_scalar(momentum)).detach());
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
