//! Training of robust multi-exit networks, in a loop that can be left after any step and entered again.
//!
//! ```text
//! config       what is to be done, from TOML, presets and --set, checked before anything starts
//! training/    the loop, readable top to bottom, and what it leans on
//! options/     what a configuration can add to the loop, one a file
//! run/         a run on disk: directory, checkpoint, metrics, progress, the best network so far, where weights come from
//! model_file   a network in a TOML file of its own
//! ```
//!
//! The networks, attacks, losses and the evaluation live in crates of their own and can be embedded without
//! this one.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod config;
pub mod model_file;
pub mod options;
pub mod run;
pub mod training;

pub use config::RunConfig;
