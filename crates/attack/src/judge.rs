//! What an attack comes to: an attack is never its own judge. Its pixels are audited, and the network answers to them
//! in a forward pass of its own.

mod audit;
mod autoattack;
mod checks;
mod max_average;
mod own_objective;
mod run;
mod transfer;

pub use audit::Audit;
pub use autoattack::{AutoAttack, Fate, Spent, Standing};
pub use checks::{Check, Diagnostics, Effort, Level, Reason, Verdict, share_broken};
pub use max_average::max_average;
pub use own_objective::{Start, perturb_on};
pub use run::{Adversarial, Outcome, perturb, run};
pub use transfer::Transfer;
