//! The parts of an MSDNet. Maps are `[batch, channels, height, width]`, one per scale, finest first.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use neokd_kernels::FeatureMap;

use super::plan::{BottleneckPlan, GrowthPlan, LayerPlan};
use super::{MsdNetConfig, Stem};
use crate::Initializer;
use crate::conv_norm::ConvNorm;

/// The first layer: one map per scale, each made from the next finer one.
#[derive(Module, Debug)]
pub(super) struct StemLayer {
    scales: Vec<ConvNorm>,
    #[module(skip)]
    kind: Stem,
}

impl StemLayer {
    pub(super) fn new(config: &MsdNetConfig, layers: &mut Initializer) -> Self {
        let channels = config.stem_channels();
        // Only this one convolution has a bias in the public code, and only for ImageNet.
        let finest = match config.stem {
            Stem::Cifar => layers.uniform_convolution([3, channels[0]], 3, 1, false),
            Stem::Imagenet => layers.uniform_convolution([3, channels[0]], 7, 2, true),
        };
        let mut scales = vec![ConvNorm::new(finest, layers)];
        scales.extend(channels.windows(2).map(|pair| convolution(layers, [pair[0], pair[1]], 3, 2)));
        Self { scales, kind: config.stem }
    }

    pub(super) fn forward(&self, pixels: Tensor<4>) -> Vec<FeatureMap> {
        let pixels = FeatureMap::from(pixels);
        let mut maps: Vec<FeatureMap> = Vec::with_capacity(self.scales.len());
        for (scale, layer) in self.scales.iter().enumerate() {
            let finer = maps.last().unwrap_or(&pixels).clone();
            let map = layer.forward_active(finer);
            maps.push(if scale == 0 { self.pool(map) } else { map });
        }
        maps
    }

    pub(super) fn fold(&mut self) {
        self.scales.iter_mut().for_each(ConvNorm::fold);
    }

    fn pool(&self, map: FeatureMap) -> FeatureMap {
        match self.kind {
            Stem::Cifar => map,
            Stem::Imagenet => {
                let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
                max_pool2d(map.into_tensor(), options).into()
            }
        }
    }
}

/// 1x1 convolution, batch-norm, ReLU; 3x3 convolution, batch-norm, ReLU.
#[derive(Module, Debug)]
struct Bottleneck {
    inner: ConvNorm,
    outer: ConvNorm,
}

impl Bottleneck {
    fn new(plan: BottleneckPlan, layers: &mut Initializer) -> Self {
        let [inputs, inner, outputs] = plan.channels;
        Self {
            inner: convolution(layers, [inputs, inner], 1, 1),
            outer: convolution(layers, [inner, outputs], 3, plan.stride),
        }
    }

    fn fold(&mut self) {
        self.inner.fold();
        self.outer.fold();
    }

    fn forward(&self, map: FeatureMap) -> FeatureMap {
        self.outer.forward_active(self.inner.forward_active(map))
    }
}

/// What a layer adds to one scale.
#[derive(Module, Debug)]
struct Growth {
    down: Option<Bottleneck>,
    same: Bottleneck,
}

impl Growth {
    fn new(plan: &GrowthPlan, layers: &mut Initializer) -> Self {
        Self { down: plan.down.map(|down| Bottleneck::new(down, layers)), same: Bottleneck::new(plan.same, layers) }
    }

    fn fold(&mut self) {
        self.down.iter_mut().for_each(Bottleneck::fold);
        self.same.fold();
    }

    /// The map of scale `at` with what grew from it and from the next finer map put behind it.
    fn forward(&self, maps: &[FeatureMap], at: usize) -> FeatureMap {
        let mut parts = vec![maps[at].clone()];
        parts.extend(self.down.iter().map(|down| down.forward(maps[at - 1].clone())));
        parts.push(self.same.forward(maps[at].clone()));
        FeatureMap::cat(parts)
    }
}

/// One multi-scale layer and the transition behind it, if any.
#[derive(Module, Debug)]
pub(super) struct Layer {
    scales: Vec<Growth>,
    transition: Vec<ConvNorm>,
}

impl Layer {
    pub(super) fn new(config: &MsdNetConfig, plan: &LayerPlan, layers: &mut Initializer) -> Self {
        let scales = config.growths(plan).iter().map(|growth| Growth::new(growth, layers)).collect();
        let transitions = config.transitions(plan).into_iter();
        let transition = transitions.map(|(_, channels)| convolution(layers, channels, 1, 1)).collect();
        Self { scales, transition }
    }

    pub(super) fn fold(&mut self) {
        self.scales.iter_mut().for_each(Growth::fold);
        self.transition.iter_mut().for_each(ConvNorm::fold);
    }

    pub(super) fn forward(&self, maps: &[FeatureMap]) -> Vec<FeatureMap> {
        let dropped = maps.len() - self.scales.len();
        let grown = self.scales.iter().enumerate().map(|(scale, growth)| growth.forward(maps, scale + dropped));
        match self.transition.is_empty() {
            true => grown.collect(),
            false => grown.zip(&self.transition).map(|(map, reduce)| reduce.forward_active(map)).collect(),
        }
    }
}

/// Two 3x3 convolutions of stride 2, average-pool, linear.
#[derive(Module, Debug)]
pub(super) struct Head {
    conv1: ConvNorm,
    conv2: ConvNorm,
    linear: Linear,
}

impl Head {
    /// Weight of the linear layer.
    pub(super) fn weight(&self) -> Tensor<2> {
        self.linear.weight.val()
    }

    pub(super) fn new(config: &MsdNetConfig, inputs: usize, layers: &mut Initializer) -> Self {
        let channels = config.head_channels(inputs);
        Self {
            conv1: convolution(layers, [inputs, channels], 3, 2),
            conv2: convolution(layers, [channels, channels], 3, 2),
            linear: layers.linear(channels, config.classes),
        }
    }

    pub(super) fn fold(&mut self) {
        self.conv1.fold();
        self.conv2.fold();
    }

    /// # Shapes
    /// - `coarsest`: `[batch, channels, height, width]` of such a size that the pooled map is 1x1
    /// - output: `[batch, classes]`
    pub(super) fn forward(&self, coarsest: FeatureMap) -> Tensor<2> {
        let map = self.conv2.forward_active(self.conv1.forward_active(coarsest));
        self.linear.forward(avg_pool2d(map.into_tensor(), AvgPoolOptions::new([2, 2])).flatten(1, 3))
    }
}

fn convolution(layers: &mut Initializer, channels: [usize; 2], kernel: usize, stride: usize) -> ConvNorm {
    ConvNorm::new(layers.uniform_convolution(channels, kernel, stride, false), layers)
}
