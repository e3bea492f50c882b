//! Projected gradient descent (Madry et al. 2018): ascend the loss, project, repeat. The fast gradient sign method
//! is one step of it.

use burn::tensor::{Int, Tensor};
use neokd_model::{ExitLogits, MultiExit};
use serde::{Deserialize, Serialize};

use super::ascent::gradient;
use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use crate::batch::per_image;
use crate::objective::aim::Aim;
use crate::objective::loss::Loss;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

/// PGD; with one step of length epsilon and no random start it is FGSM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pgd {
    /// Number of gradient steps, at least 1.
    pub steps: usize,
    /// Length of a step in pixel units; in a file a number or a fraction such as `"2/255"`.
    #[serde(with = "crate::fraction")]
    pub step_size: f64,
    /// Whether to start from a random point of the ball instead of the clean image; yes unless said otherwise.
    #[serde(default = "default::yes")]
    pub random_start: bool,
    /// Independent runs, at least 1, the best of which is kept per image; more than one only pays with a
    /// random start.
    #[serde(default = "default::one")]
    pub restarts: usize,
}

/// The fast gradient sign method (Goodfellow et al. 2015): one step of length epsilon from the clean image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fgsm {}

/// What PGD climbs: some exits, and one number per image of their logits and labels.
pub(crate) struct Hill<'a> {
    /// Ascending; no other part of the network is run.
    pub(crate) exits: Vec<usize>,
    /// Larger is worse for the network.
    pub(crate) height: &'a dyn Fn(&ExitLogits, &Tensor<1, Int>) -> Tensor<1>,
}

impl Method for Pgd {
    fn budget(&self, _threat: &Threat) -> Budget {
        let Self { steps, step_size, random_start, restarts } = *self;
        Budget { steps, gradient: true, step_size: Some(step_size), random_start, restarts, targets: None }
    }

    fn passes(&self) -> Passes {
        let choosing = if self.restarts > 1 { self.restarts } else { 0 };
        Passes::gradient(self.steps * self.restarts) + Passes::forward(choosing)
    }

    fn set(knobs: &Knobs, threat: &Threat) -> Self {
        Self {
            steps: knobs.steps.unwrap_or(20),
            step_size: knobs.step_size(threat),
            random_start: knobs.random_start,
            restarts: knobs.restarts,
        }
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        let exits = aim.exits(scenario.model.exits());
        self.climb(scenario, &Hill { exits, height: &|logits, labels| aim.value(&Loss::CrossEntropy, logits, labels) })
    }
}

impl Method for Fgsm {
    fn budget(&self, threat: &Threat) -> Budget {
        Pgd::fgsm(threat).budget(threat)
    }

    fn passes(&self) -> Passes {
        Passes::gradient(1)
    }

    fn set(_knobs: &Knobs, _threat: &Threat) -> Self {
        Self {}
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        Pgd::fgsm(&scenario.threat).search(scenario, aim)
    }
}

impl Pgd {
    /// The fast gradient sign method: one full step from the clean image.
    pub fn fgsm(threat: &Threat) -> Self {
        Self { steps: 1, step_size: threat.epsilon, random_start: false, restarts: 1 }
    }

    /// Searches for pixels in the ball that are high up; over restarts the highest point per image wins.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`](crate::AttackError::NoGradient) if the height does not depend on the pixels.
    pub(crate) fn climb<M: MultiExit>(&self, scenario: &Scenario<'_, M>, hill: &Hill<'_>) -> Searched {
        self.climb_from(scenario, hill, &|scenario| self.start(scenario))
    }

    /// As [`climb`](Self::climb), each run from the point that `start` gives for its random numbers.
    ///
    /// # Errors
    /// As [`climb`](Self::climb).
    pub(crate) fn climb_from<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        hill: &Hill<'_>,
        start: &dyn Fn(&Scenario<'_, M>) -> Tensor<4>,
    ) -> Searched {
        let (mut best, mut passes) = self.climb_once(scenario, hill, start(&scenario.restart(0)))?;
        if self.restarts < 2 {
            return Ok((best, passes));
        }
        let mut best_value = hill.at(scenario, &best);
        for restart in 1..self.restarts {
            let (pixels, spent) = self.climb_once(scenario, hill, start(&scenario.restart(restart)))?;
            let new_value = hill.at(scenario, &pixels);
            let better = new_value.clone().greater(best_value.clone());
            best = best.mask_where(per_image(better.clone(), &pixels), pixels);
            best_value = best_value.mask_where(better, new_value);
            passes += spent;
        }
        passes += Passes::forward(self.restarts * scenario.batch.len());
        Ok((best, passes))
    }

    /// Where a run starts.
    pub(crate) fn start<M: MultiExit>(&self, scenario: &Scenario<'_, M>) -> Tensor<4> {
        let batch = scenario.batch;
        match self.random_start {
            true => scenario.threat.random_start(&batch.pixels, &batch.examples, scenario.key),
            false => batch.pixels.clone(),
        }
    }

    fn climb_once<M: MultiExit>(&self, scenario: &Scenario<'_, M>, hill: &Hill<'_>, start: Tensor<4>) -> Searched {
        let (batch, threat) = (scenario.batch, scenario.threat);
        let mut moved = start;
        for _ in 0..self.steps {
            let leaf = moved.clone().autodiff().require_grad();
            let logits = scenario.model.forward_at(leaf.clone(), &hill.exits);
            let gradient = gradient(&leaf, &(hill.height)(&logits, &batch.labels))?;
            moved = threat.project(&batch.pixels, threat.ascend(moved, gradient, self.step_size));
        }
        Ok((moved, Passes::gradient(self.steps * batch.len())))
    }
}

impl Hill<'_> {
    fn at<M: MultiExit>(&self, scenario: &Scenario<'_, M>, pixels: &Tensor<4>) -> Tensor<1> {
        (self.height)(&scenario.model.forward_at(pixels.clone(), &self.exits), &scenario.batch.labels)
    }
}
