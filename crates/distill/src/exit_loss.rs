//! The trait of a loss over exits, what it reads, and the losses that a configuration can name.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{AdversarialTraining, LossTerms, NeoKd, NeoKdConfig};

/// What a loss reads: logits of all exits on the clean and on the adversarial batch.
#[derive(Clone, Copy, Debug)]
pub struct LossInput<'a> {
    /// One `[batch, classes]` per exit, on the clean images.
    pub clean: &'a [Tensor<2>],
    /// The same on the adversarial images.
    pub adversarial: &'a [Tensor<2>],
    /// `[batch]`, class indices.
    pub labels: &'a Tensor<1, Int>,
    /// The same labels on the host, and where this visit's random numbers come from.
    pub draw: Draw<'a>,
}

/// Where a loss takes random numbers from: a function of (seed, example) and of nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Key of this visit (the caller mixes run seed and epoch into it).
    pub seed: u64,
    /// Index of each image in its data set.
    pub examples: &'a [u64],
    /// Class of each image.
    pub labels: &'a [usize],
}

/// A training loss over the exits of a network.
pub trait ExitLoss {
    /// The terms, batch means per exit.
    ///
    /// # Panics
    /// If the number of exits differs between the inputs or from what the loss was made for.
    fn terms(&self, input: LossInput<'_>) -> LossTerms;
}

/// A loss in a configuration file; `kind` names it.
///
/// A new loss is one file and one variant here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LossConfig {
    /// Clean plus adversarial cross-entropy of every exit (Hu et al. 2020).
    AdversarialTraining(AdversarialTraining),
    /// NEO-KD (Ham et al. 2023).
    NeoKd(NeoKdConfig),
}

impl LossConfig {
    /// The loss for a network with `exits` exits.
    ///
    /// # Errors
    /// A sentence that names the key inside the section, its value and the cure.
    pub fn init(&self, exits: usize) -> Result<Box<dyn ExitLoss + Send + Sync>, String> {
        match self {
            Self::AdversarialTraining(loss) => {
                loss.validate()?;
                Ok(Box::new(loss.clone()))
            }
            Self::NeoKd(config) => Ok(Box::new(NeoKd::new(config.clone(), exits)?)),
        }
    }
}

pub(crate) fn finite_and_not_negative(key: &str, value: f64) -> Result<(), String> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(format!("{key} = {value}: must be a finite number, 0 or larger")),
    }
}
