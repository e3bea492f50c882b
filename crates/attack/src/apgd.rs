//! Auto-PGD (Croce and Hein 2020, arXiv 2003.01690, algorithm 1): PGD with momentum, whose step is
//! halved, per image, when the loss stops rising.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::{Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::aim::Aim;
use crate::ascent::{Ascent, measure};
use crate::loss::{Loss, rivals};
use crate::passes::Passes;
use crate::pgd::per_image;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::survivors::{Candidates, Survivors};
use crate::{Batch, Threat};

/// Share of the plain step in each move; the rest is momentum (alpha in the paper).
const PLAIN: f64 = 0.75;
/// A window in which fewer steps than this share raised the loss halves the step (rho).
const RISING: f64 = 0.75;

/// Which loss Auto-PGD climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApgdLoss {
    /// Cross-entropy: APGD-CE.
    CrossEntropy,
    /// The difference-of-logits ratio: APGD-DLR.
    Dlr,
    /// The margin; for networks of fewer classes than the ratios need.
    Margin,
    /// The targeted ratio, one run towards each of this many most likely wrong classes (9 in the
    /// paper): APGD-T.
    Targeted {
        /// Number of classes; where the network has fewer wrong ones, all of them.
        targets: usize,
    },
}

/// Auto-PGD. Each run starts on the surface of the ball at random and with a step of twice epsilon;
/// images that a run broke are left out of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apgd {
    /// What is climbed.
    pub loss: ApgdLoss,
    /// Gradient steps of each run; 100 in the paper.
    pub steps: usize,
    /// Independent runs (towards each target).
    pub restarts: usize,
}

/// What one run found.
#[derive(Debug)]
pub(crate) struct Climb {
    /// The broken point of each image, else the one of the largest loss.
    pub(crate) pixels: Tensor<4>,
    /// The largest loss so far, `[batch]`, at the start and after each step.
    pub(crate) trace: Vec<Tensor<1>>,
}

impl Apgd {
    /// Searches for pixels in the ball that meet the aim, or else come closest.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`], [`AttackError::Read`]; [`AttackError::TooFewClasses`] for a ratio
    /// that needs more classes than the network has.
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let targets = self.targets(model, batch, aim)?;
        let mut survivors = Survivors::all(batch);
        if targets.is_some() {
            survivors.passes += Passes::forward(batch.len());
        }
        let each = targets.as_ref().map_or(1, |targets| targets.dims()[1]);
        survivors.run(self.restarts * each, |part, run| {
            let loss = match (&targets, self.loss) {
                (Some(targets), _) => {
                    Loss::DlrTargeted(part.of(&targets.clone().narrow(1, run % each, 1).squeeze_dim::<1>(1)))
                }
                (None, ApgdLoss::CrossEntropy) => Loss::CrossEntropy,
                (None, ApgdLoss::Dlr) => Loss::Dlr,
                (None, _) => Loss::Margin,
            };
            let found = self.climb(model, &part.batch, aim, &loss, threat, key.for_restart(run as u64))?;
            // Losses towards different classes do not compare; margins do.
            let common = if targets.is_some() { Loss::Margin } else { loss };
            let (value, broken) = measure(model, &part.batch, aim, &common, &found.pixels);
            let passes = (Passes::gradient(self.steps + 1) + Passes::forward(1)).times(part.count());
            Ok(Candidates { pixels: found.pixels, value, broken, passes })
        })
    }

    /// The classes that each image is pushed to, `[batch, targets]`: the most likely wrong ones of the
    /// clean image.
    fn targets<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
    ) -> Result<Option<Tensor<2, Int>>, AttackError> {
        let (needed, classes) = (self.classes_needed(), model.classes());
        if classes < needed {
            return Err(AttackError::TooFewClasses { classes, needed });
        }
        let ApgdLoss::Targeted { targets } = self.loss else {
            return Ok(None);
        };
        let logits = model.forward_at(batch.pixels.clone(), &aim.exits(model.exits()));
        Ok(Some(rivals(&aim.answer(&logits), &batch.labels, targets.min(classes - 1))))
    }

    fn classes_needed(&self) -> usize {
        match self.loss {
            ApgdLoss::CrossEntropy | ApgdLoss::Margin => 2,
            ApgdLoss::Dlr => 3,
            ApgdLoss::Targeted { .. } => 4,
        }
    }

    /// One run, with nothing read from the device: the schedule of checks is known beforehand, and
    /// what a check decides is a mask.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`].
    pub(crate) fn climb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
        loss: &Loss,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<Climb, AttackError> {
        let clean = &batch.pixels;
        let look = |pixels: Tensor<4>| Ascent::at(model, batch, aim, loss, pixels);
        let mut here = look(threat.random_edge(clean, &batch.examples, key))?;
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
