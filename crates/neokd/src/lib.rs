//! The command `neokd`: arguments, devices, progress and printing; what it does is in the crates below.

pub mod cli;
pub mod device;
pub mod pictures;
pub mod self_test;
pub mod smoke;
pub mod threads;
