//! MSDNet: multi-scale dense networks (Huang et al., ICLR 2018), as the public PyTorch code builds
//! them.
//!
//! ```text
//! scale 0   stem -- layer -- layer -- | (dropped)
//!             \        \        \        \
//! scale 1   stem -- layer -- layer -- | layer -- transition -- layer ...
//!             \        \        \        \
//! scale 2   stem -- layer -- layer -- | layer -- transition -- layer ...
//!                              |                                  |
//!                            head 0                             head 1
//! ```
//!
//! Every layer adds channels to each scale: from the scale itself and, strided, from the next finer
//! one. Heads read the coarsest scale only. On the way the finest scales are dropped, one at a time,
//! and transitions reduce the channels of those that stay.

mod config;
mod cost;
mod layers;
mod names;
mod network;
mod plan;
#[cfg(test)]
mod tests;

pub use config::{MsdNetConfig, Prune, Stem, StepMode};
pub use network::MsdNet;
