//! Adversarial training of multi-exit networks without distillation (Hu et al. 2020, "Triple Wins").

use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{ExitLoss, LossInput, LossTerms, Term};

/// `sum_i [ clean_weight CE(f_i(x), y) + adversarial_weight CE(f_i(x'), y) ]`.
///
/// NEO-KD's text has weights 1 and 1, the default; the public Triple Wins code has 0.5 and 0.5.
/// With SGD that is a rescaling of the learning rate against weight decay: keep one choice for all
/// methods that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdversarialTraining {
    /// Weight of the cross-entropy on clean images.
    pub clean_weight: f64,
    /// Weight of the cross-entropy on adversarial images.
    pub adversarial_weight: f64,
}

impl Default for AdversarialTraining {
    fn default() -> Self {
        Self { clean_weight: 1.0, adversarial_weight: 1.0 }
    }
}

impl AdversarialTraining {
    pub(crate) fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("clean_weight", self.clean_weight)?;
        finite_and_not_negative("adversarial_weight", self.adversarial_weight)
    }
}

impl ExitLoss for AdversarialTraining {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        assert_eq!(input.clean.len(), input.adversarial.len(), "the same exits on clean and adversarial images");
        let exits = input.clean.len();
        LossTerms {
            terms: vec![
                Term::new("ce_clean", input.entropies(input.clean), vec![self.clean_weight; exits]),
                Term::new("ce_adversarial", input.entropies(input.adversarial), vec![self.adversarial_weight; exits]),
            ],
        }
    }

    /// `K (clean_weight + adversarial_weight)` for K exits: 6 for three.
    fn weight_sum(&self, exits: usize) -> f64 {
        exits as f64 * (self.clean_weight + self.adversarial_weight)
    }
}
