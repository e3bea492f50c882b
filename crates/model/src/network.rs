//! The backbones that a configuration can name.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    ExitCost, Features, MsdNet, MsdNetConfig, MultiExit, RdiResNet, RdiResNetConfig, SmallCnn, SmallCnnConfig,
};

/// Parameters beyond which a configuration is taken for a mistake: 4 GiB of 32-bit floats.
const MOST_PARAMETERS: u64 = 1 << 30;

/// Which network, with its settings; `kind` names it in TOML.
///
/// A new backbone is one file and one variant here and in [`Network`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// The three-exit network for 28x28 grey images of Hu et al. 2020.
    SmallCnn(SmallCnnConfig),
    /// Multi-scale dense networks of Huang et al. 2018, three channels, any number of exits.
    #[serde(rename = "msdnet")]
    MsdNet(MsdNetConfig),
    /// The seven-exit residual network for CIFAR-10 of Hu et al. 2020.
    #[serde(rename = "rdi-resnet")]
    RdiResNet(RdiResNetConfig),
}

impl ModelConfig {
    /// Makes the network with initial weights drawn from `seed`.
    ///
    /// # Panics
    /// If the configuration has a [`problem`](Self::problem).
    pub fn init(&self, seed: u64, device: &Device) -> Network {
        match self {
            Self::SmallCnn(config) => Network::SmallCnn(config.init(seed, device)),
            Self::MsdNet(config) => Network::MsdNet(config.init(seed, device)),
            Self::RdiResNet(config) => Network::RdiResNet(config.init(seed, device)),
        }
    }

    /// Number of exits of the network.
    pub fn exits(&self) -> usize {
        match self {
            Self::SmallCnn(_) => SmallCnnConfig::EXITS,
            Self::MsdNet(config) => config.blocks,
            Self::RdiResNet(_) => RdiResNetConfig::EXITS,
        }
    }

    /// Number of classes that the network tells apart.
    pub fn classes(&self) -> usize {
        match self {
            Self::SmallCnn(config) => config.classes,
            Self::MsdNet(config) => config.classes,
            Self::RdiResNet(config) => config.classes,
        }
    }

    /// Shape of one image: `[channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 3] {
        match self {
            Self::SmallCnn(_) => SmallCnnConfig::INPUT,
            Self::MsdNet(config) => [3, config.image, config.image],
            Self::RdiResNet(_) => RdiResNetConfig::INPUT,
        }
    }

    /// Names of our layers beside those of the original PyTorch code.
    pub fn pytorch_names(&self) -> Vec<(String, String)> {
        match self {
            Self::SmallCnn(config) => config.pytorch_names(),
            Self::MsdNet(config) => config.pytorch_names(),
            Self::RdiResNet(config) => config.pytorch_names(),
        }
    }

    /// What it costs to answer at each exit, cumulative, for one image; known before the network is
    /// made. Asks for a configuration without a [`problem`](Self::problem).
    pub fn costs(&self) -> Vec<ExitCost> {
        match self {
            Self::SmallCnn(config) => config.costs(),
            Self::MsdNet(config) => config.costs(),
            Self::RdiResNet(config) => config.costs(),
        }
    }

    /// Why this configuration cannot be built, if so; the message names the key and the cure.
    pub fn problem(&self) -> Option<String> {
        let own = match self {
            Self::SmallCnn(config) => config.problem(),
            Self::MsdNet(config) => config.problem(),
            Self::RdiResNet(config) => config.problem(),
        };
        own.map(|why| format!("model.{why}")).or_else(|| self.size_problem())
    }

    fn size_problem(&self) -> Option<String> {
        let parameters = self.costs().last().map_or(0, |cost| cost.parameters);
        (parameters > MOST_PARAMETERS).then(|| {
            format!("model has {parameters} parameters, more than {MOST_PARAMETERS}: give it fewer channels or classes")
        })
    }
}

/// A network of one of the kinds of [`ModelConfig`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one network, not a list of them, and no Box is a module")]
pub enum Network {
    /// See [`SmallCnn`].
    SmallCnn(SmallCnn),
    /// See [`MsdNet`].
    MsdNet(MsdNet),
    /// See [`RdiResNet`].
    RdiResNet(RdiResNet),
}

macro_rules! each {
    ($network:expr, $inner:ident => $body:expr) => {
        match $network {
            Network::SmallCnn($inner) => $body,
            Network::MsdNet($inner) => $body,
            Network::RdiResNet($inner) => $body,
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

    fn folded(self) -> Self {
        match self {
            Self::SmallCnn(network) => Self::SmallCnn(network.folded()),
            Self::MsdNet(network) => Self::MsdNet(network.folded()),
            Self::RdiResNet(network) => Self::RdiResNet(network.folded()),
        }
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
    fn head_weights(&self) -> Vec<Tensor<2>> {
        each!(self, network => network.head_weights())
    }
}
