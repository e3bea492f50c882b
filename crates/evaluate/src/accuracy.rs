//! Accuracy of every exit, and the versions of what computed it.

use serde::{Deserialize, Serialize};

use crate::interval::Share;

/// Accuracy of every exit and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// One per exit.
    pub exits: Vec<Share>,
    /// Mean over the exits, in `[0, 1]`.
    pub mean: f64,
}

impl Accuracy {
    /// Of these exits; the mean is over them.
    pub fn new(exits: Vec<Share>) -> Self {
        let mean = exits.iter().map(|share| share.value).sum::<f64>() / exits.len().max(1) as f64;
        Self { exits, mean }
    }
}

/// Versions of what computed a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub neokd: String,
    /// The framework.
    pub burn: String,
}

impl Versions {
    /// Of this program.
    pub fn current() -> Self {
        Self { neokd: crate::VERSION.to_string(), burn: "0.22.1".to_string() }
    }
}
