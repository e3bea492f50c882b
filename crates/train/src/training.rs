//! The training loop and what it leans on.

mod clip;
pub mod dry_run;
pub mod fit;
pub mod methods;
mod micro_batch;
pub mod optimizer;
pub mod schedule;
