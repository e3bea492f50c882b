//! Multi-exit image classifiers on [Burn](burn): what a network with several exits is, what it
//! costs, and how it is frozen for attack and evaluation.
//!
//! A network implements [`MultiExit`]: it takes pixels in `[0, 1]`, runs its trunk stage by stage
//! and answers after every stage. Everything else in neokd (attacks, losses, policies, reports)
//! needs no more than that trait. [`Network`] is the closed set of backbones that a configuration
//! file can name.
//!
//! This crate knows no attack, no loss and no data set.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod activation;
mod backbone;
pub mod calibration;
mod conv_norm;
mod cost;
mod dropout;
pub mod early_exit;
mod initializer;
mod layers;
mod msdnet;
mod multi_exit;
mod network;
mod pixels;
pub mod policy;
mod rdi_resnet;
mod small_cnn;
pub mod weights;

pub use activation::Activation;
pub use backbone::Backbone;
pub use cost::{CostCounter, ExitCost};
pub use dropout::Dropout;
pub use initializer::Initializer;
pub use msdnet::{MsdNet, MsdNetConfig, Prune, Stem, StepMode};
pub use multi_exit::{ExitLogits, Features, Frozen, MultiExit};
pub use neokd_kernels::FeatureMap;
pub use network::{ModelConfig, Network};
pub use pixels::Normalization;
pub use rdi_resnet::{RdiResNet, RdiResNetConfig};
pub use small_cnn::{SmallCnn, SmallCnnConfig};
