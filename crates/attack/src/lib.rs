//! Attacks on multi-exit networks: what is perturbed (threat), what is maximised (objective), how
//! (search), and an outcome that is audited and judged by the network, never by the attack itself.
//!
//! ```text
//! attack::run(scenario, attack)     scenario: frozen network, batch, threat, key; attack: objective and search
//!     search   one search on one aim, or one per exit and the worst of them per image
//!     audit    norm, pixel range, NaN: a violation is an error, not a number
//!     judge    one clean forward pass over the result
//! AutoAttack   an ordered set of searches, each on the images that none before it broke
//! Transfer     does an attack on one exit fool the others
//! Diagnostics  is a robust accuracy to be believed: a verdict with reasons
//! ```
//!
//! `objective/` is what is attacked for, `search/` how, a file an attack, and `judge/` what it came to.
//!
//! Random numbers are a function of (key, attack, restart, example), so an image's perturbation
//! does not depend on its batch. This crate touches no file and knows no data set.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod attack;
mod batch;
mod error;
pub mod fraction;
mod judge;
mod objective;
mod passes;
mod random;
mod read;
mod scenario;
mod search;
mod threat;

pub use attack::Attack;
pub use batch::{Batch, row_numbers};
pub use error::AttackError;
pub use judge::{
    Adversarial, Audit, AutoAttack, Check, Diagnostics, Effort, Fate, Level, Outcome, Reason, Spent, Standing, Start,
    Transfer, Verdict, max_average, perturb, perturb_on, run, share_broken,
};
pub use objective::aim::Aim;
pub use objective::criterion::Criterion;
pub use objective::deployed::Deployed;
pub use objective::loss::{Loss, cross_entropy, dlr, dlr_targeted, margin};
pub use objective::slowdown_goal::SlowdownGoal;
pub use objective::{Mean, Objective};
pub use passes::{Passes, Searched};
pub use random::RandomKey;
pub use scenario::Scenario;
pub use search::{
    Apgd, ApgdCe, ApgdDlr, ApgdMargin, ApgdT, Budget, Cw, DeepFool, Fab, Fgsm, Knobs, Method, Nearest, Pgd, Search,
    Slowdown, Square,
};
pub use threat::{Norm, Threat};
