//! The public call: search, audit, judge.

use burn::tensor::Tensor;
use neokd_model::{ExitLogits, MultiExit};

use super::audit::Audit;
use super::max_average::max_average;
use crate::attack::Attack;
use crate::error::AttackError;
use crate::objective::Objective;
use crate::objective::aim::Aim;
use crate::passes::Passes;
use crate::scenario::Scenario;

/// Adversarial pixels, audited.
#[derive(Clone, Debug)]
pub struct Adversarial {
    /// `[batch, channels, height, width]`, in the ball and in `[0, 1]`.
    pub pixels: Tensor<4>,
    /// What was measured on them.
    pub audit: Audit,
    /// What they cost.
    pub passes: Passes,
}

/// Adversarial pixels and what the network says to them.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The pixels.
    pub adversarial: Adversarial,
    /// Logits of all exits on them, from a forward pass of their own.
    pub logits: ExitLogits,
}

/// Searches and audits; the caller judges. For training, where the network's own pass follows.
///
/// # Errors
/// [`AttackError`]: an objective that does not fit the network, no gradient, or a broken rule.
pub fn perturb<M: MultiExit>(scenario: &Scenario<'_, M>, attack: &Attack) -> Result<Adversarial, AttackError> {
    let Scenario { model, batch, .. } = *scenario;
    let (objective, policy) = (attack.objective, attack.policy.as_ref());
    let aims = objective.aims(attack.mean(), policy, model.exits(), model.classes())?;
    let search = |aim| attack.search.search(scenario, aim);
    let (pixels, passes) = match (attack.search.method().goal(), objective) {
        (Some(_), _) => search(&Aim::Average),
        (None, Objective::MaxAverage) => max_average(scenario, |exit| search(&aims[exit])),
        (None, Objective::Policy) => attack.search.search_all(scenario, &objective.criterion(attack.mean(), policy)?),
        (None, Objective::Single(_) | Objective::Average) => search(&aims[0]),
    }?;
    let audit = Audit::check(batch, &pixels, &scenario.threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

/// Searches, audits and judges with a forward pass of its own: an attack is never its own judge.
///
/// The same key, attack and example give the same pixels in any batch.
///
/// # Errors
/// As [`perturb`].
pub fn run<M: MultiExit>(scenario: &Scenario<'_, M>, attack: &Attack) -> Result<Outcome, AttackError> {
    let mut adversarial = perturb(scenario, attack)?;
    let logits = scenario.model.forward(adversarial.pixels.clone());
    adversarial.passes += Passes::forward(scenario.batch.len());
    Ok(Outcome { adversarial, logits })
}
