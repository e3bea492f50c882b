//! How far a run has come.

use neokd_attack::Passes;
use serde::{Deserialize, Serialize};

use crate::run::best::Best;

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are complete.
    pub epoch: u64,
    /// Steps done in the current epoch.
    pub position: u64,
    /// Steps done in all.
    pub step: u64,
    /// Passes spent on training so far, attacks included.
    pub passes: Passes,
    /// Wall time spent on training so far, in seconds, over all sessions.
    pub seconds: f64,
    /// The best look at held-out images so far, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The first step at which catastrophic overfitting was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<u64>,
    /// What was changed in the configuration or the program on the way, and at which step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}
