//! The command `neokd`: arguments, devices, progress and printing; [`session`] puts together what the crates below do.

pub mod cli;
pub mod device;
mod gpu_cache;
pub mod pictures;
pub mod self_test;
pub mod session;
pub mod smoke;
pub mod threads;
