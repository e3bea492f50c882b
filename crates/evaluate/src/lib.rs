//! How accurate and how robust a multi-exit network is, image by image, with intervals, a journal and a
//! verdict.
//!
//! ```text
//! images, batches     images of a set, a tree or a file as tensors, in an order that depends on (seed, epoch) alone
//! attack_run          what is asked for: one attack on one objective at one radius
//! evaluation          the engine: every run on every image, a bit per image, exit and run
//! outcome, bits       those bits, and what follows from them
//! journal             finished batches in a file, from which an interrupted evaluation goes on
//! shard, merge        the same in parts, on several machines
//! verdict             whether the numbers are to be believed
//! dynamic, policy_file   what leaving early costs, and the thresholds for it
//! reliability, accuracy, interval   what confidence is worth, of every exit, with 95 % intervals
//! examples, adversarial_file   attacked images, to be looked at
//! error, files, lock, stop, seeds   what everything above leans on: one error and exit code a cause, files that are
//!                     whole or not there, one writer at a time, a polite stop, keys of random numbers
//! ```
//!
//! **Invariant:** knows no training, no report and no command line.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod accuracy;
pub mod adversarial_file;
pub mod attack_run;
pub mod batches;
mod bits;
pub mod dynamic;
pub mod error;
pub mod evaluation;
pub mod examples;
pub mod files;
pub mod images;
pub mod interval;
pub mod journal;
pub mod lock;
pub mod merge;
mod outcome;
pub mod policy_file;
pub mod reliability;
pub mod seeds;
pub mod shard;
pub mod stop;
mod verdict;

pub use bits::Bits;
pub use error::Error;
pub use evaluation::{Checked, Evaluation, Progress, Scored};
pub use outcome::{Answers, ImageOutcomes, Leaving, PerImage};

/// Version of the program that these crates make up.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
