//! Attacks and threats as configuration files and flags name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AnyAttack, Apgd, ApgdLoss, Cw, Fab, Norm, Passes, Pgd, Search, Slowdown, SlowdownGoal, Square, Threat};

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
    /// The answer of the deployed early-exit system, its thresholds included: the worst exit that can
    /// be reached under them; written `policy`.
    Policy,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(exit) => write!(out, "single:{exit}"),
            Self::Average => out.write_str("average"),
            Self::MaxAverage => out.write_str("max-average"),
            Self::Policy => out.write_str("policy"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "average" => Ok(Self::Average),
            "max-average" => Ok(Self::MaxAverage),
            "policy" => Ok(Self::Policy),
            _ => text
                .strip_prefix("single:")
                .and_then(|exit| exit.parse().ok())
                .map(Self::Single)
                .ok_or_else(|| format!("objective {text:?} is none of single:EXIT, average, max-average, policy")),
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
    /// Auto-PGD on the cross-entropy (Croce and Hein 2020).
    ApgdCe(ApgdConfig),
    /// Auto-PGD on the difference-of-logits ratio (Croce and Hein 2020).
    ApgdDlr(ApgdConfig),
    /// Auto-PGD on the targeted ratio, towards several classes in turn (Croce and Hein 2020).
    ApgdT(TargetedConfig),
    /// PGD steps on the margin of Carlini and Wagner (2017), in the ball of the threat's norm.
    Cw(PgdConfig),
    /// Targeted fast adaptive boundary (Croce and Hein 2020), towards several classes in turn.
    FabT(TargetedConfig),
    /// Random squares, by logits alone (Andriushchenko et al. 2020).
    Square(SquareConfig),
    /// Towards unsure exits, so that nobody leaves early (DeepSloth, Hong et al. 2021).
    Slowdown(SlowdownConfig),
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

/// Settings of [`AttackConfig::ApgdCe`] and [`AttackConfig::ApgdDlr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApgdConfig {
    /// `single:EXIT`, `average`, `max-average` or `policy`.
    #[serde(default)]
    pub objective: Target,
    /// Gradient steps of each run, at least 1; 100 unless said otherwise.
    #[serde(default = "hundred")]
    pub steps: usize,
    /// Independent runs, at least 1.
    #[serde(default = "one")]
    pub restarts: usize,
}

/// Settings of [`AttackConfig::ApgdT`] and [`AttackConfig::FabT`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetedConfig {
    /// `single:EXIT`, `average`, `max-average` or `policy`.
    #[serde(default)]
    pub objective: Target,
    /// Gradient steps of each run, at least 1; 100 unless said otherwise.
    #[serde(default = "hundred")]
    pub steps: usize,
    /// Independent runs towards each class, at least 1.
    #[serde(default = "one")]
    pub restarts: usize,
    /// Number of classes, most likely first, at least 1; 9 unless said otherwise, and never more than
    /// there are wrong ones.
    #[serde(default = "nine")]
    pub targets: usize,
}

/// Settings of [`AttackConfig::Square`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SquareConfig {
    /// `single:EXIT`, `average`, `max-average` or `policy`.
    #[serde(default)]
    pub objective: Target,
    /// Queries of each run, at least 1; 5000 unless said otherwise.
    #[serde(default = "five_thousand")]
    pub queries: usize,
    /// Share of the pixels that the first squares change, above 0 and up to 1; 0.8 unless said otherwise.
    #[serde(default = "four_fifths")]
    pub share: f64,
    /// Independent runs, at least 1.
    #[serde(default = "one")]
    pub restarts: usize,
}

/// Settings of [`AttackConfig::Slowdown`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowdownConfig {
    /// `slow` (default) or `slow-and-wrong`.
    #[serde(default)]
    pub goal: SlowdownGoal,
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

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn nine() -> usize {
    9
}

fn hundred() -> usize {
    100
}

fn five_thousand() -> usize {
    5000
}

fn four_fifths() -> f64 {
    0.8
}

impl PgdConfig {
    fn pgd(&self) -> Pgd {
        Pgd { steps: self.steps, step_size: self.step_size, random_start: self.random_start, restarts: self.restarts }
    }
}

impl SlowdownConfig {
    fn pgd(&self) -> Pgd {
        let Self { steps, step_size, random_start, restarts, .. } = *self;
        Pgd { steps, step_size, random_start, restarts }
    }
}

impl AttackConfig {
    /// The attack under the given threat. On the objective `policy` it needs the policy besides
    /// ([`AnyAttack::with_policy`]).
    pub fn attack(&self, threat: &Threat) -> AnyAttack {
        AnyAttack::new(self.objective(), self.search(threat))
    }

    /// How it searches, under the given threat.
    pub fn search(&self, threat: &Threat) -> Search {
        let apgd = |loss, steps, restarts| Search::Apgd(Apgd { loss, steps, restarts });
        match self {
            Self::Pgd(config) => Search::Pgd(config.pgd()),
            Self::Fgsm(_) => Search::Pgd(Pgd::fgsm(threat)),
            Self::ApgdCe(config) => apgd(ApgdLoss::CrossEntropy, config.steps, config.restarts),
            Self::ApgdDlr(config) => apgd(ApgdLoss::Dlr, config.steps, config.restarts),
            Self::ApgdT(config) => apgd(ApgdLoss::Targeted { targets: config.targets }, config.steps, config.restarts),
            Self::Cw(config) => Search::Cw(Cw(config.pgd())),
            Self::FabT(TargetedConfig { steps, restarts, targets, .. }) => {
                Search::Fab(Fab { steps: *steps, restarts: *restarts, targets: *targets })
            }
            Self::Square(SquareConfig { queries, share, restarts, .. }) => {
                Search::Square(Square { queries: *queries, share: *share, restarts: *restarts })
            }
            Self::Slowdown(config) => Search::Slowdown(Slowdown { pgd: config.pgd(), goal: config.goal }),
        }
    }

    /// What it maximises; a slow-down looks at all exits, so it counts as average.
    pub fn objective(&self) -> Target {
        match self {
            Self::Pgd(config) | Self::Cw(config) => config.objective,
            Self::Fgsm(config) => config.objective,
            Self::ApgdCe(config) | Self::ApgdDlr(config) => config.objective,
            Self::ApgdT(config) | Self::FabT(config) => config.objective,
            Self::Square(config) => config.objective,
            Self::Slowdown(_) => Target::Average,
        }
    }

    /// The same attack on another objective; a slow-down stays what it is.
    pub fn with_objective(mut self, objective: Target) -> Self {
        match &mut self {
            Self::Pgd(config) | Self::Cw(config) => config.objective = objective,
            Self::Fgsm(config) => config.objective = objective,
            Self::ApgdCe(config) | Self::ApgdDlr(config) => config.objective = objective,
            Self::ApgdT(config) | Self::FabT(config) => config.objective = objective,
            Self::Square(config) => config.objective = objective,
            Self::Slowdown(_) => {}
        }
        self
    }

    /// Passes that one image of a network with `exits` exits costs, at most.
    pub fn passes(&self, exits: usize, threat: &Threat) -> Passes {
        let once = self.search(threat).passes();
        match self.objective() {
            Target::Average | Target::Single(_) => once,
            Target::MaxAverage | Target::Policy => (once + Passes::forward(1)).times(exits),
        }
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
        // FGSM takes its only step from the threat, which has been looked at.
        if matches!(self, Self::Fgsm(_)) {
            return None;
        }
        let search = self.search(&Threat::linf(1.0));
        if search.steps() == 0 {
            let name = if matches!(self, Self::Square(_)) { "queries" } else { "steps" };
            return Some(format!("{name} = 0: an attack needs at least 1 step"));
        }
        if search.restarts() == 0 {
            return Some("restarts = 0: an attack needs at least 1 run".to_string());
        }
        if let Self::ApgdT(TargetedConfig { targets: 0, .. }) | Self::FabT(TargetedConfig { targets: 0, .. }) = self {
            return Some("targets = 0: a targeted attack needs at least 1 class".to_string());
        }
        if let Self::Square(SquareConfig { share, .. }) = self
            && !(*share > 0.0 && *share <= 1.0)
        {
            return Some(format!("share = {share}: must be above 0 and at most 1"));
        }
        let step_size = search.step_size(&Threat::linf(1.0)).filter(|size| !(size.is_finite() && *size > 0.0));
        step_size.map(|size| format!("step_size = {size}: must be a finite number larger than 0"))
    }
}
