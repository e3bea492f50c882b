//! The rim of neokd: everything that reads, writes, times or talks to a user.
//!
//! ```text
//! config       what is to be done, from TOML, presets and --set, checked before anything starts
//! device       which machine computes
//! batches      images of a data set as tensors, in an order that depends on (seed, epoch) alone
//! fit          the training loop, readable top to bottom
//! optimizer, schedule, checkpoint, run_dir, metrics   what the loop leans on
//! evaluate     accuracy per exit, clean and attacked
//! examples     a few images, clean and attacked, to look at
//! report       the JSON that says what came out and how it was made, and the pages that show it
//! cli          the command line
//! ```
//!
//! The networks, attacks and losses live in crates of their own and can be embedded without this one.

pub mod batches;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod device;
pub mod dynamic;
pub mod error;
pub mod evaluate;
pub mod examples;
pub mod files;
pub mod fit;
pub mod images;
pub mod interval;
pub mod metrics;
pub mod model_file;
pub mod optimizer;
pub mod pictures;
pub mod plan;
pub mod policy_file;
pub mod report;
pub mod run_dir;
pub mod schedule;
pub mod seeds;
pub mod smoke;
pub mod stop;

pub use config::RunConfig;
pub use error::Error;
