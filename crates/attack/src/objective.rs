//! What an attack is to achieve, in the user's words, and what that means: when an image counts as broken
//! ([`Criterion`]), and what the searches are aimed at ([`Aim`]).

pub(crate) mod aim;
pub(crate) mod answers;
pub(crate) mod criterion;
pub(crate) mod deployed;
pub(crate) mod loss;
pub(crate) mod slowdown_goal;

use std::fmt;
use std::str::FromStr;

use neokd_model::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::error::AttackError;
use aim::Aim;
use criterion::Criterion;

/// What an attack maximises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Objective {
    /// One exit's own loss, the exit counted from 0; written `single:1` (Hu et al. 2020; docs/papers/neo-kd.md 1.1).
    Single(usize),
    /// The mean loss of all exits; written `average` (docs/papers/neo-kd.md 1.1).
    Average,
    /// One attack per exit, the worst on average per image; written `max-average`.
    #[default]
    MaxAverage,
    /// The answer of the deployed early-exit system, its thresholds included: the worst exit that can
    /// be reached under them; written `policy`.
    Policy,
}

/// What the average of the exits is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// Of their losses: broken where the mean log-probability is wrong, which is what the mean loss is of.
    Losses,
    /// Of their probabilities, for an attack that needs one answer per image (docs/papers/neo-kd.md 4.4): broken where
    /// that is wrong.
    Answers,
}

impl Objective {
    /// What counts as broken. Max-average has what breaks any exit.
    ///
    /// # Errors
    /// [`AttackError::NoPolicy`] if the policy is the objective and there is none.
    pub fn criterion(self, mean: Mean, policy: Option<&Policy>) -> Result<Criterion, AttackError> {
        Ok(match (self, mean) {
            (Self::Single(exit), _) => Criterion::Exit(exit),
            (Self::Average, Mean::Losses) => Criterion::Average,
            (Self::Average, Mean::Answers) => Criterion::Ensemble,
            (Self::MaxAverage, _) => Criterion::AnyExit,
            (Self::Policy, _) => Criterion::Policy(policy.cloned().ok_or(AttackError::NoPolicy)?),
        })
    }

    /// What the searches are aimed at on a network with so many exits and classes, one search an aim.
    ///
    /// # Errors
    /// [`AttackError::NoSuchExit`], [`AttackError::NoPolicy`], or [`AttackError::Misfit`] for a policy that does not
    /// fit the network.
    pub fn aims(
        self,
        mean: Mean,
        policy: Option<&Policy>,
        exits: usize,
        classes: usize,
    ) -> Result<Vec<Aim>, AttackError> {
        let criterion = self.criterion(mean, policy)?;
        match (self, criterion.problem(exits)) {
            (Self::Single(exit), Some(_)) => Err(AttackError::NoSuchExit { exit, exits }),
            (_, Some(why)) => Err(AttackError::Misfit(why)),
            (_, None) => Ok(criterion.aims(exits, classes)),
        }
    }

    /// How many searches it takes on a network with so many exits, at most.
    pub(crate) fn searches(self, exits: usize) -> usize {
        match self {
            Self::Single(_) | Self::Average => 1,
            Self::MaxAverage | Self::Policy => exits,
        }
    }

    /// Why it makes no sense for a network with `exits` exits, if so: key, value and cure.
    pub fn problem(self, exits: usize) -> Option<String> {
        let Self::Single(exit) = self else { return None };
        (exit >= exits).then(|| {
            format!("objective = \"single:{exit}\": the network has {exits} exits, numbered 0 to {}", exits - 1)
        })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(exit) => write!(out, "single:{exit}"),
            Self::Average => out.write_str("average"),
            Self::MaxAverage => out.write_str("max-average"),
            Self::Policy => out.write_str("policy"),
        }
    }
}

impl FromStr for Objective {
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

impl TryFrom<String> for Objective {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Objective> for String {
    fn from(objective: Objective) -> Self {
        objective.to_string()
    }
}
