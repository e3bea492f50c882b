//! Attacks on multi-exit networks: what is perturbed (threat), what is maximised (objective), how
//! (PGD), and an outcome that is audited and judged by the network, never by the attack itself.
//!
//! ```text
//! attack::run(frozen network, batch, attack, threat, key)
//!     search   PGD on one objective, or one PGD per exit and the worst of them per image
//!     audit    norm, pixel range, NaN: a violation is an error, not a number
//!     judge    one clean forward pass over the result
//! ```
//!
//! Random numbers are a function of (key, attack, restart, example), so an image's perturbation
//! does not depend on its batch. This crate touches no file and knows no data set.

mod audit;
mod batch;
mod config;
mod criterion;
pub mod fraction;
mod max_average;
mod objective;
mod passes;
mod pgd;
mod random;
mod run;
mod threat;

pub use audit::Audit;
pub use batch::Batch;
pub use config::{AttackConfig, FgsmConfig, PgdConfig, Target, ThreatConfig};
pub use criterion::Criterion;
pub use max_average::MaxAverage;
pub use objective::{Average, Objective, Single, cross_entropy};
pub use passes::Passes;
pub use pgd::Pgd;
pub use random::RandomKey;
pub use run::{Adversarial, Attack, AttackError, Outcome, perturb, run};
pub use threat::{Norm, Threat};
