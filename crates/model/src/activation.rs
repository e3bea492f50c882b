//! What follows a convolution or a hidden linear layer.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, silu};
use serde::{Deserialize, Serialize};

/// An activation function. Published networks have ReLU; smooth ones give adversarial training better
/// gradients (Xie et al. 2020, "Smooth adversarial training", arXiv 2006.14536). The public code of a backbone
/// knows ReLU alone, whatever names weights are exported with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`; on the CPU computed together with the layer before it.
    #[default]
    Relu,
    /// `x sigmoid(x)`, also called Swish.
    Silu,
    /// `x Phi(x)`, with the distribution function of the normal distribution.
    Gelu,
}

impl Activation {
    /// The function, element by element.
    pub fn apply<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => relu(tensor),
            Self::Silu => silu(tensor),
            Self::Gelu => gelu(tensor),
        }
    }
}
