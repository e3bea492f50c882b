//! What the layers of an MSDNet are called here and in the public PyTorch code.

use super::plan::LayerPlan;
use super::{MsdNetConfig, Stem};

/// Pairs of our layer name and the public code's.
type Names = Vec<(String, String)>;

impl MsdNetConfig {
    /// Names of our layers beside those of the public PyTorch code.
    ///
    /// That code numbers the stem, the layers and the transitions of a block in one sequence.
    pub fn pytorch_names(&self) -> Names {
        let mut names = self.stem_names();
        for (block, layers) in self.plan().iter().enumerate() {
            names.extend(self.block_names(block, layers));
            names.extend(head_names(block));
        }
        names
    }

    fn stem_names(&self) -> Names {
        let pairs = |scale: usize| match (self.stem, scale) {
            (Stem::Imagenet, 0) => conv_norm("stem.scales.0", "blocks.0.0.layers.0", [0, 1]),
            _ => conv_norm(&format!("stem.scales.{scale}"), &format!("blocks.0.0.layers.{scale}.net"), [0, 1]),
        };
        (0..self.scales()).flat_map(pairs).collect()
    }

    fn block_names(&self, block: usize, layers: &[LayerPlan]) -> Names {
        let mut names = Names::new();
        let mut position = if block == 0 { 1 } else { 0 };
        for (number, layer) in layers.iter().enumerate() {
            let ours = format!("blocks.{block}.{number}");
            names.extend(self.layer_names(layer, &ours, &format!("blocks.{block}.{position}")));
            position += 1;
            if layer.transition.is_some() {
                names.extend(self.transition_names(layer, &ours, &format!("blocks.{block}.{position}")));
                position += 1;
            }
        }
        names
    }

    fn layer_names(&self, layer: &LayerPlan, ours: &str, theirs: &str) -> Names {
        let growth_names = |(index, has_down): (usize, bool)| {
            let bottleneck = |name: &str, their_name: &str| {
                let (ours, theirs) = (format!("{ours}.scales.{index}.{name}"), format!("{theirs}.layers.{index}"));
                let theirs = format!("{theirs}.{their_name}.net");
                let mut names = conv_norm(&format!("{ours}.inner"), &theirs, [0, 1]);
                names.extend(conv_norm(&format!("{ours}.outer"), &theirs, [3, 4]));
                names
            };
            let mut names = if has_down { bottleneck("down", "conv_down") } else { Names::new() };
            names.extend(bottleneck("same", "conv_normal"));
            names
        };
        let growths = self.growths(layer);
        growths.iter().map(|growth| growth.down.is_some()).enumerate().flat_map(growth_names).collect()
    }

    fn transition_names(&self, layer: &LayerPlan, ours: &str, theirs: &str) -> Names {
        let pairs =
            |index| conv_norm(&format!("{ours}.transition.{index}"), &format!("{theirs}.m.{index}.net"), [0, 1]);
        (0..self.transitions(layer).len()).flat_map(pairs).collect()
    }
}

fn head_names(block: usize) -> Names {
    let (ours, theirs) = (format!("heads.{block}"), format!("classifier.{block}"));
    let mut names = conv_norm(&format!("{ours}.conv1"), &format!("{theirs}.m.0.net"), [0, 1]);
    names.extend(conv_norm(&format!("{ours}.conv2"), &format!("{theirs}.m.1.net"), [0, 1]));
    names.push((format!("{ours}.linear"), format!("{theirs}.linear")));
    names
}

/// Names of a convolution and its batch-norm, which stand at `positions` of a PyTorch sequence.
fn conv_norm(ours: &str, theirs: &str, positions: [usize; 2]) -> Names {
    let pair = |name: &str, position: usize| (format!("{ours}.{name}"), format!("{theirs}.{position}"));
    vec![pair("conv", positions[0]), pair("norm", positions[1])]
}
