//! A run on disk.

pub mod best;
pub mod checkpoint;
pub mod metrics;
pub mod origin;
pub mod progress;
pub mod run_dir;
