//! The rim of neokd: everything that reads, writes, times or talks to a user.
//!
//! ```text
//! config       what is to be done, from TOML, presets and --set, checked before anything starts
//! device       which machine computes
//! batches      images of a data set as tensors, in an order that depends on (seed, epoch) alone
//! fit          the training loop, readable top to bottom
//! optimizer, schedule, checkpoint, run_dir, metrics   what the loop leans on
//! training_attack, awp, cutmix, targets, ema, best, probe   options of the loop, one a file
//! evaluate     accuracy per exit, clean and attacked
//! dynamic, reliability   what leaving early costs, and what confidence is worth
//! robustness   named attacks on images: runs, journal, worst case, verdict
//! adversarial_file   their images, to be looked at again
//! examples     a few images, clean and attacked, to look at
//! report       the JSON that says what came out and how it was made, and the pages that show it
//! compare      the reports of several methods side by side
//! cli          the command line
//! ```
//!
//! The networks, attacks and losses live in crates of their own and can be embedded without this one.

pub mod adversarial_file;
pub mod awp;
pub mod batches;
pub mod best;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod config;
pub mod cutmix;
pub mod device;
pub mod dynamic;
pub mod ema;
pub mod error;
pub mod evaluate;
pub mod examples;
pub mod files;
pub mod fit;
pub mod images;
pub mod interval;
mod lesson;
pub mod metrics;
pub mod model_file;
pub mod optimizer;
pub mod pictures;
pub mod plan;
pub mod policy_file;
pub mod predictions;
pub mod probe;
pub mod reliability;
pub mod report;
pub mod robustness;
pub mod run_dir;
pub mod schedule;
pub mod seeds;
pub mod smoke;
pub mod stop;
pub mod targets;
pub mod threads;
pub mod training_attack;
mod transfer;

pub use config::RunConfig;
pub use error::Error;
