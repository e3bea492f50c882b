//! RDI-ResNet: the seven-exit residual network for CIFAR-10 of Hu et al. 2020 ("Triple Wins",
//! `cifar/models`).
//!
//! ```text
//! pixels 3x32x32, conv 3->16
//!   n residual blocks of 16 channels, 32x32 ... exits 1, 2: max-pool 2, conv 5x5 16->64, ReLU,
//!                                                           max-pool 2, conv 3x3 64->32, mean, linear
//!   n residual blocks of 32 channels, 16x16 ... exits 3, 4: max-pool 2, residual block, mean, linear
//!   n residual blocks of 64 channels, 8x8 ..... exits 5, 6: mean, linear
//!                                               exit 7:     mean, linear
//! ```
//!
//! The depth is `6n + 2`. In each third, exits stand behind the blocks numbered `floor(n / 4)` and
//! `floor(3n / 4)`, counted from 0. Convolutions have no bias and a batch-norm behind each; there is
//! no ReLU behind the last convolution of exits 1 and 2, as in the public code.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use neokd_kernels::max_pool_2x2;
use serde::{Deserialize, Serialize};

use crate::conv_norm::{ConvNorm, count_conv_norm, count_conv_norm_relu};
use crate::{Activation, CostCounter, ExitCost, Features, Initializer, MultiExit, Normalization};

const EXITS: usize = 7;
/// Channels and map size of each third of the trunk.
const THIRDS: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];
/// Map size behind the pooling of exits 1 to 4 and of the last third.
const HEAD_SIZE: usize = 8;
/// Channels inside exits 1 and 2.
const EARLY_CHANNELS: [usize; 2] = [64, 32];
/// The deepest residual network for CIFAR-10 of He et al. 2016.
const LARGEST_DEPTH: usize = 1202;

/// Configuration of [`RdiResNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RdiResNetConfig {
    /// Number of weighted layers of the trunk, `6n + 2` with `n` at least 2; 38, 74 and 110 in the
    /// public code.
    pub depth: usize,
    /// Number of classes.
    pub classes: usize,
    /// Pixel normalisation; none in the published networks.
    pub normalization: Normalization,
    /// What follows batch-norms and sums; `relu` in the published networks.
    pub activation: Activation,
}

impl Default for RdiResNetConfig {
    fn default() -> Self {
        Self { depth: 38, classes: 10, normalization: Normalization::None, activation: Activation::Relu }
    }
}

impl RdiResNetConfig {
    /// Number of exits.
    pub const EXITS: usize = EXITS;

    /// Shape of one image: `[channels, height, width]`.
    pub const INPUT: [usize; 3] = [3, 32, 32];

    /// A network with initial weights drawn from `seed` as in the public code: convolutions normal
    /// with standard deviation `sqrt(2 / (kernel^2 * outputs))`, linear layers as PyTorch does.
    ///
    /// # Panics
    /// If the configuration has a [`problem`](Self::problem).
    pub fn init(&self, seed: u64, device: &Device) -> RdiResNet {
        let mut layers = Initializer::new(seed, device).with_activation(self.activation);
        let stem = convolution(&mut layers, [3, THIRDS[0].0], 3, 1);
        let blocks = self.block_plans().into_iter().map(|plan| ResidualBlock::new(plan, &mut layers)).collect();
        let early = (0..2).map(|_| EarlyHead::new(self.classes, &mut layers)).collect();
        let middle = (0..2).map(|_| MiddleHead::new(self.classes, &mut layers)).collect();
        let late = (0..3).map(|_| layers.linear(THIRDS[2].0, self.classes)).collect();
        RdiResNet { config: self.clone(), stem, blocks, early, middle, late }
    }

    /// Why this configuration cannot be built, if so; the message names the key and the cure.
    pub fn problem(&self) -> Option<String> {
        if !(14..=LARGEST_DEPTH).contains(&self.depth) || self.depth % 6 != 2 {
            return Some(format!(
                "depth = {}: must be 6n + 2 with n at least 2, for example 38, 74 or 110, and at most {LARGEST_DEPTH}",
                self.depth
            ));
        }
        if self.classes < 2 {
            return Some(format!("classes = {}: a classifier needs at least 2", self.classes));
        }
        self.normalization.problem(3)
    }

    /// Cumulative cost per exit.
    pub fn costs(&self) -> Vec<ExitCost> {
        let mut cost = CostCounter::new();
        count_conv_norm_relu(&mut cost, [3, THIRDS[0].0], 3, THIRDS[0].1);
        let (plans, stages) = (self.block_plans(), self.stages());
        for exit in 0..EXITS {
            plans[stages[exit]..stages[exit + 1]].iter().for_each(|plan| plan.count(&mut cost));
            self.count_head(&mut cost, exit);
            cost.exit();
        }
        cost.into_costs()
    }

    fn count_head(&self, cost: &mut CostCounter, exit: usize) {
        let area = HEAD_SIZE * HEAD_SIZE;
        let channels = match exit {
            0 | 1 => {
                let ([first, second], inputs) = (EARLY_CHANNELS, THIRDS[0].0);
                cost.pool(2, inputs * 4 * area);
                count_conv_norm_relu(cost, [inputs, first], 5, 2 * HEAD_SIZE);
                cost.pool(2, first * area);
                count_conv_norm(cost, [first, second], 3, HEAD_SIZE);
                second
            }
            2 | 3 => {
                let channels = THIRDS[1].0;
                cost.pool(2, channels * area);
                BlockPlan { channels: [channels, channels], size: HEAD_SIZE, stride: 1 }.count(cost);
                channels
            }
            _ => THIRDS[2].0,
        };
        cost.pool(HEAD_SIZE, channels).linear(channels, self.classes);
    }

    /// Residual blocks in each third.
    fn third(&self) -> usize {
        (self.depth - 2) / 6
    }

    fn block_plans(&self) -> Vec<BlockPlan> {
        let block = |number: usize| {
            let third = number / self.third();
            let (channels, size) = THIRDS[third];
            match number % self.third() {
                0 if third > 0 => BlockPlan { channels: [THIRDS[third - 1].0, channels], size, stride: 2 },
                _ => BlockPlan { channels: [channels, channels], size, stride: 1 },
            }
        };
        (0..3 * self.third()).map(block).collect()
    }

    /// Where stages begin and end: stage `i` is the residual blocks from entry `i` up to entry
    /// `i + 1`.
    fn stages(&self) -> [usize; EXITS + 1] {
        let n = self.third();
        let behind = |third: usize, quarters: usize| third * n + quarters * n / 4 + 1;
        [0, behind(0, 1), behind(0, 3), behind(1, 1), behind(1, 3), behind(2, 1), behind(2, 3), 3 * n]
    }

    /// Names of our layers beside those of the public PyTorch code.
    pub fn pytorch_names(&self) -> Vec<(String, String)> {
        let mut names = vec![pair("stem.conv", "conv1"), pair("stem.norm", "bn1")];
        for (number, plan) in self.block_plans().iter().enumerate() {
            let (third, within) = (number / self.third(), number % self.third());
            names.extend(plan.names(&format!("blocks.{number}"), &format!("group{third}_layer{within}")));
        }
        for head in 0..2 {
            names.extend(early_names(&format!("early.{head}"), &format!("branch_layer{}", head + 1)));
            names.extend(middle_names(&format!("middle.{head}"), &format!("branch_layer{}", head + 3)));
            names.push((format!("late.{head}"), format!("branch_layer{}.2", head + 5)));
        }
        names.push(pair("late.2", "fc"));
        names
    }
}

fn pair(ours: &str, theirs: &str) -> (String, String) {
    (ours.to_string(), theirs.to_string())
}

/// Pairs of layer names below `ours` and `theirs`.
fn pairs(ours: &str, theirs: &str, layers: &[(&str, &str)]) -> Vec<(String, String)> {
    layers.iter().map(|(our, their)| (format!("{ours}.{our}"), format!("{theirs}.{their}"))).collect()
}

fn early_names(ours: &str, theirs: &str) -> Vec<(String, String)> {
    let layers = [("conv1.conv", "1"), ("conv1.norm", "2"), ("conv2.conv", "5"), ("conv2.norm", "6"), ("linear", "9")];
    pairs(ours, theirs, &layers)
}

fn middle_names(ours: &str, theirs: &str) -> Vec<(String, String)> {
    let mut names = pairs(&format!("{ours}.block"), &format!("{theirs}.1"), &BLOCK_NAMES);
    names.extend(pairs(ours, theirs, &[("linear", "4")]));
    names
}

const BLOCK_NAMES: [(&str, &str); 4] =
    [("conv1.conv", "conv1"), ("conv1.norm", "bn1"), ("conv2.conv", "conv2"), ("conv2.norm", "bn2")];

/// A residual block: channels in and out, size of its output, stride of its first convolution.
#[derive(Clone, Copy, Debug)]
struct BlockPlan {
    channels: [usize; 2],
    size: usize,
    stride: usize,
}

impl BlockPlan {
    fn has_shortcut_convolution(&self) -> bool {
        self.channels[0] != self.channels[1]
    }

    fn count(&self, cost: &mut CostCounter) {
        let outputs = self.channels[1];
        count_conv_norm_relu(cost, self.channels, 3, self.size);
        count_conv_norm_relu(cost, [outputs, outputs], 3, self.size);
        if self.has_shortcut_convolution() {
            count_conv_norm(cost, self.channels, 1, self.size);
        }
    }

    fn names(&self, ours: &str, theirs: &str) -> Vec<(String, String)> {
        let mut names = pairs(ours, theirs, &BLOCK_NAMES);
        if self.has_shortcut_convolution() {
            names.extend(pairs(ours, theirs, &[("shortcut.conv", "downsample.0"), ("shortcut.norm", "downsample.1")]));
        }
        names
    }
}

/// Two 3x3 convolutions beside a shortcut (He et al. 2016, basic block).
#[derive(Module, Debug)]
struct ResidualBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
    shortcut: Option<ConvNorm>,
    #[module(skip)]
    activation: Activation,
}

impl ResidualBlock {
    fn new(plan: BlockPlan, layers: &mut Initializer) -> Self {
        let outputs = plan.channels[1];
        Self {
            conv1: convolution(layers, plan.channels, 3, plan.stride),
            conv2: convolution(layers, [outputs, outputs], 3, 1),
            shortcut: plan.has_shortcut_convolution().then(|| convolution(layers, plan.channels, 1, plan.stride)),
            activation: layers.activation(),
        }
    }

    fn fold(&mut self) {
        self.conv1.fold();
        self.conv2.fold();
        self.shortcut.iter_mut().for_each(ConvNorm::fold);
    }

    fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let branch = self.conv2.forward(self.conv1.forward_active(map.clone())).into_tensor();
        let shortcut = match &self.shortcut {
            Some(convolution) => convolution.forward(map).into_tensor(),
            None => map,
        };
        self.activation.apply(branch + shortcut)
    }
}

/// The head of exits 1 and 2.
#[derive(Module, Debug)]
struct EarlyHead {
    conv1: ConvNorm,
    conv2: ConvNorm,
    linear: Linear,
}

impl EarlyHead {
    fn new(classes: usize, layers: &mut Initializer) -> Self {
        let [first, second] = EARLY_CHANNELS;
        Self {
            conv1: convolution(layers, [THIRDS[0].0, first], 5, 1),
            conv2: convolution(layers, [first, second], 3, 1),
            linear: layers.linear(second, classes),
        }
    }

    fn fold(&mut self) {
        self.conv1.fold();
        self.conv2.fold();
    }

    fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let hidden = self.conv1.forward_active(max_pool_2x2(map)).into_tensor();
        self.linear.forward(mean(self.conv2.forward(max_pool_2x2(hidden)).into_tensor()))
    }
}

/// The head of exits 3 and 4.
#[derive(Module, Debug)]
struct MiddleHead {
    block: ResidualBlock,
    linear: Linear,
}

impl MiddleHead {
    fn new(classes: usize, layers: &mut Initializer) -> Self {
        let channels = THIRDS[1].0;
        let plan = BlockPlan { channels: [channels, channels], size: HEAD_SIZE, stride: 1 };
        Self { block: ResidualBlock::new(plan, layers), linear: layers.linear(channels, classes) }
    }

    fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        self.linear.forward(mean(self.block.forward(max_pool_2x2(map))))
    }
}

/// The seven-exit residual network of this file.
#[derive(Module, Debug)]
pub struct RdiResNet {
    #[module(skip)]
    config: RdiResNetConfig,
    stem: ConvNorm,
    blocks: Vec<ResidualBlock>,
    early: Vec<EarlyHead>,
    middle: Vec<MiddleHead>,
    late: Vec<Linear>,
}

impl MultiExit for RdiResNet {
    fn exits(&self) -> usize {
        EXITS
    }

    fn classes(&self) -> usize {
        self.config.classes
    }

    fn input_shape(&self) -> [usize; 3] {
        RdiResNetConfig::INPUT
    }

    fn head_weights(&self) -> Vec<Tensor<2>> {
        let early = self.early.iter().map(|head| &head.linear);
        let middle = self.middle.iter().map(|head| &head.linear);
        early.chain(middle).chain(&self.late).map(|linear| linear.weight.val()).collect()
    }

    fn costs(&self) -> Vec<ExitCost> {
        self.config.costs()
    }

    fn folded(mut self) -> Self {
        self.stem.fold();
        self.blocks.iter_mut().for_each(ResidualBlock::fold);
        self.early.iter_mut().for_each(EarlyHead::fold);
        self.middle.iter_mut().for_each(|head| head.block.fold());
        self
    }

    fn enter(&self, pixels: Tensor<4>) -> Features {
        Features::single(self.config.normalization.apply(pixels))
    }

    fn advance(&self, features: Features, stage: usize) -> Features {
        let stages = self.config.stages();
        let map = match stage {
            0 => self.stem.forward_active(features.into_single()).into_tensor(),
            _ => features.into_single(),
        };
        let blocks = self.blocks[stages[stage]..stages[stage + 1]].iter();
        Features::single(blocks.fold(map, |map, block| block.forward(map)))
    }

    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        let map = features.clone().into_single();
        match exit {
            0 | 1 => self.early[exit].forward(map),
            2 | 3 => self.middle[exit - 2].forward(map),
            _ => self.late[exit - 4].forward(mean(map)),
        }
    }
}

fn convolution(layers: &mut Initializer, channels: [usize; 2], kernel: usize, stride: usize) -> ConvNorm {
    ConvNorm::new(layers.fan_out_convolution(channels, kernel, stride), layers)
}

/// Mean over each map: `[batch, channels, height, width]` to `[batch, channels]`.
fn mean(map: Tensor<4>) -> Tensor<2> {
    map.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
}
