//! LW: adversarial training with a penalty on the weights of each exit's classifier (Chen, Shen, Wang
//! and Wang 2022, "Towards improving fast adversarial training in multi-exit network"; docs/papers/baselines.md
//! section 4).

use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{AdversarialTraining, ExitLoss, LossInput, LossTerms, Term};

/// Settings of [`Lw`], which is the loss itself.
///
/// ```text
/// sum_i [ CE(f_i(x), y) + CE(f_i(x'), y) ] + lambda sum_i || W_i ||_F^2
/// ```
///
/// with `W_i` the weight of exit i's last linear layer. The authors' formula and coefficient were not
/// available; their abstract says that an overfitted exit has much larger weights there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lw {
    /// Weight of the penalty; 1e-3 by default, to be picked from 1e-4, 1e-3 and 1e-2 on robust
    /// validation accuracy.
    pub lambda: f64,
    /// The cross-entropy terms beside the penalty.
    pub base: AdversarialTraining,
}

impl Default for Lw {
    fn default() -> Self {
        Self { lambda: 1e-3, base: AdversarialTraining::default() }
    }
}

impl Lw {
    pub(crate) fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("lambda", self.lambda)?;
        self.base.validate()
    }
}

impl ExitLoss for Lw {
    /// # Panics
    /// If the input does not hold the weights of every exit's last linear layer
    /// ([`LossInput::heads`]).
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = input.clean.len();
        assert_eq!(input.heads.len(), exits, "LW needs the weight of each exit's last linear layer");
        let norms = input.heads.iter().map(|weight| weight.clone().square().sum()).collect();
        let mut loss = self.base.terms(input);
        loss.terms.push(Term::new("head_weights", norms, vec![self.lambda; exits]));
        loss
    }

    /// That of its cross-entropies: 6 for three exits.
    fn weight_sum(&self, exits: usize) -> f64 {
        self.base.weight_sum(exits)
    }
}
