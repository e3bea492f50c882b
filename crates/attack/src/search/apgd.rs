//! Auto-PGD (Croce and Hein 2020, arXiv 2003.01690, algorithm 1): PGD with momentum, whose step is
//! halved, per image, when the loss stops rising.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::ascent::{Ascent, measure};
use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use super::survivors::{Candidates, Survivors};
use crate::batch::per_image;
use crate::error::AttackError;
use crate::objective::aim::Aim;
use crate::objective::loss::{Loss, rivals};
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

/// Share of the plain step in each move; the rest is momentum (alpha in the paper).
const PLAIN: f64 = 0.75;
/// A window in which fewer steps than this share raised the loss halves the step (rho).
const RISING: f64 = 0.75;

/// Auto-PGD on one loss. Each run starts on the surface of the ball at random and with a step of twice epsilon;
/// images that a run broke are left out of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apgd {
    /// Gradient steps of each run, at least 1; 100, as in the paper, unless said otherwise.
    #[serde(default = "default::hundred")]
    pub steps: usize,
    /// Independent runs, at least 1.
    #[serde(default = "default::one")]
    pub restarts: usize,
}

/// APGD-CE: on the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdCe(
    /// Steps and runs.
    pub Apgd,
);

/// APGD-DLR: on the difference-of-logits ratio, of three classes or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdDlr(
    /// Steps and runs.
    pub Apgd,
);

/// On the margin; for networks of fewer classes than the ratios need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdMargin(
    /// Steps and runs.
    pub Apgd,
);

/// APGD-T: on the targeted ratio, of four classes or more, towards the most likely wrong classes in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApgdT {
    /// Gradient steps of each run, at least 1; 100, as in the paper, unless said otherwise.
    #[serde(default = "default::hundred")]
    pub steps: usize,
    /// Independent runs towards each class, at least 1.
    #[serde(default = "default::one")]
    pub restarts: usize,
    /// Number of classes, at least 1; 9, as in the paper, unless said otherwise; where the network has fewer
    /// wrong ones, all of them.
    #[serde(default = "default::nine")]
    pub targets: usize,
}

/// What one run found.
#[derive(Debug)]
pub(crate) struct Climb {
    /// The broken point of each image, else the one of the largest loss.
    pub(crate) pixels: Tensor<4>,
    /// The largest loss so far, `[batch]`, at the start and after each step.
    pub(crate) trace: Vec<Tensor<1>>,
}

/// What an Auto-PGD on one loss says of itself: the loss, and how many classes it compares.
macro_rules! on_one_loss {
    ($settings:ty, $loss:expr, $classes:literal) => {
        impl Method for $settings {
            fn budget(&self, threat: &Threat) -> Budget {
                self.0.budget(threat)
            }

            fn passes(&self) -> Passes {
                self.0.passes().times(self.0.restarts)
            }

            fn set(knobs: &Knobs, _threat: &Threat) -> Self {
                Self(Apgd::set(knobs))
            }

            fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
                self.0.search(scenario, aim, &$loss, $classes)
            }
        }
    };
}

on_one_loss!(ApgdCe, Loss::CrossEntropy, 2);
on_one_loss!(ApgdDlr, Loss::Dlr, 3);
on_one_loss!(ApgdMargin, Loss::Margin, 2);

impl Method for ApgdT {
    fn budget(&self, threat: &Threat) -> Budget {
        Budget { targets: Some(self.targets), ..self.each().budget(threat) }
    }

    fn passes(&self) -> Passes {
        Passes::forward(1) + self.each().passes().times(self.restarts * self.targets)
    }

    fn set(knobs: &Knobs, _threat: &Threat) -> Self {
        let Apgd { steps, restarts } = Apgd::set(knobs);
        Self { steps, restarts, targets: knobs.targets }
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        enough_classes(scenario, 4)?;
        let (batch, classes) = (scenario.batch, scenario.model.classes());
        // The most likely wrong classes of the clean image, `[batch, targets]`.
        let logits = scenario.logits(aim, batch.pixels.clone());
        let targets = rivals(&aim.answer(&logits), &batch.labels, self.targets.min(classes - 1));
        let mut survivors = Survivors::all(batch);
        survivors.passes += Passes::forward(batch.len());
        let each = targets.dims()[1];
        survivors.run(self.restarts * each, |part, run| {
            let target = part.of(&targets.clone().narrow(1, run % each, 1).squeeze_dim::<1>(1));
            // Losses towards different classes do not compare; margins do.
            let (loss, common) = (Loss::DlrTargeted(target), Loss::Margin);
            self.each().candidates(&scenario.on(&part.batch).restart(run), aim, &loss, &common)
        })
    }
}

impl ApgdT {
    /// What is done towards each class.
    fn each(&self) -> Apgd {
        Apgd { steps: self.steps, restarts: self.restarts }
    }
}

fn enough_classes<M: MultiExit>(scenario: &Scenario<'_, M>, needed: usize) -> Result<(), AttackError> {
    match scenario.model.classes() {
        classes if classes < needed => Err(AttackError::TooFewClasses { classes, needed }),
        _ => Ok(()),
    }
}

impl Apgd {
    pub(crate) fn set(knobs: &Knobs) -> Self {
        Self { steps: knobs.steps.unwrap_or(100), restarts: knobs.restarts }
    }

    fn budget(&self, threat: &Threat) -> Budget {
        let Self { steps, restarts } = *self;
        let step_size = Some(2.0 * threat.epsilon);
        Budget { steps, gradient: true, step_size, random_start: true, restarts, targets: None }
    }

    /// What a run costs per image.
    fn passes(&self) -> Passes {
        Passes::gradient(self.steps + 1) + Passes::forward(1)
    }

    /// Searches for pixels in the ball that meet the aim, or else come closest, on a loss that compares so many
    /// classes.
    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim, loss: &Loss, needed: usize) -> Searched {
        enough_classes(scenario, needed)?;
        Survivors::all(scenario.batch)
            .run(self.restarts, |part, run| self.candidates(&scenario.on(&part.batch).restart(run), aim, loss, loss))
    }

    /// One run on `loss`, measured by a loss that compares between runs.
    fn candidates<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        aim: &Aim,
        loss: &Loss,
        common: &Loss,
    ) -> Result<Candidates, AttackError> {
        let found = self.climb(scenario, aim, loss)?;
        let (value, broken) = measure(scenario, aim, common, &found.pixels);
        let passes = self.passes().times(scenario.batch.len());
        Ok(Candidates { pixels: found.pixels, value, broken, passes })
    }

    /// One run, with nothing read from the device: the schedule of checks is known beforehand, and
    /// what a check decides is a mask.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`].
    pub(crate) fn climb<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        aim: &Aim,
        loss: &Loss,
    ) -> Result<Climb, AttackError> {
        let (threat, clean) = (scenario.threat, &scenario.batch.pixels);
        let look = |pixels: Tensor<4>| Ascent::at(scenario, aim, loss, pixels);
        let mut here = look(threat.random_edge(clean, &scenario.batch.examples, scenario.key))?;
        let mut best = here.clone();
        let mut broken = Found { pixels: here.pixels.clone(), any: here.broken.clone() };
        let mut trace = vec![best.value.clone()];
        let mut previous = here.pixels.clone();
        let mut schedule = Schedule::new(&here.value, threat.epsilon);
        let checks = checkpoints(self.steps);
        for step in 1..=self.steps {
            let momentum = here.pixels.clone() - previous;
            previous = here.pixels.clone();
            let plain = here.pixels.clone() + threat.direction(here.gradient) * schedule.step.clone();
            let plain = threat.project(clean, plain);
            let share = if step == 1 { 1.0 } else { PLAIN };
            let moved =
                here.pixels.clone() + (plain - here.pixels).mul_scalar(share) + momentum.mul_scalar(1.0 - share);
            here = look(threat.project(clean, moved))?;

            broken.add(&here);
            best = best.clone().replace(&here.value.clone().greater(best.value), &here);
            trace.push(best.value.clone());
            schedule.count(&here.value);
            if let Some(at) = checks.iter().position(|&check| check == step) {
                let window = step - if at == 0 { 0 } else { checks[at - 1] };
                let halved = schedule.check(window, &best.value);
                here = here.replace(&halved, &best);
            }
        }
        Ok(Climb { pixels: broken.or(best.pixels), trace })
    }
}

/// The last broken point seen of each image.
struct Found {
    pixels: Tensor<4>,
    any: Tensor<1, Bool>,
}

impl Found {
    fn add(&mut self, look: &Ascent) {
        let now = per_image(look.broken.clone(), &self.pixels);
        self.pixels = self.pixels.clone().mask_where(now, look.pixels.clone());
        self.any = self.any.clone().bool_or(look.broken.clone());
    }

    fn or(self, pixels: Tensor<4>) -> Tensor<4> {
        let found = per_image(self.any, &pixels);
        pixels.mask_where(found, self.pixels)
    }
}

/// Each image's step size and what decides about it.
struct Schedule {
    /// `[batch, 1, 1, 1]`.
    step: Tensor<4>,
    /// `[batch]`: the loss after the last step.
    last: Tensor<1>,
    /// `[batch]`: steps of this window that raised the loss.
    rises: Tensor<1, Int>,
    /// `[batch]`: the best loss at the last check, and whether that check halved the step.
    best_then: Tensor<1>,
    halved_then: Tensor<1, Bool>,
}

impl Schedule {
    fn new(value: &Tensor<1>, epsilon: f64) -> Self {
        let rises = value.zeros_like().int();
        Self {
            step: Tensor::full([value.dims()[0], 1, 1, 1], 2.0 * epsilon, &value.device()),
            last: value.clone(),
            best_then: value.clone(),
            // The first check has no check before it, so it cannot find that nothing came of it.
            halved_then: rises.clone().equal_scalar(0),
            rises,
        }
    }

    fn count(&mut self, value: &Tensor<1>) {
        self.rises = self.rises.clone() + value.clone().greater(self.last.clone()).int();
        self.last = value.clone();
    }

    /// Halves the step of the images whose loss rose too rarely in the window, or whose best loss is
    /// what it was at the last check although the step was kept there; they go on from their best
    /// point.
    fn check(&mut self, window: usize, best: &Tensor<1>) -> Tensor<1, Bool> {
        let rarely = self.rises.clone().float().lower_equal_scalar(window as f64 * RISING);
        let no_gain = self.best_then.clone().greater_equal(best.clone());
        let halved = rarely.bool_or(no_gain.bool_and(self.halved_then.clone().bool_not()));
        let per_step = per_image(halved.clone(), &self.step);
        self.step = self.step.clone().mask_where(per_step, self.step.clone().div_scalar(2.0));
        self.rises = self.rises.zeros_like();
        self.best_then = best.clone();
        self.halved_then = halved.clone();
        halved
    }
}

/// The steps after which the step size is looked at: `p_0 = 0`, `p_1 = 0.22`,
/// `p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)`, in shares of the steps.
fn checkpoints(steps: usize) -> Vec<usize> {
    let part = |share: f64| ((share * steps as f64) as usize).max(1);
    let (mut window, shrink, smallest) = (part(0.22), part(0.03), part(0.06));
    let (mut checks, mut at) = (Vec::new(), window);
    while at <= steps {
        checks.push(at);
        window = window.saturating_sub(shrink).max(smallest);
        at += window;
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::checkpoints;

    #[test]
    fn checkpoints_of_100_steps_are_those_of_the_paper() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
        assert_eq!(checkpoints(1), [1]);
    }
}
