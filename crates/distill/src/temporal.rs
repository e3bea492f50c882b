//! Temporal ensembling: PGD-TE and TRADES-TE (Dong et al. 2022, "Exploring memorization in adversarial
//! training"; NEO-KD, appendix F; docs/papers/baselines.md section 5).
//!
//! After the authors' code (github.com/dongyp13/memorization-AT, `loss.py` and `train_te.py`): both remember
//! the answers to the **clean** image, given in evaluation mode before the attack of that step; the penalty is
//! a mean over batch and classes; and the attack climbs the loss with the penalty ([`ExitLoss::penalty`]).
//! NEO-KD makes the adversarial images of these two by the average attack: set the training attack's
//! objective to `average`, and for [`TradesTe`] its loss to `kl`.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{ExitLoss, LossInput, LossTerms, Memory, Remember, Term, Trades};

/// How strongly predictions are held to their running averages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ensembling {
    /// Weight of the penalty, a mean over classes, at the end of the ramp; 300 in the authors' code, for
    /// PGD-TE and for TRADES-TE.
    pub weight: f64,
    /// Momentum of the running averages; 0.9 in the authors' code.
    pub momentum: f64,
    /// Share of the training after which predictions are remembered and the penalty starts to rise;
    /// 0.45 in the authors' code, epoch 90 of 200, just before the first drop of the learning rate.
    pub start: f64,
    /// Share of the training at which it has its full weight; 0.75 in the authors' code, epoch 150 of 200.
    pub full: f64,
}

impl Default for Ensembling {
    fn default() -> Self {
        Self { weight: 300.0, momentum: 0.9, start: 0.45, full: 0.75 }
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

    /// `1/C || p - P / sum P ||^2` of each image against its running average P, C classes; zero where nothing
    /// is remembered.
    ///
    /// # Shapes
    /// - `logits`, `average`: `[batch, classes]`; output: `[batch]`
    fn gap(logits: &Tensor<2>, average: &Tensor<2>) -> Tensor<1> {
        let sum = average.clone().sum_dim(1);
        let seen = sum.clone().greater_scalar(0.0).float();
        let target = average.clone() / sum.clamp_min(f64::from(f32::MIN_POSITIVE));
        let gap = (softmax(logits.clone(), 1) - target).square().mean_dim(1);
        (gap * seen).squeeze_dim::<1>(1)
    }

    fn term(&self, logits: &[Tensor<2>], input: &LossInput<'_>) -> Term {
        let memory = input.memory.as_ref().expect("temporal ensembling needs the running averages of predictions");
        let gaps = logits.iter().zip(memory.averages).map(|(logits, average)| Self::gap(logits, average));
        Term::new("ensemble", gaps.collect(), vec![self.weight_at(memory.done); logits.len()])
    }

    /// The weighted penalty at one exit, none before it starts.
    fn penalty(&self, exit: usize, logits: &Tensor<2>, memory: Memory<'_>) -> Option<Tensor<1>> {
        let weight = self.weight_at(memory.done);
        (weight > 0.0).then(|| Self::gap(logits, &memory.averages[exit]).mul_scalar(weight))
    }

    fn remember(&self) -> Remember {
        Remember { momentum: self.momentum, start: self.start }
    }
}

/// `sum_i [ CE(f_i(x'), y) + w/C || p_i(x') - p~_i ||^2 ]`: PGD-TE on every exit, with C classes and `p~_i`
/// the normalised running average of exit i's answers to the clean image (Dong et al. 2022, equation 8).
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

    /// One an exit, of its cross-entropy: 3 for three.
    fn weight_sum(&self, exits: usize) -> f64 {
        exits as f64
    }

    fn remember(&self) -> Option<Remember> {
        Some(self.ensemble.remember())
    }

    fn penalty(&self, exit: usize, logits: &Tensor<2>, memory: Memory<'_>) -> Option<Tensor<1>> {
        self.ensemble.penalty(exit, logits, memory)
    }
}

/// `sum_i [ CE(f_i(x), y) + beta KL(p_i(x) || p_i(x')) + w/C || p_i(x) - p~_i ||^2 ]`: TRADES-TE on every
/// exit, with C classes and `p~_i` the normalised running average of exit i's answers to the clean image.
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
        Self { beta: 6.0, ensemble: Ensembling::default() }
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

    /// One an exit, of its cross-entropy: 3 for three.
    fn weight_sum(&self, exits: usize) -> f64 {
        exits as f64
    }

    fn remember(&self) -> Option<Remember> {
        Some(self.ensemble.remember())
    }

    /// The authors' attack climbs `beta KL + w/C || p(x') - p~ ||^2`: in units of the divergence, the penalty is
    /// divided by beta.
    fn penalty(&self, exit: usize, logits: &Tensor<2>, memory: Memory<'_>) -> Option<Tensor<1>> {
        let unit = if self.beta > 0.0 { self.beta } else { 1.0 };
        self.ensemble.penalty(exit, logits, memory).map(|penalty| penalty.div_scalar(unit))
    }
}
