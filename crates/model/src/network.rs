//! The backbones that a configuration can name.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{ExitCost, Features, MultiExit, SmallCnn, SmallCnnConfig};

/// Which network, with its settings; `kind` names it in TOML.
///
/// A new backbone is one file and one variant here and in [`Network`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// The three-exit network for 28x28 grey images of Hu et al. 2020.
    SmallCnn(SmallCnnConfig),
}

impl ModelConfig {
    /// Makes the network with initial weights drawn from `seed`.
    pub fn init(&self, seed: u64, device: &Device) -> Network {
        match self {
            Self::SmallCnn(config) => Network::SmallCnn(config.init(seed, device)),
        }
    }

    /// Number of exits of the network.
    pub fn exits(&self) -> usize {
        match self {
            Self::SmallCnn(_) => SmallCnnConfig::EXITS,
        }
    }

    /// Number of classes that the network tells apart.
    pub fn classes(&self) -> usize {
        match self {
            Self::SmallCnn(config) => config.classes,
        }
    }

    /// Shape of one image: `[channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 3] {
        match self {
            Self::SmallCnn(_) => SmallCnnConfig::INPUT,
        }
    }

    /// Names of our layers beside those of the original PyTorch code.
    pub fn pytorch_names(&self) -> Vec<(String, String)> {
        match self {
            Self::SmallCnn(_) => SmallCnnConfig::PYTORCH_NAMES,
        }
        .iter()
        .map(|(ours, theirs)| (ours.to_string(), theirs.to_string()))
        .collect()
    }

    /// Why this configuration cannot be built, if so; the message names the key.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::SmallCnn(config) => {
                if config.classes < 2 {
                    return Some(format!("model.classes = {}: a classifier needs at least 2", config.classes));
                }
                if !(0.0..1.0).contains(&config.dropout) {
                    return Some(format!("model.dropout = {}: must be in [0, 1)", config.dropout));
                }
                config.normalization.problem(1).map(|why| format!("model.{why}"))
            }
        }
    }
}

/// A network of one of the kinds of [`ModelConfig`].
#[derive(Module, Debug)]
pub enum Network {
    /// See [`SmallCnn`].
    SmallCnn(SmallCnn),
}

macro_rules! each {
    ($network:expr, $inner:ident => $body:expr) => {
        match $network {
            Network::SmallCnn($inner) => $body,
        }
    };
}

impl MultiExit for Network {
    fn exits(&self) -> usize {
        each!(self, network => network.exits())
    }

    fn classes(&self) -> usize {
        each!(self, network => network.classes())
    }

    fn input_shape(&self) -> [usize; 3] {
        each!(self, network => network.input_shape())
    }

    fn costs(&self) -> Vec<ExitCost> {
        each!(self, network => network.costs())
    }

    fn enter(&self, pixels: Tensor<4>) -> Features {
        each!(self, network => network.enter(pixels))
    }

    fn advance(&self, features: Features, stage: usize) -> Features {
        each!(self, network => network.advance(features, stage))
    }

    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        each!(self, network => network.head(features, exit))
    }

    fn reseed(&self, key: u64) {
        each!(self, network => network.reseed(key))
    }
}
