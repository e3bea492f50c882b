//! What an attack maximises: one number per image.

use burn::tensor::{Int, Tensor};
use neokd_model::ExitLogits;

use crate::loss::Loss;

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
        mean_over_exits(&Loss::CrossEntropy, logits, labels)
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
        mean_over_exits(&Loss::CrossEntropy, logits, labels)
    }
}

/// Mean over the computed exits of each image's loss.
pub(crate) fn mean_over_exits(loss: &Loss, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
    let mut exits = logits.as_slice().iter().map(|exit| loss.value(exit, labels));
    let first = exits.next().expect("logits of at least one exit");
    exits.fold(first, |sum, exit| sum + exit).div_scalar(logits.as_slice().len() as f64)
}
