//! DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, algorithm 2): step after step to the nearest of the
//! boundaries that the linearised network has, until one is crossed. It finds small perturbations, not the largest
//! loss.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::ascent::gradient;
use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use crate::batch::per_image;
use crate::error::AttackError;
use crate::objective::Mean;
use crate::objective::aim::Aim;
use crate::objective::loss::{of_class, rivals};
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::{Norm, Threat, lengths, per_image_factor};

/// A slope below this is flat: no step along it leads anywhere.
const FLAT: f64 = 1e-12;

/// DeepFool, Linf and L2, from the clean image, so that it needs no random numbers and no restarts. What it ends at is
/// projected into the ball. The average attack's one answer is the mean of the exits'.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepFool {
    /// Number of steps, at least 1; 50, as in the published code, unless said otherwise.
    #[serde(default = "fifty")]
    pub steps: usize,
    /// Number of classes whose boundaries are looked at, most likely first, at least 1; 9, as in the published code,
    /// unless said otherwise; where the network has fewer wrong ones, all of them.
    #[serde(default = "default::nine")]
    pub targets: usize,
    /// By which part the way found is made longer (eta), 0 or larger; 0.02, as in the paper, unless said otherwise.
    #[serde(default = "two_hundredths")]
    pub overshoot: f64,
}

fn fifty() -> usize {
    50
}

fn two_hundredths() -> f64 {
    0.02
}

impl Method for DeepFool {
    fn budget(&self, _threat: &Threat) -> Budget {
        let Self { steps, targets, .. } = *self;
        Budget { steps, gradient: true, step_size: None, random_start: false, restarts: 1, targets: Some(targets) }
    }

    fn passes(&self) -> Passes {
        Passes::forward(1) + (Passes::gradient(self.targets) + Passes::forward(1)).times(self.steps)
    }

    fn problem(&self) -> Option<String> {
        let Self { overshoot, .. } = *self;
        let fine = overshoot.is_finite() && overshoot >= 0.0;
        (!fine).then(|| format!("overshoot = {overshoot}: must be a finite number, 0 or larger"))
    }

    fn mean(&self) -> Mean {
        Mean::Answers
    }

    fn set(knobs: &Knobs, _threat: &Threat) -> Self {
        Self { steps: knobs.steps.unwrap_or_else(fifty), targets: knobs.targets, overshoot: two_hundredths() }
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        let (clean, labels) = (&scenario.batch.pixels, &scenario.batch.labels);
        let logits = scenario.logits(aim, clean.clone());
        let most = self.targets.min(scenario.model.classes() - 1);
        let targets = rivals(&aim.answer(&logits), labels, most);
        let (mut pixels, mut way) = (clean.clone(), clean.zeros_like());
        let mut broken: Tensor<1, Bool> = aim.broken(&logits, labels);
        for _ in 0..self.steps {
            let further = way.clone() + to_the_nearest(scenario, aim, &pixels, &targets)?;
            let arrived = per_image(broken.clone(), clean);
            way = further.mask_where(arrived.clone(), way);
            let moved = (clean.clone() + way.clone().mul_scalar(1.0 + self.overshoot)).clamp(0.0, 1.0);
            pixels = moved.mask_where(arrived, pixels);
            broken = broken.bool_or(aim.broken(&scenario.logits(aim, pixels.clone()), labels));
        }
        let each = Self { targets: most, ..*self }.passes();
        Ok((scenario.threat.project(clean, pixels), each.times(scenario.batch.len())))
    }
}

/// The change that takes each image to the nearest boundary of the linearised network: to a class whose logit trails by
/// `gap` and gains `slope` on the label's, `gap / |slope|` in the dual norm, along the steepest direction.
///
/// # Shapes
/// - `pixels` and output: `[batch, channels, height, width]`; `targets`: `[batch, targets]`
fn to_the_nearest<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    aim: &Aim,
    pixels: &Tensor<4>,
    targets: &Tensor<2, Int>,
) -> Result<Tensor<4>, AttackError> {
    let (labels, threat) = (&scenario.batch.labels, scenario.threat);
    let mut step = pixels.zeros_like();
    let mut nearest = Tensor::full([pixels.dims()[0]], f32::INFINITY, &pixels.device());
    for target in 0..targets.dims()[1] {
        let target: Tensor<1, Int> = targets.clone().narrow(1, target, 1).squeeze_dim(1);
        let leaf = pixels.clone().autodiff().require_grad();
        let answer = aim.answer(&scenario.logits(aim, leaf.clone()));
        let lead = of_class(&answer, &target) - of_class(&answer, labels);
        let slope = gradient(&leaf, &lead)?;
        let distance = lead.inner().abs() / steepness(threat.norm, &slope).clamp_min(FLAT);
        let nearer = distance.clone().lower(nearest.clone());
        let there = threat.direction(slope) * per_image_factor(distance.clone());
        step = step.mask_where(per_image(nearer.clone(), pixels), there);
        nearest = nearest.mask_where(nearer, distance);
    }
    Ok(step)
}

/// What a change of size 1 gains at most: the slope's size in the norm dual to the threat's, `[batch]`.
fn steepness(norm: Norm, slope: &Tensor<4>) -> Tensor<1> {
    match norm {
        Norm::Linf => slope.clone().abs().flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1),
        Norm::L2 => lengths(slope).reshape([-1]),
    }
}
