//! How accurate and how robust a multi-exit network is, image by image, with intervals, a journal and a
//! verdict.
//!
//! ```text
//! images, batches     images of a set, a tree or a file as tensors, in an order that depends on (seed, epoch) alone
//! evaluate            accuracy per exit, clean and under attacks
//! robustness          named attacks: runs, journal, worst case over the set, verdicts
//! dynamic, policy_file   what leaving early costs, and the thresholds for it
//! reliability, transfer  what confidence is worth, and how attacks carry over between exits
//! interval, accuracy  a share with its 95 % interval, of every exit
//! examples, adversarial_file   attacked images, to be looked at
//! error, files, stop, seeds    what everything above leans on: one error and exit code a cause, files that are
//!                     whole or not there, a polite stop, keys of random numbers
//! ```
//!
//! **Invariant:** knows no training, no report and no command line.

pub mod accuracy;
pub mod adversarial_file;
pub mod batches;
pub mod dynamic;
pub mod error;
pub mod evaluate;
pub mod examples;
pub mod files;
pub mod images;
pub mod interval;
pub mod policy_file;
pub mod reliability;
pub mod robustness;
pub mod seeds;
pub mod stop;
mod transfer;

pub use error::Error;

/// Version of the program that these crates make up.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
