//! Early stopping: the best network so far on held-out training images, and when to give up.

use neokd_evaluate::interval::Share;
use serde::{Deserialize, Serialize};

/// Accuracy on held-out training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Steps done.
    pub step: u64,
    /// Clean accuracy per exit.
    pub clean: Vec<Share>,
    /// Accuracy per exit under the attack of [`RunConfig::validation_attack`](crate::RunConfig::validation_attack).
    pub robust: Vec<Share>,
}

/// The best look at held-out images so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done then.
    pub step: u64,
    /// Robust accuracy then, mean over the exits, in `[0, 1]`.
    pub robust: f64,
    /// Looks since then that were not better.
    pub looks_since: u64,
}

impl Best {
    /// The best after another look; the earlier of two equals stays.
    pub fn after(best: Option<Self>, look: &ValidationRecord) -> Self {
        let exits = look.robust.len().max(1) as f64;
        let robust = look.robust.iter().map(|share| share.value).sum::<f64>() / exits;
        match best {
            Some(best) if robust <= best.robust => Self { looks_since: best.looks_since + 1, ..best },
            _ => Self { step: look.step, robust, looks_since: 0 },
        }
    }

    /// Whether the look of `step` was the best.
    pub fn is_of(&self, step: u64) -> bool {
        self.step == step
    }
}
