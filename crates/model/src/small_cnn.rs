//! SmallCNN: the three-exit network for MNIST of Hu et al. 2020 ("Triple Wins", `mnist/models`).
//!
//! ```text
//! pixels 1x28x28
//!   conv 1->32, ReLU ................. exit 1: conv 32->16 stride 2, max-pool 2, linear 576->200, dropout, 200->200, 200->K
//!   conv 32->32, ReLU, max-pool 2
//!   conv 32->64, ReLU ................ exit 2: max-pool 2, linear 1600->200, dropout, 200->200, 200->K
//!   conv 64->64, ReLU, max-pool 2 .... exit 3: linear 1024->200, ReLU, dropout, 200->200, ReLU, 200->K
//! ```
//!
//! All convolutions are 3x3 with bias and without padding. Exits 1 and 2 hold no activation, as in
//! the public code.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use neokd_kernels::max_pool_2x2;
use serde::{Deserialize, Serialize};

use crate::layers::{convolve, convolve_active};
use crate::{Activation, CostCounter, Dropout, ExitCost, Features, Initializer, MultiExit, Normalization};

const HIDDEN: usize = 200;

/// Configuration of [`SmallCnn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmallCnnConfig {
    /// Number of classes.
    pub classes: usize,
    /// Pixel normalisation; none in the public code.
    pub normalization: Normalization,
    /// Dropout probability inside the heads; 0.5 in the public code.
    pub dropout: f64,
    /// What follows convolutions, and hidden layers of exit 3; `relu` in the public code.
    pub activation: Activation,
}

impl Default for SmallCnnConfig {
    fn default() -> Self {
        Self { classes: 10, normalization: Normalization::None, dropout: 0.5, activation: Activation::Relu }
    }
}

impl SmallCnnConfig {
    /// Number of exits.
    pub const EXITS: usize = 3;

    /// Shape of one image: `[channels, height, width]`.
    pub const INPUT: [usize; 3] = [1, 28, 28];

    /// Names of our layers and of the same layers in the public PyTorch code.
    pub const PYTORCH_NAMES: &'static [(&'static str, &'static str)] = &[
        ("conv1", "conv1"),
        ("conv2", "conv2"),
        ("conv3", "conv3"),
        ("conv4", "conv4"),
        ("exit1.conv", "branch_layer1.0"),
        ("exit1.head.fc1", "branch_layer1.3"),
        ("exit1.head.fc2", "branch_layer1.5"),
        ("exit1.head.fc3", "branch_layer1.6"),
        ("exit2.fc1", "branch_layer2.2"),
        ("exit2.fc2", "branch_layer2.4"),
        ("exit2.fc3", "branch_layer2.5"),
        ("exit3.fc1", "fc1"),
        ("exit3.fc2", "fc2"),
        ("exit3.fc3", "fc3"),
    ];

    /// A network with initial weights drawn from `seed`: convolutions Kaiming-normal with zero
    /// bias, the last linear layer of exit 3 zero, the other linear layers as PyTorch does.
    pub fn init(&self, seed: u64, device: &Device) -> SmallCnn {
        let mut layers = Initializer::new(seed, device);
        let (conv1, conv2) = (layers.kaiming_convolution([1, 32], 3, 1), layers.kaiming_convolution([32, 32], 3, 1));
        let (conv3, conv4) = (layers.kaiming_convolution([32, 64], 3, 1), layers.kaiming_convolution([64, 64], 3, 1));
        let exit1 =
            ConvolutionalExit { conv: layers.kaiming_convolution([32, 16], 3, 2), head: self.head(&mut layers, 576) };
        let exit2 = self.head(&mut layers, 1600);
        let mut exit3 = self.head(&mut layers, 1024);
        exit3.fc3 = layers.zero_linear(HIDDEN, self.classes);
        let config = self.clone();
        SmallCnn { config, conv1, conv2, conv3, conv4, exit1, exit2, exit3 }
    }

    /// Why this configuration cannot be built, if so; the message names the key.
    pub fn problem(&self) -> Option<String> {
        if self.classes < 2 {
            return Some(format!("classes = {}: a classifier needs at least 2", self.classes));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Some(format!("dropout = {}: must be in [0, 1)", self.dropout));
        }
        self.normalization.problem(1)
    }

    /// Names of our layers beside those of the public PyTorch code.
    pub fn pytorch_names(&self) -> Vec<(String, String)> {
        Self::PYTORCH_NAMES.iter().map(|(ours, theirs)| (ours.to_string(), theirs.to_string())).collect()
    }

    /// Cumulative cost per exit.
    pub fn costs(&self) -> Vec<ExitCost> {
        let classes = self.classes;
        let mut cost = CostCounter::new();
        let head = |cost: &mut CostCounter, inputs| {
            cost.linear(inputs, HIDDEN).linear(HIDDEN, HIDDEN).linear(HIDDEN, classes);
        };

        cost.convolution([1, 32], 3, [26, 26], true).relu(32 * 26 * 26);
        cost.convolution([32, 16], 3, [12, 12], true).pool(2, 16 * 6 * 6);
        head(&mut cost, 576);
        cost.exit();

        cost.convolution([32, 32], 3, [24, 24], true).relu(32 * 24 * 24).pool(2, 32 * 12 * 12);
        cost.convolution([32, 64], 3, [10, 10], true).relu(64 * 10 * 10);
        cost.pool(2, 64 * 5 * 5);
        head(&mut cost, 1600);
        cost.exit();

        cost.convolution([64, 64], 3, [8, 8], true).relu(64 * 8 * 8).pool(2, 64 * 4 * 4);
        cost.linear(1024, HIDDEN).relu(HIDDEN).linear(HIDDEN, HIDDEN).relu(HIDDEN).linear(HIDDEN, classes);
        cost.exit();
        cost.into_costs()
    }

    fn head(&self, layers: &mut Initializer, inputs: usize) -> Head {
        Head {
            fc1: layers.linear(inputs, HIDDEN),
            fc2: layers.linear(HIDDEN, HIDDEN),
            fc3: layers.linear(HIDDEN, self.classes),
            dropout: Dropout::new(self.dropout),
        }
    }
}

/// The three-exit network of this file.
#[derive(Module, Debug)]
pub struct SmallCnn {
    #[module(skip)]
    config: SmallCnnConfig,
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    conv4: Conv2d,
    exit1: ConvolutionalExit,
    exit2: Head,
    exit3: Head,
}

#[derive(Module, Debug)]
struct ConvolutionalExit {
    conv: Conv2d,
    head: Head,
}

#[derive(Module, Debug)]
struct Head {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
    dropout: Dropout,
}

impl Head {
    fn linear(&self, map: Tensor<4>) -> Tensor<2> {
        let hidden = self.dropout.forward(self.fc1.forward(map.flatten(1, 3)));
        self.fc3.forward(self.fc2.forward(hidden))
    }

    fn with_activations(&self, map: Tensor<4>, activation: Activation) -> Tensor<2> {
        let hidden = self.dropout.forward(activation.apply(self.fc1.forward(map.flatten(1, 3))));
        self.fc3.forward(activation.apply(self.fc2.forward(hidden)))
    }
}

impl MultiExit for SmallCnn {
    fn exits(&self) -> usize {
        SmallCnnConfig::EXITS
    }

    fn classes(&self) -> usize {
        self.config.classes
    }

    fn input_shape(&self) -> [usize; 3] {
        SmallCnnConfig::INPUT
    }

    fn enter(&self, pixels: Tensor<4>) -> Features {
        Features::single(self.config.normalization.apply(pixels))
    }

    fn advance(&self, features: Features, stage: usize) -> Features {
        let map = features.into_single();
        let active = |layer: &Conv2d, map| convolve_active(layer, map, self.config.activation);
        Features::single(match stage {
            0 => active(&self.conv1, map),
            1 => active(&self.conv3, max_pool_2x2(active(&self.conv2, map))),
            _ => max_pool_2x2(active(&self.conv4, map)),
        })
    }

    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        let map = features.clone().into_single();
        match exit {
            0 => self.exit1.head.linear(max_pool_2x2(convolve(&self.exit1.conv, map))),
            1 => self.exit2.linear(max_pool_2x2(map)),
            _ => self.exit3.with_activations(map, self.config.activation),
        }
    }

    fn reseed(&self, key: u64) {
        // Distinct keys keep the three heads' masks independent of each other.
        for (index, head) in [&self.exit1.head, &self.exit2, &self.exit3].into_iter().enumerate() {
            head.dropout.reseed(key.wrapping_mul(SmallCnnConfig::EXITS as u64).wrapping_add(index as u64));
        }
    }

    fn head_weights(&self) -> Vec<Tensor<2>> {
        [&self.exit1.head, &self.exit2, &self.exit3].map(|head| head.fc3.weight.val()).into()
    }

    fn costs(&self) -> Vec<ExitCost> {
        self.config.costs()
    }
}
