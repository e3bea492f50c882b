//! The trait of a loss over exits, and what it reads.

use burn::tensor::{Int, Tensor};

use crate::{LossTerms, cross_entropy, soft_cross_entropy};

/// What a loss reads: logits of all exits on the clean and on the adversarial batch.
#[derive(Clone, Copy, Debug)]
pub struct LossInput<'a> {
    /// One `[batch, classes]` per exit, on the clean images.
    pub clean: &'a [Tensor<2>],
    /// The same on the adversarial images.
    pub adversarial: &'a [Tensor<2>],
    /// `[batch]`, class indices.
    pub labels: &'a Tensor<1, Int>,
    /// `[batch, classes]`, rows that sum to one: what the terms against labels aim at where they are
    /// smoothed or mixed; without it, the labels.
    pub targets: Option<&'a Tensor<2>>,
    /// Weight of each exit's last linear layer, for losses that penalise it ([`Lw`](crate::Lw)); may be empty.
    pub heads: &'a [Tensor<2>],
    /// Running averages of predictions, for losses that ask for them ([`ExitLoss::remember`]).
    pub memory: Option<Memory<'a>>,
    /// The same labels on the host, and where this visit's random numbers come from.
    pub draw: Draw<'a>,
}

impl<'a> LossInput<'a> {
    /// Logits and labels, which is all that most losses read; the other fields can be set after it.
    pub fn new(
        clean: &'a [Tensor<2>],
        adversarial: &'a [Tensor<2>],
        labels: &'a Tensor<1, Int>,
        draw: Draw<'a>,
    ) -> Self {
        Self { clean, adversarial, labels, targets: None, heads: &[], memory: None, draw }
    }

    /// Cross-entropy of each image against its label or target.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; output: `[batch]`
    pub fn entropy(&self, logits: &Tensor<2>) -> Tensor<1> {
        match self.targets {
            None => cross_entropy(logits, self.labels),
            Some(targets) => soft_cross_entropy(logits, targets),
        }
    }

    pub(crate) fn entropies(&self, exits: &[Tensor<2>]) -> Vec<Tensor<1>> {
        exits.iter().map(|logits| self.entropy(logits)).collect()
    }
}

/// Where a loss takes random numbers from: a function of a key and an example and of nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// A key that is the same over the whole run.
    pub run: u64,
    /// A key that is new at each epoch.
    pub epoch: u64,
    /// A key that is new at each step.
    pub step: u64,
    /// Index of each image in its data set.
    pub examples: &'a [u64],
    /// Class of each image.
    pub labels: &'a [usize],
}

/// Running averages of a network's predictions on the images of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// One `[batch, classes]` per exit; a row of zeros for an image that was not seen yet.
    pub averages: &'a [Tensor<2>],
    /// Share of the training that is done, in `[0, 1)`.
    pub done: f64,
}

/// How long a loss wants predictions remembered: those on the clean images in evaluation mode, taken before
/// the attack of the same step, so that they are part of what the loss then reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remember {
    /// Each visit makes the average `momentum * average + (1 - momentum) * prediction`, from zero.
    pub momentum: f64,
    /// Share of the training after which predictions are remembered, in `[0, 1]`.
    pub start: f64,
}

/// A training loss over the exits of a network.
pub trait ExitLoss {
    /// The terms, batch means per exit.
    ///
    /// # Panics
    /// If the number of exits differs between the inputs or from what the loss was made for, or an
    /// input that this loss needs is missing.
    fn terms(&self, input: LossInput<'_>) -> LossTerms;

    /// The sum of the weights of its cross-entropies over `exits` exits, against labels and against soft labels:
    /// how many cross-entropies the total is worth at the start of a training. Two losses that are divided by
    /// theirs can share a learning rate.
    ///
    /// Divergences and penalties are not counted: they are zero or small there, and their authors train with them
    /// at the rate of plain adversarial training.
    fn weight_sum(&self, exits: usize) -> f64;

    /// How predictions must be remembered for [`LossInput::memory`]; not at all for most losses.
    fn remember(&self) -> Option<Remember> {
        None
    }

    /// What an attack for this loss climbs besides its own loss at exit `exit`, in units of that loss, of each
    /// image; none for most losses.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; output: `[batch]`
    fn penalty(&self, _exit: usize, _logits: &Tensor<2>, _memory: Memory<'_>) -> Option<Tensor<1>> {
        None
    }
}

pub(crate) fn finite_and_not_negative(key: &str, value: f64) -> Result<(), String> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(format!("{key} = {value}: must be a finite number, 0 or larger")),
    }
}
