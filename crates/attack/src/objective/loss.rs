//! What one answer of the network is worth to an attacker: losses of a single vector of logits.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// Keeps the difference-of-logits ratio finite where its denominator vanishes.
const TINY: f64 = 1e-12;
/// Takes a class out of a maximum: below any logit, and finite, so that no NaN arises.
const NOBODY: f32 = -1e30;

/// A loss of logits and labels, one value per image; larger is worse for the network.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one value lives per run, on the stack")]
pub enum Loss {
    /// [`cross_entropy`].
    CrossEntropy,
    /// [`margin`].
    Margin,
    /// [`dlr`].
    Dlr,
    /// [`dlr_targeted`] towards these classes, `[batch]`.
    DlrTargeted(Tensor<1, Int>),
}

impl Loss {
    /// The loss of each image.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch]`
    pub fn value(&self, logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::CrossEntropy => cross_entropy(logits, labels),
            Self::Margin => margin(logits, labels),
            Self::Dlr => dlr(logits, labels),
            Self::DlrTargeted(targets) => dlr_targeted(logits, labels, targets),
        }
    }
}

/// Cross-entropy of each image.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch]`
pub fn cross_entropy(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    of_class(&log_softmax(logits.clone(), 1), labels).neg()
}

/// The margin `max_{c != y} z_c - z_y` (Carlini and Wagner 2017): positive where the answer is wrong.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch]`
pub fn margin(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let rival = without(logits, labels).argmax(1).squeeze_dim::<1>(1);
    of_class(logits, &rival) - of_class(logits, labels)
}

/// Difference-of-logits ratio (Croce and Hein 2020, equation 6):
/// `(max_{c != y} z_c - z_y) / (z_(1) - z_(3))`, where `z_(k)` is the k-th largest logit. It does not
/// change when all logits are shifted or scaled.
///
/// # Shapes
/// - `logits`: `[batch, classes]`, at least 3 classes; `labels`: `[batch]`; output: `[batch]`
pub fn dlr(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let order = order(logits);
    margin(logits, labels) / (ranked(logits, &order, 0) - ranked(logits, &order, 2)).add_scalar(TINY)
}

/// Targeted difference-of-logits ratio (Croce and Hein 2020, equation 7):
/// `(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`.
///
/// # Shapes
/// - `logits`: `[batch, classes]`, at least 4 classes; `labels`, `targets`: `[batch]`; output: `[batch]`
pub fn dlr_targeted(logits: &Tensor<2>, labels: &Tensor<1, Int>, targets: &Tensor<1, Int>) -> Tensor<1> {
    let order = order(logits);
    let lower = (ranked(logits, &order, 2) + ranked(logits, &order, 3)).div_scalar(2.0);
    (of_class(logits, targets) - of_class(logits, labels)) / (ranked(logits, &order, 0) - lower).add_scalar(TINY)
}

/// The `count` classes that come closest to winning, best first, the true one left out.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `labels`: `[batch]`; output: `[batch, count]`
pub(crate) fn rivals(logits: &Tensor<2>, labels: &Tensor<1, Int>, count: usize) -> Tensor<2, Int> {
    without(logits, labels).argsort_descending(1).narrow(1, 0, count)
}

/// The logit of one class per image, `[batch]`.
pub(crate) fn of_class(logits: &Tensor<2>, class: &Tensor<1, Int>) -> Tensor<1> {
    logits.clone().gather(1, class.clone().unsqueeze_dim(1)).squeeze_dim(1)
}

/// The logits, untracked, with one class per image put out of the running.
pub(crate) fn without(logits: &Tensor<2>, class: &Tensor<1, Int>) -> Tensor<2> {
    let mask = is_class(logits, class);
    logits.clone().inner().mask_fill(mask, NOBODY)
}

/// Where the column is the given class of its row.
///
/// # Shapes
/// - `logits`: `[batch, classes]`; `class`: `[batch]`; output: `[batch, classes]`
pub(crate) fn is_class(logits: &Tensor<2>, class: &Tensor<1, Int>) -> Tensor<2, burn::tensor::Bool> {
    let [batch, classes] = logits.dims();
    let columns = Tensor::<1, Int>::arange(0..classes as i64, &class.device()).unsqueeze_dim::<2>(0);
    columns.expand([batch, classes]).equal(class.clone().unsqueeze_dim::<2>(1).expand([batch, classes]))
}

fn order(logits: &Tensor<2>) -> Tensor<2, Int> {
    logits.clone().inner().argsort_descending(1)
}

fn ranked(logits: &Tensor<2>, order: &Tensor<2, Int>, rank: usize) -> Tensor<1> {
    of_class(logits, &order.clone().narrow(1, rank, 1).squeeze_dim(1))
}
