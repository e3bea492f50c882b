//! What every attack has to say of itself; its settings are its type.

use neokd_model::MultiExit;

use super::budget::Budget;
use super::knobs::Knobs;
use crate::objective::Mean;
use crate::objective::aim::Aim;
use crate::objective::slowdown_goal::SlowdownGoal;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

/// A way to search for adversarial pixels, with its settings.
pub trait Method {
    /// How hard it tries in the ball of a threat.
    fn budget(&self, threat: &Threat) -> Budget;

    /// Passes that one image costs for one aim, at most: an image that breaks early costs less.
    fn passes(&self) -> Passes;

    /// Why the settings make no sense, if so, beyond what the budget tells: key, value and cure.
    fn problem(&self) -> Option<String> {
        None
    }

    /// What the average objective is the average of.
    fn mean(&self) -> Mean {
        Mean::Losses
    }

    /// What it is after in place of an objective, if it is.
    fn goal(&self) -> Option<SlowdownGoal> {
        None
    }

    /// Set as flags say, for the ball of a threat; what they do not say is as published.
    fn set(knobs: &Knobs, threat: &Threat) -> Self
    where
        Self: Sized;

    /// Searches for pixels in the ball that meet the aim, or else come closest to it. The scenario's random numbers are
    /// used as they are; [`Search::search`](super::Search::search) keeps those of different attacks and aims apart.
    ///
    /// # Errors
    /// [`AttackError`](crate::AttackError): no gradient, too few classes, or a device that cannot be read.
    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched
    where
        Self: Sized;
}
