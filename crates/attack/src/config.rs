//! Attacks and threats as configuration files and flags name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Attack, Norm, Pgd, Threat};

/// Which loss an attack maximises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// One exit's own loss, the exit counted from 0; written `single:1`.
    Single(usize),
    /// The mean loss of all exits; written `average`.
    Average,
    /// One attack per exit, the worst on average per image; written `max-average`.
    #[default]
    MaxAverage,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(exit) => write!(out, "single:{exit}"),
            Self::Average => out.write_str("average"),
            Self::MaxAverage => out.write_str("max-average"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "average" => Ok(Self::Average),
            "max-average" => Ok(Self::MaxAverage),
            _ => text
                .strip_prefix("single:")
                .and_then(|exit| exit.parse().ok())
                .map(Self::Single)
                .ok_or_else(|| format!("objective {text:?} is none of single:EXIT, average, max-average")),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// A threat model in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreatConfig {
    /// `linf` (default) or `l2`.
    #[serde(default)]
    pub norm: Norm,
    /// Radius in pixel units; a number or a fraction such as `"8/255"`.
    #[serde(with = "crate::fraction")]
    pub epsilon: f64,
}

impl ThreatConfig {
    /// The threat model.
    pub fn threat(&self) -> Threat {
        Threat { norm: self.norm, epsilon: self.epsilon }
    }

    /// Why this threat makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let fine = self.epsilon.is_finite() && self.epsilon >= 0.0;
        (!fine).then(|| format!("epsilon = {}: must be a finite number, 0 or larger, in pixel units", self.epsilon))
    }
}

/// An attack in a configuration file; `kind` names it.
///
/// A new attack is one file and one variant here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AttackConfig {
    /// Projected gradient descent (Madry et al. 2018).
    Pgd(PgdConfig),
    /// The fast gradient sign method (Goodfellow et al. 2015): PGD of one step of length epsilon
    /// from the clean image.
    Fgsm(FgsmConfig),
}

/// Settings of [`AttackConfig::Pgd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgdConfig {
    /// `single:EXIT`, `average` or `max-average`.
    #[serde(default)]
    pub objective: Target,
    /// Number of gradient steps, at least 1.
    pub steps: usize,
    /// Length of a step in pixel units; a number or a fraction such as `"2/255"`.
    #[serde(with = "crate::fraction")]
    pub step_size: f64,
    /// Whether to start from a random point of the ball; yes unless said otherwise.
    #[serde(default = "yes")]
    pub random_start: bool,
    /// Independent runs, at least 1.
    #[serde(default = "one")]
    pub restarts: usize,
}

/// Settings of [`AttackConfig::Fgsm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FgsmConfig {
    /// `single:EXIT`, `average` or `max-average`.
    #[serde(default)]
    pub objective: Target,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

impl AttackConfig {
    /// The attack under the given threat.
    pub fn attack(&self, threat: &Threat) -> Attack {
        match self {
            Self::Pgd(config) => Attack {
                target: config.objective,
                pgd: Pgd {
                    steps: config.steps,
                    step_size: config.step_size,
                    random_start: config.random_start,
                    restarts: config.restarts,
                },
            },
            Self::Fgsm(config) => Attack { target: config.objective, pgd: Pgd::fgsm(threat) },
        }
    }

    /// What it maximises.
    pub fn objective(&self) -> Target {
        match self {
            Self::Pgd(config) => config.objective,
            Self::Fgsm(config) => config.objective,
        }
    }

    /// The same attack on another objective.
    pub fn with_objective(mut self, objective: Target) -> Self {
        match &mut self {
            Self::Pgd(config) => config.objective = objective,
            Self::Fgsm(config) => config.objective = objective,
        }
        self
    }

    /// Why this attack makes no sense for a network with `exits` exits, if so: the key inside the
    /// section, and the cure.
    pub fn problem(&self, exits: usize) -> Option<String> {
        if let Target::Single(exit) = self.objective()
            && exit >= exits
        {
            return Some(format!(
                "objective = \"single:{exit}\": the network has {exits} exits, numbered 0 to {}",
                exits - 1
            ));
        }
        let Self::Pgd(config) = self else {
            return None;
        };
        if config.steps == 0 {
            return Some("steps = 0: an attack needs at least 1 step".to_string());
        }
        if config.restarts == 0 {
            return Some("restarts = 0: an attack needs at least 1 run".to_string());
        }
        let fine = config.step_size.is_finite() && config.step_size > 0.0;
        (!fine).then(|| format!("step_size = {}: must be a finite number larger than 0", config.step_size))
    }
}
