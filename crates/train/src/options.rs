//! What a configuration can add to the training loop, one option a file.

pub mod awp;
pub mod cutmix;
pub mod ema;
pub mod predictions;
pub mod probe;
pub mod targets;
pub mod training_attack;
