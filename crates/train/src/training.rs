//! The training loop and what it leans on.

mod clip;
pub mod fit;
mod lesson;
pub mod methods;
pub mod optimizer;
pub mod plan;
pub mod schedule;
