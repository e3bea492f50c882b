//! The answers of several exits as one: their mean loss, their mean probability, and who of them is wrong.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};
use neokd_model::ExitLogits;

use super::loss::Loss;

/// Mean over the computed exits of each image's loss.
pub(crate) fn mean_over_exits(loss: &Loss, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
    let mut exits = logits.as_slice().iter().map(|exit| loss.value(exit, labels));
    let first = exits.next().expect("logits of at least one exit");
    exits.fold(first, |sum, exit| sum + exit).div_scalar(logits.as_slice().len() as f64)
}

/// Which images this exit answers wrong.
pub(crate) fn one_wrong(exit: usize, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
    let row = logits.exits().iter().position(|computed| *computed == exit).expect("logits of the judged exit");
    logits.correct(labels).narrow(0, row, 1).squeeze_dim::<1>(0).equal_scalar(0)
}

/// Which images at least one of the computed exits answers wrong.
pub(crate) fn any_wrong(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
    logits.correct(labels).min_dim(0).squeeze_dim::<1>(0).equal_scalar(0)
}

/// Which images all computed exits answer wrong.
pub(crate) fn all_wrong(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
    logits.correct(labels).max_dim(0).squeeze_dim::<1>(0).equal_scalar(0)
}

/// Which images the mean of the exits' log-probabilities answers wrong.
pub(crate) fn average_wrong(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
    let rows = logits.as_slice().iter().map(|exit| log_softmax(exit.clone(), 1));
    let sum = rows.reduce(|sum, row| sum + row).expect("logits of at least one exit");
    sum.argmax(1).squeeze_dim::<1>(1).not_equal(labels.clone())
}

/// Which images the mean of the exits' probabilities answers wrong.
pub(crate) fn ensemble_wrong(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
    let answer = log_mean_probability(logits.as_slice()).argmax(1).squeeze_dim::<1>(1);
    answer.not_equal(labels.clone())
}

/// Logarithm of the mean of the probabilities of several exits.
///
/// # Shapes
/// - each of `exits` and output: `[batch, classes]`
pub(crate) fn log_mean_probability(exits: &[Tensor<2>]) -> Tensor<2> {
    let rows: Vec<Tensor<2>> = exits.iter().map(|exit| log_softmax(exit.clone(), 1)).collect();
    let largest = rows.iter().skip(1).fold(rows[0].clone().inner(), |most, row| most.max_pair(row.clone().inner()));
    let sum = rows.into_iter().map(|row| (row - largest.clone()).exp()).reduce(|sum, row| sum + row);
    sum.expect("at least one exit").div_scalar(exits.len() as f64).log() + largest
}
