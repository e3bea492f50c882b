//! The public call: search, audit, judge.

use burn::tensor::Tensor;
use neokd_model::{ExitLogits, MultiExit};

use super::audit::Audit;
use super::max_average::max_average;
use crate::attack::Attack;
use crate::error::AttackError;
use crate::objective::Objective;
use crate::objective::aim::Aim;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::search::Search;

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
    carry_out(scenario, attack, &mut |aim| attack.search.search(scenario, aim))
}

/// Searches, audits and judges with a forward pass of its own: an attack is never its own judge.
///
/// The same key, attack and example give the same pixels in any batch.
///
/// # Errors
/// As [`perturb`].
pub fn run<M: MultiExit>(scenario: &Scenario<'_, M>, attack: &Attack) -> Result<Outcome, AttackError> {
    Ok(judged(scenario, perturb(scenario, attack)?))
}

/// Several attacks on the same images, each with the outcome that [`run`] gives it.
///
/// A search on one exit is carried out once, also where max-average is made of it; its passes count for
/// the first attack that needs it.
///
/// # Errors
/// As [`perturb`].
pub fn run_all<M: MultiExit>(scenario: &Scenario<'_, M>, attacks: &[Attack]) -> Result<Vec<Outcome>, AttackError> {
    let mut found: Vec<(Search, Aim, Tensor<4>)> = Vec::new();
    let mut outcomes = Vec::with_capacity(attacks.len());
    for attack in attacks {
        let adversarial = carry_out(scenario, attack, &mut |aim| {
            if let Some((.., pixels)) = found.iter().find(|(search, of, _)| *search == attack.search && of == aim) {
                return Ok((pixels.clone(), Passes::default()));
            }
            let (pixels, passes) = attack.search.search(scenario, aim)?;
            found.push((attack.search, aim.clone(), pixels.clone()));
            Ok((pixels, passes))
        })?;
        outcomes.push(judged(scenario, adversarial));
    }
    Ok(outcomes)
}

/// Perturbs and audits; `search` carries out one search on one aim.
fn carry_out<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    attack: &Attack,
    search: &mut dyn FnMut(&Aim) -> Searched,
) -> Result<Adversarial, AttackError> {
    let Scenario { model, batch, .. } = *scenario;
    let (objective, policy) = (attack.objective, attack.policy.as_ref());
    let aims = objective.aims(attack.mean(), policy, model.exits(), model.classes())?;
    let (pixels, passes) = match (attack.search.method().goal(), objective) {
        (Some(_), _) => search(&Aim::Average),
        (None, Objective::MaxAverage) => max_average(scenario, |exit| search(&aims[exit])),
        (None, Objective::Policy) => attack.search.search_all(scenario, &objective.criterion(attack.mean(), policy)?),
        (None, Objective::Single(_) | Objective::Average) => search(&aims[0]),
    }?;
    let audit = Audit::check(batch, &pixels, &scenario.threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

fn judged<M: MultiExit>(scenario: &Scenario<'_, M>, mut adversarial: Adversarial) -> Outcome {
    let logits = scenario.model.forward(adversarial.pixels.clone());
    adversarial.passes += Passes::forward(adversarial.pixels.dims()[0]);
    Outcome { adversarial, logits }
}
