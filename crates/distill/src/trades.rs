//! TRADES on every exit (Zhang et al. 2019, "Theoretically principled trade-off between robustness
//! and accuracy", equation 5; docs/papers/baselines.md section 6).

use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{ExitLoss, LossInput, LossTerms, Term, divergence};

/// Settings of [`Trades`], which is the loss itself.
///
/// ```text
/// sum_i [ CE(f_i(x), y) + beta KL(softmax f_i(x) || softmax f_i(x')) ]
/// ```
///
/// Both sides of the divergence are differentiated, as in the authors' code. The adversarial images
/// are those of the configured training attack; the authors make theirs by ascending the divergence, which is
/// `training.attack_loss = "kl"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trades {
    /// Weight of the divergence; 6 in the authors' code.
    pub beta: f64,
}

impl Default for Trades {
    fn default() -> Self {
        Self { beta: 6.0 }
    }
}

impl Trades {
    pub(crate) fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("beta", self.beta)
    }
}

impl ExitLoss for Trades {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = input.clean.len();
        let divergences = input.clean.iter().zip(input.adversarial).map(|(clean, moved)| divergence(clean, moved));
        LossTerms {
            terms: vec![
                Term::new("ce_clean", input.entropies(input.clean), vec![1.0; exits]),
                Term::new("kl", divergences.collect(), vec![self.beta; exits]),
            ],
        }
    }

    /// One an exit: 3 for three.
    fn weight_sum(&self, exits: usize) -> f64 {
        exits as f64
    }
}
