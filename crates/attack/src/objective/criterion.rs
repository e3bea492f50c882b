//! What counts as broken.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::ExitLogits;
use neokd_model::policy::Policy;

use super::aim::Aim;
use super::answers::{all_wrong, any_wrong, average_wrong, ensemble_wrong, one_wrong};
use super::deployed::Deployed;

/// When an image counts as broken, given the answers of the exits.
#[derive(Clone, Debug, PartialEq)]
pub enum Criterion {
    /// This exit answers wrong.
    Exit(usize),
    /// At least one exit answers wrong.
    AnyExit,
    /// Every exit answers wrong.
    AllExits,
    /// The mean of all exits' log-probabilities answers wrong: what the average attack maximises, up to a
    /// normaliser, as their mean cross-entropy is the true class's share of it. An image can be so broken with
    /// some exits right, and need not be with all wrong.
    Average,
    /// The mean of all exits' probabilities answers wrong.
    Ensemble,
    /// The deployed system answers wrong: the exit at which this policy lets the image leave.
    Policy(Policy),
}

impl Criterion {
    /// Which images are broken.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    ///
    /// # Panics
    /// If the logits of the exit in question were not computed; all but [`Exit`](Self::Exit) look at
    /// all exits.
    pub fn broken(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
        match self {
            Self::Exit(exit) => one_wrong(*exit, logits, labels),
            Self::AnyExit => any_wrong(logits, labels),
            Self::AllExits => all_wrong(logits, labels),
            Self::Average => average_wrong(logits, labels),
            Self::Ensemble => ensemble_wrong(logits, labels),
            Self::Policy(policy) => deployed(policy, logits.exits().len()).broken(logits, labels),
        }
    }

    /// The searches that together try everything that would break an image: any exit, for example,
    /// is broken by breaking one of them.
    pub fn aims(&self, exits: usize, classes: usize) -> Vec<Aim> {
        match self {
            Self::Exit(exit) => vec![Aim::Exit(*exit)],
            Self::AnyExit => (0..exits).map(Aim::Exit).collect(),
            Self::AllExits | Self::Average => vec![Aim::Average],
            Self::Ensemble => vec![Aim::Ensemble],
            Self::Policy(policy) => {
                let system = deployed(policy, exits);
                let leave = |exit| Aim::Leave { deployed: system.clone(), exit };
                system.reachable(classes).into_iter().map(leave).collect()
            }
        }
    }

    /// Why it makes no sense for a network with `exits` exits, if so.
    pub fn problem(&self, exits: usize) -> Option<String> {
        match self {
            Self::Exit(exit) if *exit >= exits => {
                Some(format!("exit {exit}: the network has {exits} exits, numbered 0 to {}", exits - 1))
            }
            Self::Policy(policy) => policy.problem(exits),
            _ => None,
        }
    }
}

fn deployed(policy: &Policy, exits: usize) -> Deployed {
    Deployed { policy: policy.clone(), exits }
}
