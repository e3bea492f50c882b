//! What an MSDNet can be configured to be, and what it cannot.

use serde::{Deserialize, Serialize};

use crate::{Activation, Normalization};

/// How many layers the blocks after the first have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepMode {
    /// `step` layers each.
    Even,
    /// `step * i + 1` layers in block `i`, counted from 0.
    LinGrow,
}

/// When the finest scale is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prune {
    /// One scale after each `ceil(layers / scales)` layers, with a transition at every drop.
    Max,
    /// Scales that can no longer reach the last head, with transitions after one and two thirds of
    /// the layers.
    Min,
}

/// The layers before the first block, and the width of the heads that goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 3x3 convolution at full resolution; heads are 128 channels wide.
    Cifar,
    /// A 7x7 convolution of stride 2 and a max-pool of stride 2; heads keep the width of their input.
    Imagenet,
}

/// Configuration of [`MsdNet`](super::MsdNet).
///
/// Scales count from 0, the finest; there are as many as `growth_factors`. All share one base number
/// of channels: scale `s` has `growth_factors[s]` times as many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MsdNetConfig {
    /// Number of blocks, each with an exit.
    pub blocks: usize,
    /// Layers of the first block.
    pub base: usize,
    /// Layers of the later blocks; see `step_mode`.
    pub step: usize,
    /// How `step` is meant.
    pub step_mode: StepMode,
    /// Base channels after the stem.
    pub channels: usize,
    /// Base channels that each layer adds.
    pub growth: usize,
    /// Channels of each scale, as a multiple of the base channels.
    pub growth_factors: Vec<usize>,
    /// Width of each scale's bottlenecks, as a multiple of their outputs.
    pub bottleneck_factors: Vec<usize>,
    /// When scales are dropped.
    pub prune: Prune,
    /// Share of the channels that a transition keeps, in `[0, 1]`; 0 means no transitions.
    pub reduction: f64,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of the images.
    pub image: usize,
    /// Stem and heads.
    pub stem: Stem,
    /// Pixel normalisation.
    pub normalization: Normalization,
    /// What follows each batch-norm; `relu` in the public code.
    pub activation: Activation,
}

/// The published network for anytime classification of CIFAR-10, without pixel normalisation.
impl Default for MsdNetConfig {
    fn default() -> Self {
        Self {
            blocks: 7,
            base: 4,
            step: 2,
            step_mode: StepMode::Even,
            channels: 16,
            growth: 6,
            growth_factors: vec![1, 2, 4],
            bottleneck_factors: vec![1, 2, 4],
            prune: Prune::Max,
            reduction: 0.5,
            classes: 10,
            image: 32,
            stem: Stem::Cifar,
            normalization: Normalization::None,
            activation: Activation::Relu,
        }
    }
}

/// Layers in all, scales, factors, and channels beyond which no network makes sense. The limits keep
/// the arithmetic on a configuration from a hostile file small.
const MOST_LAYERS: usize = 1000;
const MOST_SCALES: usize = 8;
const LARGEST_FACTOR: usize = 64;
const MOST_CHANNELS: usize = 4096;
const LARGEST_IMAGE: usize = 4096;

impl MsdNetConfig {
    /// Why this configuration cannot be built, if so; the message names the key and the cure.
    pub fn problem(&self) -> Option<String> {
        self.factor_problem()
            .or_else(|| self.range_problem())
            .or_else(|| self.layer_problem())
            .or_else(|| self.channel_problem())
            .or_else(|| self.head_problem())
            .or_else(|| self.normalization.problem(3))
    }

    fn factor_problem(&self) -> Option<String> {
        let scales = self.growth_factors.len();
        if scales == 0 || scales > MOST_SCALES {
            return Some(format!("growth_factors has {scales} entries: give one per scale, 1 to {MOST_SCALES}"));
        }
        if self.bottleneck_factors.len() != scales {
            let others = self.bottleneck_factors.len();
            return Some(format!("bottleneck_factors has {others} entries, but growth_factors has {scales}"));
        }
        [("growth_factors", &self.growth_factors), ("bottleneck_factors", &self.bottleneck_factors)]
            .into_iter()
            .find_map(|(key, factors)| {
                let bad = factors.iter().find(|factor| !(1..=LARGEST_FACTOR).contains(*factor))?;
                Some(format!("{key} holds {bad}: factors are from 1 to {LARGEST_FACTOR}"))
            })
    }

    fn range_problem(&self) -> Option<String> {
        if self.classes < 2 {
            return Some(format!("classes = {}: a classifier needs at least 2", self.classes));
        }
        if !(0.0..=1.0).contains(&self.reduction) {
            return Some(format!("reduction = {}: must be in [0, 1], 0 for no transitions", self.reduction));
        }
        [
            ("blocks", self.blocks, MOST_LAYERS),
            ("base", self.base, MOST_LAYERS),
            ("step", self.step, MOST_LAYERS),
            ("channels", self.channels, MOST_CHANNELS),
            ("growth", self.growth, MOST_CHANNELS),
            ("image", self.image, LARGEST_IMAGE),
        ]
        .into_iter()
        .find(|(_, value, most)| !(1..=*most).contains(value))
        .map(|(key, value, most)| format!("{key} = {value}: must be from 1 to {most}"))
    }

    fn layer_problem(&self) -> Option<String> {
        let layers: usize = self.layers_per_block().iter().sum();
        (layers > MOST_LAYERS)
            .then(|| format!("blocks, base and step give {layers} layers, more than {MOST_LAYERS}: make step smaller"))
    }

    fn channel_problem(&self) -> Option<String> {
        // Half of what a layer adds to a coarser scale comes from the next finer one.
        if let Some(factor) = self.growth_factors.iter().skip(1).find(|factor| self.growth * **factor < 2) {
            return Some(format!("growth = {} times growth factor {factor} is less than 2: raise growth", self.growth));
        }
        let empty = self.plan().into_iter().flatten().any(|layer| layer.channels_out() == 0);
        empty.then(|| format!("reduction = {} leaves a transition no channels: raise it", self.reduction))
    }

    fn head_problem(&self) -> Option<String> {
        let end = self.head_sizes()[2];
        if end == 1 {
            return None;
        }
        let scales = self.growth_factors.len();
        let fits = |scales: &usize| self.head_sizes_with(*scales)[2] == 1;
        let cure = match (1..=MOST_SCALES).find(fits) {
            Some(fitting) => format!("give growth_factors and bottleneck_factors {fitting} entries"),
            None => "choose another image size".to_string(),
        };
        Some(format!("image = {} with {scales} growth_factors: heads end at {end}x{end}, not 1x1; {cure}", self.image))
    }
}
