//! PGD on a height of the caller's own: what a training loss wants climbed besides the cross-entropy.

use burn::tensor::{Int, Tensor};
use neokd_model::{ExitLogits, MultiExit};

use super::audit::Audit;
use super::max_average::max_average;
use super::run::Adversarial;
use crate::error::AttackError;
use crate::objective::aim::Aim;
use crate::objective::{Mean, Objective};
use crate::scenario::Scenario;
use crate::search::{Hill, Pgd, Search};

/// Where a run of PGD starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Where the attack's settings say: at the clean image, or at a random point of the ball.
    Usual,
    /// At the clean image plus normal noise of this standard deviation, in pixel units, inside the ball; TRADES
    /// has 0.001 (Zhang et al. 2019), as a divergence from the clean answer has no gradient at the clean image.
    Noise(f64),
}

/// What is climbed: the exits, their logits and the labels in, one number per image out.
type Height<'a> = dyn Fn(&[usize], &ExitLogits, &Tensor<1, Int>) -> Tensor<1> + 'a;

/// As [`perturb`](crate::perturb) by PGD, with `height` of the attacked exits in place of their mean cross-entropy: it
/// is given the exits, their logits and the labels, and gives one number per image. Which candidate of max-average
/// is kept is up to the cross-entropy.
///
/// # Errors
/// As [`perturb`](crate::perturb); [`AttackError::NoPolicy`] on the objective `policy`.
pub fn perturb_on<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    objective: Objective,
    pgd: &Pgd,
    height: &Height<'_>,
    start: Start,
) -> Result<Adversarial, AttackError> {
    let exits = scenario.model.exits();
    let aims = objective.aims(Mean::Losses, None, exits, scenario.model.classes())?;
    let search = |aim: &Aim| {
        let scenario = Scenario { key: aim.key(Search::from(*pgd).number(), scenario.key), ..*scenario };
        let exits = aim.exits(exits);
        let hill = Hill { exits: exits.clone(), height: &|logits, labels| height(&exits, logits, labels) };
        pgd.climb_from(&scenario, &hill, &|scenario| from(start, pgd, scenario))
    };
    let (pixels, passes) = match objective {
        Objective::MaxAverage => max_average(scenario, |exit| search(&aims[exit])),
        Objective::Single(_) | Objective::Average | Objective::Policy => search(&aims[0]),
    }?;
    let audit = Audit::check(scenario.batch, &pixels, &scenario.threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

fn from<M: MultiExit>(start: Start, pgd: &Pgd, scenario: &Scenario<'_, M>) -> Tensor<4> {
    let Start::Noise(size) = start else {
        return pgd.start(scenario);
    };
    let batch = scenario.batch;
    let [_, channels, height, width] = batch.pixels.dims();
    let noise = scenario.key.normal(&batch.examples, [channels, height, width], &batch.pixels.device());
    scenario.threat.project(&batch.pixels, batch.pixels.clone() + noise.mul_scalar(size))
}
