//! A network together with the policy that decides at which exit each image leaves: what an attacker
//! of the deployed system faces, in tensors.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Int, Tensor};
use neokd_model::ExitLogits;
use neokd_model::policy::{Policy, Rule};

use super::answers::{log_mean_probability, mean_over_exits};
use super::loss::{Loss, is_class, of_class};

/// Log-odds beyond which a leaving condition counts as met and pulls no further.
const ENOUGH: f64 = 1.0;
/// A threshold is kept this far from 0 and 1 where its log-odds are needed.
const EDGE: f64 = 1e-6;

/// An early-exit policy on a network with so many exits.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// When an image leaves.
    pub policy: Policy,
    /// Number of exits; the last one takes the rest.
    pub exits: usize,
}

impl Deployed {
    /// The exits at which some image can leave, ascending: those behind an exit that takes every
    /// image, and those that take none, are left out.
    pub fn reachable(&self, classes: usize) -> Vec<usize> {
        let last = self.exits - 1;
        let mut reachable = Vec::new();
        for exit in 0..last {
            match self.takes(exit, classes) {
                Takes::None => {}
                Takes::Some => reachable.push(exit),
                Takes::All => {
                    reachable.push(exit);
                    return reachable;
                }
            }
        }
        reachable.push(last);
        reachable
    }

    fn takes(&self, exit: usize, classes: usize) -> Takes {
        // The largest of C probabilities is at least 1/C, and their entropy at most ln C (the small
        // constant inside the logarithm only lowers it).
        let (none, all) = match &self.policy.rule {
            Rule::Confidence(thresholds) => {
                let threshold = threshold(thresholds, exit);
                (threshold > 1.0, threshold <= 1.0 / classes as f64)
            }
            Rule::Entropy(threshold) => (*threshold <= -1e-4, *threshold > (classes as f64).ln()),
            Rule::Patience(times) => (exit < *times, classes == 1),
            Rule::Fixed(fixed) => (exit != *fixed, exit == *fixed),
        };
        match (none, all) {
            (true, _) => Takes::None,
            (_, true) => Takes::All,
            _ => Takes::Some,
        }
    }

    /// Which images leave at one of the computed exits with a wrong answer: the policy's own
    /// decision, as [`Policy::decide`] takes it image by image.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    ///
    /// # Panics
    /// If the computed exits do not start at 0 without a gap.
    pub fn broken(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
        let nobody = labels.zeros_like().equal_scalar(1);
        let (mut broken, mut left) = (nobody.clone(), nobody);
        for (answer, leaves) in self.decisions(logits) {
            let here = leaves.bool_and(left.clone().bool_not());
            broken = broken.bool_or(here.clone().bool_and(answer.not_equal(labels.clone())));
            left = left.bool_or(here);
        }
        broken
    }

    /// Per computed exit, the answer and whether an image that came so far leaves with it.
    fn decisions(&self, logits: &ExitLogits) -> Vec<(Tensor<1, Int>, Tensor<1, Bool>)> {
        assert!(logits.exits().iter().copied().eq(0..logits.exits().len()), "a policy sees every exit up to the last");
        let mut seen: Option<Tensor<2>> = None;
        let mut before: Option<(Tensor<1, Int>, Tensor<1, Int>)> = None;
        let decide = |(exit, row): (usize, &Tensor<2>)| {
            let own = softmax(row.clone().inner(), 1);
            let probabilities = match seen.take().filter(|_| self.policy.ensemble) {
                // A running mean, in the order in which the deployed walk takes it.
                Some(mean) => mean.clone() + (own - mean).mul_scalar(1.0 / (exit + 1) as f32),
                None => own,
            };
            seen = Some(probabilities.clone());
            let answer: Tensor<1, Int> = probabilities.clone().argmax(1).squeeze_dim(1);
            let same = match before.take() {
                None => answer.zeros_like(),
                Some((last, same)) => {
                    let changed = answer.clone().not_equal(last);
                    same.add_scalar(1).mask_fill(changed, 0)
                }
            };
            before = Some((answer.clone(), same.clone()));
            let leaves = match exit + 1 == self.exits {
                true => answer.clone().equal(answer.clone()),
                false => self.leaves(exit, &probabilities, same),
            };
            (answer, leaves)
        };
        logits.as_slice().iter().enumerate().map(decide).collect()
    }

    fn leaves(&self, exit: usize, probabilities: &Tensor<2>, same: Tensor<1, Int>) -> Tensor<1, Bool> {
        match &self.policy.rule {
            Rule::Confidence(thresholds) => {
                let confidence = probabilities.clone().max_dim(1).squeeze_dim::<1>(1);
                confidence.greater_equal_scalar(round_up(threshold(thresholds, exit)))
            }
            Rule::Entropy(threshold) => {
                let entropy = (probabilities.clone() * probabilities.clone().add_scalar(1e-5).log()).sum_dim(1).neg();
                entropy.squeeze_dim::<1>(1).lower_scalar(*threshold as f32)
            }
            Rule::Patience(times) => same.greater_equal_scalar(*times as i64),
            Rule::Fixed(fixed) if exit == *fixed => same.clone().equal(same),
            Rule::Fixed(_) => same.clone().not_equal(same),
        }
    }

    /// A differentiable stand-in for "leaves at `exit`, and wrong": the loss of the answer there,
    /// plus how far the image is from leaving at that exit and from staying at each earlier one, in
    /// log-odds of confidence (log-ratios of entropy), each capped once it is met.
    ///
    /// With patience the loss is the mean over the exits that have to agree.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    pub fn surrogate(&self, loss: &Loss, exit: usize, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
        let rows = logits.as_slice();
        if let Rule::Patience(times) = self.policy.rule {
            let agreeing = rows[exit.saturating_sub(times)..=exit].to_vec();
            return mean_over_exits(loss, &ExitLogits::all(agreeing), labels);
        }
        let value = loss.value(&self.answer(exit, logits), labels);
        let met = |pull: Tensor<1>| pull.clamp_max(ENOUGH);
        let value = (0..exit).fold(value, |value, earlier| match self.pull(earlier, logits) {
            Some(pull) => value + met(pull.neg()),
            None => value,
        });
        match self.pull(exit, logits) {
            Some(pull) if exit + 1 < self.exits => value + met(pull),
            _ => value,
        }
    }

    /// What the policy reads at an exit, as logits: the exit's own, or the log of the mean of the
    /// probabilities of all exits so far.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    pub fn answer(&self, exit: usize, logits: &ExitLogits) -> Tensor<2> {
        match self.policy.ensemble {
            true => log_mean_probability(&logits.as_slice()[..=exit]),
            false => logits.as_slice()[exit].clone(),
        }
    }

    /// How far each image is inside the condition to leave at an exit; `None` where the rule does not
    /// look at the image, or no image can be moved across the threshold.
    fn pull(&self, exit: usize, logits: &ExitLogits) -> Option<Tensor<1>> {
        let [_, classes] = logits.as_slice()[exit].dims();
        if self.takes(exit, classes) != Takes::Some {
            return None;
        }
        let log_probabilities = log_softmax(self.answer(exit, logits), 1);
        match &self.policy.rule {
            Rule::Confidence(thresholds) => {
                let threshold = threshold(thresholds, exit).clamp(EDGE, 1.0 - EDGE);
                Some(log_odds(&log_probabilities).sub_scalar((threshold / (1.0 - threshold)).ln()))
            }
            Rule::Entropy(threshold) => {
                let entropy = (log_probabilities.clone().exp() * log_probabilities).sum_dim(1).neg();
                let entropy = entropy.squeeze_dim::<1>(1).clamp_min(EDGE);
                Some(entropy.log().neg().add_scalar(threshold.max(EDGE).ln()))
            }
            Rule::Patience(_) | Rule::Fixed(_) => None,
        }
    }
}

/// How many of the images that come to an exit leave there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    None,
    Some,
    All,
}

fn threshold(thresholds: &[f64], exit: usize) -> f64 {
    if thresholds.len() == 1 { thresholds[0] } else { thresholds.get(exit).copied().unwrap_or(0.0) }
}

/// The smallest 32-bit float not below a threshold: comparing 32-bit confidences with it decides as
/// comparing them with the threshold in 64 bits.
fn round_up(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) < threshold { near.next_up() } else { near }
}

/// `ln(p / (1 - p))` of the most probable class, exact where p rounds to 1.
fn log_odds(log_probabilities: &Tensor<2>) -> Tensor<1> {
    let winner: Tensor<1, Int> = log_probabilities.clone().inner().argmax(1).squeeze_dim(1);
    let mask = is_class(log_probabilities, &winner);
    let rest = log_sum_exp(log_probabilities.clone().mask_fill(mask, -1e30));
    of_class(log_probabilities, &winner) - rest
}

/// Logarithm of the summed exponentials of each row.
fn log_sum_exp(rows: Tensor<2>) -> Tensor<1> {
    let largest = rows.clone().inner().max_dim(1);
    ((rows - largest.clone()).exp().sum_dim(1).log() + largest).squeeze_dim(1)
}
