//! The network itself: blocks of layers with a head behind each.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::MsdNetConfig;
use super::layers::{Head, Layer, StemLayer};
use crate::{ExitCost, Features, Initializer, MultiExit};

/// A multi-scale dense network (Huang et al. 2018); stage `i` is block `i`, the stem belongs to the
/// first.
#[derive(Module, Debug)]
pub struct MsdNet {
    #[module(skip)]
    config: MsdNetConfig,
    stem: StemLayer,
    blocks: Vec<Vec<Layer>>,
    heads: Vec<Head>,
}

impl MsdNet {
    pub(super) fn new(config: &MsdNetConfig, seed: u64, device: &Device) -> Self {
        let mut layers = Initializer::new(seed, device).with_activation(config.activation);
        let stem = StemLayer::new(config, &mut layers);
        let mut block = |plans: &Vec<_>| plans.iter().map(|plan| Layer::new(config, plan, &mut layers)).collect();
        let blocks = config.plan().iter().map(&mut block).collect();
        let heads = config.head_inputs().into_iter().map(|inputs| Head::new(config, inputs, &mut layers)).collect();
        Self { config: config.clone(), stem, blocks, heads }
    }
}

impl MultiExit for MsdNet {
    fn exits(&self) -> usize {
        self.heads.len()
    }

    fn classes(&self) -> usize {
        self.config.classes
    }

    fn input_shape(&self) -> [usize; 3] {
        [3, self.config.image, self.config.image]
    }

    fn head_weights(&self) -> Vec<Tensor<2>> {
        self.heads.iter().map(Head::weight).collect()
    }

    fn costs(&self) -> Vec<ExitCost> {
        self.config.costs()
    }

    fn folded(mut self) -> Self {
        self.stem.fold();
        self.blocks.iter_mut().flatten().for_each(Layer::fold);
        self.heads.iter_mut().for_each(Head::fold);
        self
    }

    fn enter(&self, pixels: Tensor<4>) -> Features {
        Features::single(self.config.normalization.apply(pixels))
    }

    fn advance(&self, features: Features, stage: usize) -> Features {
        let maps = match stage {
            0 => self.stem.forward(features.into_single()),
            _ => features.0,
        };
        Features(self.blocks[stage].iter().fold(maps, |maps, layer| layer.forward(&maps)))
    }

    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        // Features hold one map per scale that is left; the last is the coarsest.
        self.heads[exit].forward(features.0[features.0.len() - 1].clone())
    }
}

impl MsdNetConfig {
    /// A network with initial weights drawn from `seed` as the public PyTorch code ends up with:
    /// weights and biases uniform in `+-1 / sqrt(fan_in)`, batch-norm weight 1 and bias 0.
    ///
    /// That code means to draw convolutions from a normal distribution, but its loop never reaches
    /// one, so PyTorch's defaults are what its published results were made with.
    ///
    /// # Panics
    /// If the configuration has a [`problem`](Self::problem).
    pub fn init(&self, seed: u64, device: &Device) -> MsdNet {
        MsdNet::new(self, seed, device)
    }
}
