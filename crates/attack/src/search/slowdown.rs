//! The slow-down attack (after DeepSloth, Hong et al. 2021, arXiv 2010.02432): make every exit that
//! could let an image leave as unsure as possible, so that the image pays for the whole network.

use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use super::pgd::{Hill, Pgd};
use crate::objective::aim::Aim;
use crate::objective::slowdown_goal::SlowdownGoal;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

/// PGD that pushes exits towards the uniform distribution. It looks at all exits but the last, where
/// everybody leaves; it has no use for an aim, as it is not about one exit's answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// `slow` (default) or `slow-and-wrong`.
    #[serde(default)]
    pub goal: SlowdownGoal,
    /// Number of gradient steps, at least 1.
    pub steps: usize,
    /// Length of a step in pixel units; in a file a number or a fraction such as `"2/255"`.
    #[serde(with = "crate::fraction")]
    pub step_size: f64,
    /// Whether to start from a random point of the ball; yes unless said otherwise.
    #[serde(default = "default::yes")]
    pub random_start: bool,
    /// Independent runs, at least 1.
    #[serde(default = "default::one")]
    pub restarts: usize,
}

impl Slowdown {
    /// A slow-down that tries as hard as this PGD.
    pub fn like(pgd: Pgd, goal: SlowdownGoal) -> Self {
        let Pgd { steps, step_size, random_start, restarts } = pgd;
        Self { goal, steps, step_size, random_start, restarts }
    }

    fn pgd(&self) -> Pgd {
        let Self { steps, step_size, random_start, restarts, .. } = *self;
        Pgd { steps, step_size, random_start, restarts }
    }
}

impl Method for Slowdown {
    fn budget(&self, threat: &Threat) -> Budget {
        self.pgd().budget(threat)
    }

    fn passes(&self) -> Passes {
        self.pgd().passes()
    }

    fn goal(&self) -> Option<SlowdownGoal> {
        Some(self.goal)
    }

    fn set(knobs: &Knobs, threat: &Threat) -> Self {
        Self::like(Pgd::set(knobs, threat), knobs.goal)
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, _aim: &Aim) -> Searched {
        let exits = self.goal.exits(scenario.model.exits());
        self.pgd().climb(scenario, &Hill { exits, height: &|logits, labels| self.goal.value(logits, labels) })
    }
}
