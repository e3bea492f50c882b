//! Attacks on multi-exit networks: what is perturbed (threat), what is maximised (target), how
//! (search), and an outcome that is audited and judged by the network, never by the attack itself.
//!
//! ```text
//! attack::run(frozen network, batch, attack, threat, key)
//!     search   one search on one aim, or one per exit and the worst of them per image
//!     audit    norm, pixel range, NaN: a violation is an error, not a number
//!     judge    one clean forward pass over the result
//! AutoAttack   an ordered set of searches, each on the images that none before it broke
//! Transfer     does an attack on one exit fool the others
//! Diagnostics  is a robust accuracy to be believed: a verdict with reasons
//! ```
//!
//! Random numbers are a function of (key, attack, restart, example), so an image's perturbation
//! does not depend on its batch. This crate touches no file and knows no data set.

mod aim;
mod apgd;
mod ascent;
mod audit;
mod autoattack;
mod batch;
mod checks;
mod config;
mod criterion;
mod cw;
mod deployed;
mod fab;
pub mod fraction;
mod loss;
mod max_average;
mod objective;
mod passes;
mod pgd;
mod random;
mod run;
mod search;
mod slowdown;
mod square;
mod survivors;
mod threat;
mod transfer;

pub use aim::Aim;
pub use apgd::{Apgd, ApgdLoss};
pub use audit::Audit;
pub use autoattack::{AutoAttack, Fate, Spent, Standing};
pub use batch::Batch;
pub use checks::{Check, Diagnostics, Effort, Level, Reason, Verdict};
pub use config::{
    ApgdConfig, AttackConfig, FgsmConfig, PgdConfig, SlowdownConfig, SquareConfig, Target, TargetedConfig, ThreatConfig,
};
pub use criterion::Criterion;
pub use cw::Cw;
pub use deployed::Deployed;
pub use fab::{Fab, Nearest};
pub use loss::{Loss, cross_entropy, dlr, dlr_targeted, margin};
pub use max_average::max_average;
pub use objective::{Average, Objective, Single};
pub use passes::Passes;
pub use pgd::Pgd;
pub use random::RandomKey;
pub use run::{Adversarial, AnyAttack, Attack, AttackError, Outcome, perturb, run, run_all};
pub use search::Search;
pub use slowdown::{Slowdown, SlowdownGoal};
pub use square::Square;
pub use threat::{Norm, Threat};
pub use transfer::Transfer;
