//! What an attack maximises: one number per image.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use neokd_model::ExitLogits;

/// A quantity that an attack drives up, one value per image.
pub trait Objective {
    /// The exits whose logits the value needs, ascending; no other part of the network is run.
    fn exits(&self, exits: usize) -> Vec<usize>;

    /// The value of each image.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    fn value(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1>;
}

/// Cross-entropy of one exit: the single attack (Hu et al. 2020; neo-kd.md 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single(
    /// The attacked exit, from 0.
    pub usize,
);

impl Objective for Single {
    fn exits(&self, _exits: usize) -> Vec<usize> {
        vec![self.0]
    }

    fn value(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
        mean_cross_entropy(logits, labels)
    }
}

/// Mean cross-entropy over all exits: the average attack (Hu et al. 2020; neo-kd.md 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average;

impl Objective for Average {
    fn exits(&self, exits: usize) -> Vec<usize> {
        (0..exits).collect()
    }

    fn value(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
        mean_cross_entropy(logits, labels)
    }
}

/// Mean over the computed exits of each image's cross-entropy.
fn mean_cross_entropy(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
    let mut exits = logits.as_slice().iter().map(|exit| cross_entropy(exit, labels));
    let first = exits.next().expect("logits of at least one exit");
    let count = logits.as_slice().len();
    exits.fold(first, |sum, exit| sum + exit).div_scalar(count as f64)
}

/// Cross-entropy of each image.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch]`
pub fn cross_entropy(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let picked = log_softmax(logits.clone(), 1).gather(1, labels.clone().unsqueeze_dim(1));
    picked.squeeze_dim::<1>(1).neg()
}
