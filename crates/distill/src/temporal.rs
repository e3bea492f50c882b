//! Temporal ensembling: PGD-TE and TRADES-TE (Dong et al. 2022, "Exploring memorization in adversarial
//! training"; NEO-KD, appendix F; baselines.md section 5).
//!
//! The paper makes the adversarial images of these two by the average attack: set the training attack's
//! objective to `average`.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{ExitLoss, LossInput, LossTerms, Remember, Remembered, Term, Trades};

/// How strongly predictions are held to their running averages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ensembling {
    /// Weight of the penalty at the end of the ramp; 30 for PGD-TE and 300 for TRADES-TE (remembered).
    pub weight: f64,
    /// Momentum of the running averages; 0.9 (remembered).
    pub momentum: f64,
    /// Share of the training after which the penalty starts to rise from zero; 0.45 by default, just
    /// before the usual first drop of the learning rate (chosen).
    pub start: f64,
    /// Share of the training at which it has its full weight; 0.7 by default (chosen).
    pub full: f64,
}

impl Default for Ensembling {
    fn default() -> Self {
        Self { weight: 30.0, momentum: 0.9, start: 0.45, full: 0.7 }
    }
}

impl Ensembling {
    fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("weight", self.weight)?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(format!("momentum = {}: must be in [0, 1)", self.momentum));
        }
        let ordered = self.start >= 0.0 && self.start < self.full && self.full <= 1.0;
        if ordered {
            Ok(())
        } else {
            Err(format!("start = {}, full = {}: must ascend in [0, 1]", self.start, self.full))
        }
    }

    /// Gaussian ramp-up: `weight exp(-5 (1 - t)^2)` with t from 0 to 1 between `start` and `full`
    /// (Laine and Aila 2017), zero before.
    fn weight_at(&self, done: f64) -> f64 {
        if done < self.start {
            return 0.0;
        }
        let t = ((done - self.start) / (self.full - self.start)).min(1.0);
        self.weight * (-5.0 * (1.0 - t).powi(2)).exp()
    }

    /// `|| p - P / sum P ||^2` of each image against its running average P; zero at its first visit.
    fn penalties(logits: &[Tensor<2>], input: &LossInput<'_>) -> Vec<Tensor<1>> {
        let memory = input.memory.as_ref().expect("temporal ensembling needs the running averages of predictions");
        let penalty = |(logits, average): (&Tensor<2>, &Tensor<2>)| {
            let sum = average.clone().sum_dim(1);
            let seen = sum.clone().greater_scalar(0.0).float();
            let target = average.clone() / sum.clamp_min(f64::from(f32::MIN_POSITIVE));
            let gap = (softmax(logits.clone(), 1) - target).square().sum_dim(1);
            (gap * seen).squeeze_dim::<1>(1)
        };
        logits.iter().zip(memory.averages).map(penalty).collect()
    }

    fn term(&self, logits: &[Tensor<2>], input: &LossInput<'_>) -> Term {
        let weight = self.weight_at(input.memory.as_ref().map_or(0.0, |memory| memory.done));
        Term::new("ensemble", Self::penalties(logits, input), vec![weight; logits.len()])
    }
}

/// `sum_i [ CE(f_i(x'), y) + w || p_i(x') - p~_i ||^2 ]`: PGD-TE on every exit, with `p~_i` the
/// normalised running average of exit i's answers to this image's adversarial versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PgdTe {
    /// The penalty.
    pub ensemble: Ensembling,
}

impl PgdTe {
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.ensemble.validate().map_err(|why| format!("ensemble.{why}"))
    }
}

impl ExitLoss for PgdTe {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = input.adversarial.len();
        let entropy = Term::new("ce_adversarial", input.entropies(input.adversarial), vec![1.0; exits]);
        LossTerms { terms: vec![entropy, self.ensemble.term(input.adversarial, &input)] }
    }

    fn remember(&self) -> Option<Remember> {
        Some(Remember { what: Remembered::Adversarial, momentum: self.ensemble.momentum })
    }
}

/// `sum_i [ CE(f_i(x), y) + beta KL(p_i(x) || p_i(x')) + w || p_i(x) - p~_i ||^2 ]`: TRADES-TE on every
/// exit, with `p~_i` the normalised running average of exit i's answers to the clean image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TradesTe {
    /// Weight of the divergence; 6.
    pub beta: f64,
    /// The penalty.
    pub ensemble: Ensembling,
}

impl Default for TradesTe {
    fn default() -> Self {
        Self { beta: 6.0, ensemble: Ensembling { weight: 300.0, ..Ensembling::default() } }
    }
}

impl TradesTe {
    pub(crate) fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("beta", self.beta)?;
        self.ensemble.validate().map_err(|why| format!("ensemble.{why}"))
    }
}

impl ExitLoss for TradesTe {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let mut loss = Trades { beta: self.beta }.terms(input);
        loss.terms.push(self.ensemble.term(input.clean, &input));
        loss
    }

    fn remember(&self) -> Option<Remember> {
        Some(Remember { what: Remembered::Clean, momentum: self.ensemble.momentum })
    }
}
