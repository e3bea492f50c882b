//! Cross-entropy with hard and with soft targets, and Kullback-Leibler divergence, per image.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// Cross-entropy of each image: `-log softmax(logits)[label]`.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch]`
pub fn cross_entropy(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let picked = log_softmax(logits.clone(), 1).gather(1, labels.clone().unsqueeze_dim(1));
    picked.squeeze_dim::<1>(1).neg()
}

/// Cross-entropy of each image against a soft target: `-sum_c target_c log softmax(logits)_c`.
///
/// Its gradient in the logits is that of `KL(target || softmax(logits))`.
///
/// # Shapes
/// - `logits`, `target`: `[batch, classes]`; output: `[batch]`
pub fn soft_cross_entropy(logits: &Tensor<2>, target: &Tensor<2>) -> Tensor<1> {
    let weighted = log_softmax(logits.clone(), 1) * target.clone();
    weighted.sum_dim(1).squeeze_dim::<1>(1).neg()
}

/// `KL(softmax(from) || softmax(to))` of each image; both sides are differentiated.
///
/// # Shapes
/// - `from`, `to`: `[batch, classes]`; output: `[batch]`
pub fn divergence(from: &Tensor<2>, to: &Tensor<2>) -> Tensor<1> {
    let (from, to) = (log_softmax(from.clone(), 1), log_softmax(to.clone(), 1));
    (from.clone().exp() * (from - to)).sum_dim(1).squeeze_dim::<1>(1)
}
