//! Which layers an MSDNet has: scales, channels and sizes, without any weights.

use super::{MsdNetConfig, Prune, Stem, StepMode};

/// Channels of the CIFAR heads, whatever their input.
const HEAD_CHANNELS: usize = 128;

/// One multi-scale layer and the transition behind it.
///
/// Channels are base channels; scale `s` has `growth_factors[s]` times as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerPlan {
    /// Scales that come in and go out, always the coarsest ones.
    pub(super) scales: [usize; 2],
    /// Base channels before and after the layer.
    pub(super) channels: [usize; 2],
    /// Base channels after the transition, where there is one.
    pub(super) transition: Option<usize>,
}

impl LayerPlan {
    /// Base channels that the next layer or head sees.
    pub(super) fn channels_out(&self) -> usize {
        self.transition.unwrap_or(self.channels[1])
    }

    /// Scales that this layer drops: 0 or 1.
    pub(super) fn dropped(&self) -> usize {
        self.scales[0] - self.scales[1]
    }
}

/// A bottleneck: 1x1 convolution, then 3x3 convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BottleneckPlan {
    /// Channels before, between and after the two convolutions.
    pub(super) channels: [usize; 3],
    /// Stride of the 3x3 convolution.
    pub(super) stride: usize,
}

/// What a layer adds to one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrowthPlan {
    /// The scale, 0 the finest.
    pub(super) scale: usize,
    /// From the next finer scale, unless the layer has none.
    pub(super) down: Option<BottleneckPlan>,
    /// From the scale itself.
    pub(super) same: BottleneckPlan,
}

impl MsdNetConfig {
    /// Number of scales.
    pub(super) fn scales(&self) -> usize {
        self.growth_factors.len()
    }

    /// Layers of each block.
    pub(super) fn layers_per_block(&self) -> Vec<usize> {
        let later = |block| match self.step_mode {
            StepMode::Even => self.step,
            StepMode::LinGrow => self.step * block + 1,
        };
        (0..self.blocks).map(|block| if block == 0 { self.base } else { later(block) }).collect()
    }

    /// The layers of each block, in the order in which they run.
    pub(super) fn plan(&self) -> Vec<Vec<LayerPlan>> {
        let per_block = self.layers_per_block();
        let all = per_block.iter().sum();
        let (mut channels, mut number) = (self.channels, 0);
        let mut next = || {
            number += 1;
            let layer = self.layer(number, all, channels);
            channels = layer.channels_out();
            layer
        };
        per_block.into_iter().map(|layers| (0..layers).map(|_| next()).collect()).collect()
    }

    /// Layer `number`, counted from 1, of `all`.
    fn layer(&self, number: usize, all: usize, channels: usize) -> LayerPlan {
        let scales = self.surviving_scales(number, all);
        let grown = channels + self.growth;
        let has_transition = self.reduction > 0.0
            && match self.prune {
                Prune::Max => scales[0] > scales[1],
                Prune::Min => number == all / 3 || number == 2 * all / 3,
            };
        let reduced = || (self.reduction * grown as f64).floor() as usize;
        LayerPlan { scales, channels: [channels, grown], transition: has_transition.then(reduced) }
    }

    fn surviving_scales(&self, number: usize, all: usize) -> [usize; 2] {
        let scales = self.scales();
        match self.prune {
            Prune::Max => {
                let interval = all.div_ceil(scales);
                [scales - number.saturating_sub(2) / interval, scales - (number - 1) / interval]
            }
            Prune::Min => [scales.min(all - number + 2), scales.min(all - number + 1)],
        }
    }

    /// What a layer adds to each scale that survives it, finest first.
    pub(super) fn growths(&self, layer: &LayerPlan) -> Vec<GrowthPlan> {
        let finest = self.scales() - layer.scales[1];
        let growth = |scale: usize| {
            let added = self.growth * self.growth_factors[scale];
            let bottleneck = |from: usize, outputs: usize, stride| {
                let inputs = layer.channels[0] * self.growth_factors[from];
                let inner = inputs.min(self.bottleneck_factors[from] * outputs);
                BottleneckPlan { channels: [inputs, inner, outputs], stride }
            };
            let has_finer = scale > finest || layer.dropped() > 0;
            GrowthPlan {
                scale,
                down: has_finer.then(|| bottleneck(scale - 1, added / 2, 2)),
                same: bottleneck(scale, if has_finer { added / 2 } else { added }, 1),
            }
        };
        (finest..self.scales()).map(growth).collect()
    }

    /// Scale, and channels before and after, of each convolution of a layer's transition.
    pub(super) fn transitions(&self, layer: &LayerPlan) -> Vec<(usize, [usize; 2])> {
        let Some(reduced) = layer.transition else {
            return Vec::new();
        };
        let finest = self.scales() - layer.scales[1];
        let channels = |scale: usize| [layer.channels[1], reduced].map(|base| base * self.growth_factors[scale]);
        (finest..self.scales()).map(|scale| (scale, channels(scale))).collect()
    }

    /// Channels of each scale behind the stem.
    pub(super) fn stem_channels(&self) -> Vec<usize> {
        self.growth_factors.iter().map(|factor| self.channels * factor).collect()
    }

    /// Height and width of the maps of a scale.
    pub(super) fn size(&self, scale: usize) -> usize {
        let finest = match self.stem {
            Stem::Cifar => self.image,
            Stem::Imagenet => halve(halve(self.image)),
        };
        (0..scale).fold(finest, |size, _| halve(size))
    }

    /// Channels that each head reads.
    pub(super) fn head_inputs(&self) -> Vec<usize> {
        let coarsest = self.growth_factors[self.scales() - 1];
        let last = |block: &Vec<LayerPlan>| block.last().map_or(self.channels, LayerPlan::channels_out);
        self.plan().iter().map(|block| last(block) * coarsest).collect()
    }

    /// Channels inside a head that reads `inputs` channels.
    pub(super) fn head_channels(&self, inputs: usize) -> usize {
        match self.stem {
            Stem::Cifar => HEAD_CHANNELS,
            Stem::Imagenet => inputs,
        }
    }

    /// Sizes inside a head: after each of its convolutions and after its pooling.
    pub(super) fn head_sizes(&self) -> [usize; 3] {
        self.head_sizes_with(self.scales())
    }

    /// [`head_sizes`](Self::head_sizes), had the network this many scales.
    pub(super) fn head_sizes_with(&self, scales: usize) -> [usize; 3] {
        let first = halve(self.size(scales - 1));
        [first, halve(first), halve(first) / 2]
    }
}

/// What a 3x3 convolution of stride 2 with padding 1 leaves of a size.
pub(super) fn halve(size: usize) -> usize {
    size.div_ceil(2)
}
