//! What a project of one's own implements so that training, checkpoints, evaluation and reports take its network.

use std::fmt::Debug;

use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ExitCost, ModelConfig, MultiExit, Network};

/// The settings of a network: all that has to be written down to make it again.
///
/// [`ModelConfig`] is the one that the command line knows. Implement this for settings of your own, and
/// `neokd_train::training::fit::Fit` trains, `TrainingState` saves and `Report` reports your network like any other.
pub trait Backbone: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The network that they describe.
    type Network: MultiExit + Sync;

    /// Makes the network with initial weights drawn from `seed`: the same seed, the same bits.
    fn init(&self, seed: u64, device: &Device) -> Self::Network;

    /// Number of exits of the network, at least one.
    fn exits(&self) -> usize;

    /// Number of classes that the network tells apart.
    fn classes(&self) -> usize;

    /// Shape of one image: `[channels, height, width]`.
    fn input_shape(&self) -> [usize; 3];

    /// What it costs to answer at each exit, cumulative, for one image.
    fn costs(&self) -> Vec<ExitCost>;

    /// Why these settings cannot be built, if so; the message names the key and the cure.
    fn problem(&self) -> Option<String> {
        None
    }
}

impl Backbone for ModelConfig {
    type Network = Network;

    fn init(&self, seed: u64, device: &Device) -> Network {
        self.init(seed, device)
    }

    fn exits(&self) -> usize {
        self.exits()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn input_shape(&self) -> [usize; 3] {
        self.input_shape()
    }

    fn costs(&self) -> Vec<ExitCost> {
        self.costs()
    }

    fn problem(&self) -> Option<String> {
        self.problem()
    }
}
