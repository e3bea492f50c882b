//! The Carlini-Wagner margin inside a ball (Carlini and Wagner 2017, as Madry et al. 2018 use it):
//! PGD steps on `max_{c != y} z_c - z_y`, of which the largest margin met is kept.

use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::ascent::{Ascent, measure};
use super::budget::Budget;
use super::knobs::Knobs;
use super::method::Method;
use super::pgd::Pgd;
use super::survivors::{Candidates, Survivors};
use crate::error::AttackError;
use crate::objective::aim::Aim;
use crate::objective::loss::Loss;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

/// The margin attack. Unlike the original it searches in a ball of given radius, Linf or L2, as all
/// attacks here do, instead of trading distance against margin; images that a run broke are left out
/// of the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cw(
    /// Steps, starts and runs.
    pub Pgd,
);

impl Method for Cw {
    fn budget(&self, threat: &Threat) -> Budget {
        self.0.budget(threat)
    }

    fn passes(&self) -> Passes {
        (Passes::gradient(self.0.steps) + Passes::forward(2)).times(self.0.restarts)
    }

    fn set(knobs: &Knobs, threat: &Threat) -> Self {
        Self(Pgd::set(knobs, threat))
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        Survivors::all(scenario.batch)
            .run(self.0.restarts, |part, restart| self.climb(&scenario.on(&part.batch).restart(restart), aim))
    }
}

impl Cw {
    fn climb<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Result<Candidates, AttackError> {
        let (batch, threat) = (scenario.batch, scenario.threat);
        let mut best: Option<Candidates> = None;
        let mut pixels = self.0.start(scenario);
        for _ in 0..self.0.steps {
            let Ascent { pixels: here, value, gradient, broken } = Ascent::at(scenario, aim, &Loss::Margin, pixels)?;
            pixels = threat.project(&batch.pixels, threat.ascend(here.clone(), gradient, self.0.step_size));
            let passes = Passes::gradient(batch.len());
            best = Some(Candidates { pixels: here, value, broken, passes }.or(best));
        }
        let (value, broken) = measure(scenario, aim, &Loss::Margin, &pixels);
        Ok(Candidates { pixels, value, broken, passes: Passes::forward(batch.len()) }.or(best))
    }
}
