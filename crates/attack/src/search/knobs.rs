//! Settings as flags give them, for whichever attack is named.

use crate::objective::slowdown_goal::SlowdownGoal;
use crate::threat::Threat;

/// Settings of the attacks; those that an attack has no use for are ignored by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// Gradient steps; where none are given, 20 of PGD, CW and slow-down, as published of the others.
    pub steps: Option<usize>,
    /// Length of a step of PGD, CW and slow-down in pixel units; a quarter of epsilon where none is given.
    pub step_size: Option<f64>,
    /// Independent runs.
    pub restarts: usize,
    /// Whether PGD, CW and slow-down start from a random point.
    pub random_start: bool,
    /// Queries of Square; 5000 where none are given.
    pub queries: Option<usize>,
    /// Classes that attacks try which look at one class after the other.
    pub targets: usize,
    /// What a slow-down is to achieve.
    pub goal: SlowdownGoal,
}

impl Default for Knobs {
    /// Published settings.
    fn default() -> Self {
        Self {
            steps: None,
            step_size: None,
            restarts: 1,
            random_start: true,
            queries: None,
            targets: 9,
            goal: SlowdownGoal::Slow,
        }
    }
}

impl Knobs {
    /// Length of a fixed step.
    pub(crate) fn step_size(&self, threat: &Threat) -> f64 {
        // A radius of 0 has room for no step of any length.
        self.step_size.unwrap_or(if threat.epsilon > 0.0 { threat.epsilon / 4.0 } else { 1.0 })
    }
}

/// Serde defaults that several attacks have.
pub(crate) mod default {
    pub(crate) fn yes() -> bool {
        true
    }

    pub(crate) fn one() -> usize {
        1
    }

    pub(crate) fn nine() -> usize {
        9
    }

    pub(crate) fn hundred() -> usize {
        100
    }
}
