//! Properties of networks and attacks that hold for any weights.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod attacks;
mod cases;
mod losses;
mod networks;
mod options;
mod training;
