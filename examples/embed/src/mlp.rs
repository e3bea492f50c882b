//! The network: what a stage and a head do, what they cost, and the settings that make it again.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use neokd_model::{Backbone, CostCounter, ExitCost, Features, Initializer, MultiExit};

/// As many fully connected layers as there are exits, with a classifier behind each.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    trunk: Vec<Linear>,
    heads: Vec<Linear>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct MlpConfig {
    widths: Vec<usize>,
}

impl Backbone for MlpConfig {
    type Network = Mlp;
    fn init(&self, seed: u64, device: &Device) -> Mlp {
        let mut init = Initializer::new(seed, device);
        let trunk = self.widths.windows(2).map(|pair| init.linear(pair[0], pair[1])).collect();
        Mlp { trunk, heads: self.widths[1..].iter().map(|width| init.linear(*width, 10)).collect() }
    }
    fn exits(&self) -> usize {
        self.widths.len() - 1
    }
    fn classes(&self) -> usize {
        10
    }
    fn input_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }
    fn costs(&self) -> Vec<ExitCost> {
        self.init(0, &Device::flex()).costs()
    }
}

impl MultiExit for Mlp {
    fn exits(&self) -> usize {
        self.heads.len()
    }
    fn classes(&self) -> usize {
        10
    }
    fn input_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }
    fn costs(&self) -> Vec<ExitCost> {
        let sizes = self.trunk.iter().map(|layer| layer.weight.dims());
        sizes
            .fold(CostCounter::new(), |mut cost, [from, to]| {
                cost.linear(from, to).relu(to).linear(to, 10).exit();
                cost
            })
            .into_costs()
    }
    fn enter(&self, pixels: Tensor<4>) -> Features {
        Features::single(pixels)
    }
    fn advance(&self, features: Features, stage: usize) -> Features {
        Features::single(
            relu(self.trunk[stage].forward(features.into_single().flatten::<2>(1, 3))).unsqueeze_dims::<4>(&[2, 3]),
        )
    }
    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        self.heads[exit].forward(features.clone().into_single().flatten(1, 3))
    }
}
