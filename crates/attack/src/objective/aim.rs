//! What a search is aimed at: whose answer it drives up the loss of, and when an image is done.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::ExitLogits;

use super::answers::{all_wrong, ensemble_wrong, log_mean_probability, mean_over_exits, one_wrong};
use super::deployed::Deployed;
use super::loss::Loss;
use crate::random::RandomKey;

/// What one search is aimed at. [`Objective`](crate::Objective) and [`Criterion`](crate::Criterion) are made of
/// these: max-average of one per exit, a deployed policy of one per exit that can be reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Aim {
    /// Make this exit, from 0, answer wrong.
    Exit(usize),
    /// Raise the mean loss of all exits; done when all answer wrong.
    Average,
    /// Make the mean of all exits' probabilities answer wrong (docs/papers/neo-kd.md 4.4).
    Ensemble,
    /// Make the deployed system answer wrong by leaving at this exit.
    Leave {
        /// The deployed system.
        deployed: Deployed,
        /// The exit, from 0.
        exit: usize,
    },
}

impl Aim {
    /// The exits whose logits it needs, ascending.
    pub fn exits(&self, exits: usize) -> Vec<usize> {
        match self {
            Self::Exit(exit) => vec![*exit],
            Self::Average | Self::Ensemble => (0..exits).collect(),
            Self::Leave { exit, .. } => (0..=*exit).collect(),
        }
    }

    /// The loss of each image.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    pub fn value(&self, loss: &Loss, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::Exit(_) | Self::Average => mean_over_exits(loss, logits, labels),
            Self::Ensemble => loss.value(&self.answer(logits), labels),
            Self::Leave { deployed, exit } => deployed.surrogate(loss, *exit, logits, labels),
        }
    }

    /// The one vector of logits per image that stands for the answer aimed at.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    pub fn answer(&self, logits: &ExitLogits) -> Tensor<2> {
        match self {
            Self::Exit(_) => logits.as_slice()[0].clone(),
            Self::Average | Self::Ensemble => log_mean_probability(logits.as_slice()),
            Self::Leave { deployed, exit } => deployed.answer(*exit, logits),
        }
    }

    /// Which images are done.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    pub fn broken(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
        match self {
            Self::Exit(exit) => one_wrong(*exit, logits, labels),
            Self::Average => all_wrong(logits, labels),
            Self::Ensemble => ensemble_wrong(logits, labels),
            Self::Leave { deployed, .. } => deployed.broken(logits, labels),
        }
    }

    /// Where the random numbers of an attack of this number come from: single attacks are numbered by their exit, so one draws
    /// what it draws as a part of max-average.
    pub(crate) fn key(&self, attack: u64, key: RandomKey) -> RandomKey {
        let own = match self {
            Self::Exit(exit) => *exit as u64,
            Self::Average => u64::MAX,
            Self::Ensemble => u64::MAX - 1,
            Self::Leave { exit, .. } => (1 << 16) + *exit as u64,
        };
        key.for_attack(own ^ (attack << 32))
    }
}
