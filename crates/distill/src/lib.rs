//! Training losses over the exits of a multi-exit network.
//!
//! A loss takes the logits of all exits on the clean and on the adversarial batch and gives named
//! terms, one value per exit each, so that a training log can say where the loss comes from. Logits
//! are plain `[batch, classes]` tensors: this crate knows no network, no attack and no file.
//!
//! The reference for the formulas is the NEO-KD paper (Ham et al., NeurIPS 2023, arXiv 2311.00428);
//! where its text leaves a question open, the choice made here is an option with a documented default.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod adversarial;
mod ard;
mod config;
mod distillation;
mod entropy;
mod exit_loss;
mod lw;
mod mart;
mod neo_kd;
mod partition;
mod self_distillation;
mod teacher;
mod temporal;
mod terms;
mod trades;

pub use adversarial::AdversarialTraining;
pub use ard::{Ard, ArdConfig};
pub use config::LossConfig;
pub use distillation::Averaged;
pub use entropy::{cross_entropy, divergence, soft_cross_entropy};
pub use exit_loss::{Draw, ExitLoss, LossInput, Memory, Remember};
pub use lw::Lw;
pub use mart::Mart;
pub use neo_kd::{NeoKd, NeoKdConfig};
pub use partition::{Leftovers, NOBODY, Partition, PartitionConfig, Redrawn, TRUE_CLASS, orthogonal_labels};
pub use self_distillation::{Skd, SkdConfig};
pub use teacher::Teacher;
pub use temporal::{Ensembling, PgdTe, TradesTe};
pub use terms::{LossTerms, Term};
pub use trades::Trades;
