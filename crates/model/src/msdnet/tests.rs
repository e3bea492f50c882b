//! Layers, costs and parameters of published configurations, as an independent implementation of the
//! same rules counts them (MFLOPs and millions of parameters, rounded to what is written here).
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor};

use super::{MsdNetConfig, Prune, Stem, StepMode};
use crate::{FeatureMap, Initializer, MultiExit};

struct Published {
    what: &'static str,
    config: MsdNetConfig,
    mega_multiply_adds: &'static [f64],
    million_parameters: &'static [f64],
    head_inputs: &'static [usize],
}

fn cifar(classes: usize, blocks: usize, step_mode: StepMode, step: usize, base: usize) -> MsdNetConfig {
    MsdNetConfig { classes, blocks, step_mode, step, base, ..MsdNetConfig::default() }
}

fn published() -> Vec<Published> {
    vec![
        Published {
            what: "CIFAR-100, anytime",
            config: cifar(100, 7, StepMode::Even, 2, 4),
            mega_multiply_adds: &[15.14, 25.51, 37.10, 46.33, 57.34, 66.96, 75.94],
            million_parameters: &[0.434, 0.877, 1.275, 1.696, 2.178, 2.603, 3.068],
            head_inputs: &[160, 208, 140, 188, 236, 152, 200],
        },
        Published {
            what: "CIFAR-10, anytime",
            config: cifar(10, 7, StepMode::Even, 2, 4),
            mega_multiply_adds: &[15.13, 25.48, 37.06, 46.28, 57.28, 66.89, 75.86],
            million_parameters: &[0.422, 0.854, 1.240, 1.649, 2.120, 2.534, 2.987],
            head_inputs: &[160, 208, 140, 188, 236, 152, 200],
        },
        Published {
            what: "CIFAR-100, batch computation",
            config: cifar(100, 5, StepMode::LinGrow, 1, 1),
            mega_multiply_adds: &[6.86, 14.35, 27.54, 41.71, 58.48],
            million_parameters: &[0.300, 0.650, 1.018, 1.492, 2.079],
            head_inputs: &[88, 136, 104, 200, 208],
        },
        Published {
            what: "CIFAR-10, 3 blocks, even, step 2, base 4",
            config: cifar(10, 3, StepMode::Even, 2, 4),
            mega_multiply_adds: &[14.76, 21.77, 27.67],
            million_parameters: &[0.346, 0.677, 0.991],
            head_inputs: &[80, 128, 100],
        },
        Published {
            what: "CIFAR-10, 3 blocks, even, step 2, base 2",
            config: cifar(10, 3, StepMode::Even, 2, 2),
            mega_multiply_adds: &[9.35, 16.45, 20.99],
            million_parameters: &[0.331, 0.630, 0.907],
            head_inputs: &[112, 92, 80],
        },
        Published {
            what: "CIFAR-10, 3 blocks, lin-grow, step 1",
            config: cifar(10, 3, StepMode::LinGrow, 1, 1),
            mega_multiply_adds: &[6.85, 13.75, 20.10],
            million_parameters: &[0.288, 0.559, 0.852],
            head_inputs: &[88, 68, 80],
        },
        Published {
            what: "CIFAR-10, 3 blocks, lin-grow, step 1, prune min",
            config: MsdNetConfig { prune: Prune::Min, ..cifar(10, 3, StepMode::LinGrow, 1, 1) },
            mega_multiply_adds: &[6.85, 13.92, 21.62],
            million_parameters: &[0.288, 0.567, 0.878],
            head_inputs: &[88, 80, 100],
        },
        Published {
            what: "CIFAR-10, 3 blocks, lin-grow, step 2",
            config: cifar(10, 3, StepMode::LinGrow, 2, 1),
            mega_multiply_adds: &[6.85, 16.97, 29.32],
            million_parameters: &[0.288, 0.596, 1.003],
            head_inputs: &[88, 80, 124],
        },
        Published {
            what: "ImageNet",
            config: imagenet(),
            mega_multiply_adds: &[339.90, 685.46, 1008.16, 1254.47, 1360.53],
            million_parameters: &[4.239, 8.772, 13.073, 16.748, 23.958],
            head_inputs: &[384, 384, 352, 304, 560],
        },
        Published {
            what: "Tiny-ImageNet",
            config: tiny_imagenet(),
            mega_multiply_adds: &[64.89, 88.29, 109.85, 125.08, 131.17],
            million_parameters: &[0.501, 0.896, 1.287, 1.628, 1.991],
            head_inputs: &[80, 128, 100, 72, 120],
        },
    ]
}

fn imagenet() -> MsdNetConfig {
    MsdNetConfig {
        channels: 32,
        growth: 16,
        growth_factors: vec![1, 2, 4, 4],
        bottleneck_factors: vec![1, 2, 4, 4],
        image: 224,
        stem: Stem::Imagenet,
        ..cifar(1000, 5, StepMode::Even, 4, 4)
    }
}

fn tiny_imagenet() -> MsdNetConfig {
    MsdNetConfig {
        growth_factors: vec![1, 2, 4, 4],
        bottleneck_factors: vec![1, 2, 4, 4],
        image: 64,
        ..cifar(200, 5, StepMode::Even, 2, 4)
    }
}

/// Both are given to half a unit in their last place.
fn assert_rounded(what: &str, ours: impl Iterator<Item = u64>, unit: f64, digits: f64, theirs: &[f64]) {
    let ours: Vec<f64> = ours.map(|value| value as f64 / unit).collect();
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (our, their) in ours.iter().zip(theirs) {
        assert!((our - their).abs() <= 0.5 * digits + 1e-9, "{what}: {ours:?} instead of {theirs:?}");
    }
}

#[test]
fn costs_of_published_networks() {
    for case in published() {
        assert_eq!(case.config.problem(), None, "{}", case.what);
        let costs = case.config.costs();
        let (work, parameters) =
            (costs.iter().map(|cost| cost.multiply_adds), costs.iter().map(|cost| cost.parameters));
        assert_rounded(case.what, work, 1e6, 0.01, case.mega_multiply_adds);
        assert_rounded(case.what, parameters, 1e6, 0.001, case.million_parameters);
    }
}

#[test]
fn head_inputs_of_published_networks() {
    for case in published() {
        assert_eq!(case.config.head_inputs(), case.head_inputs, "{}", case.what);
    }
}

/// Scales in and out, base channels in and out, base channels behind the transition.
type Row = (usize, usize, usize, usize, Option<usize>);

#[test]
fn layers_of_the_anytime_network_for_cifar_100() {
    let blocks: [&[Row]; 7] = [
        &[(3, 3, 16, 22, None), (3, 3, 22, 28, None), (3, 3, 28, 34, None), (3, 3, 34, 40, None)],
        &[(3, 3, 40, 46, None), (3, 3, 46, 52, None)],
        &[(3, 2, 52, 58, Some(29)), (2, 2, 29, 35, None)],
        &[(2, 2, 35, 41, None), (2, 2, 41, 47, None)],
        &[(2, 2, 47, 53, None), (2, 2, 53, 59, None)],
        &[(2, 1, 59, 65, Some(32)), (1, 1, 32, 38, None)],
        &[(1, 1, 38, 44, None), (1, 1, 44, 50, None)],
    ];
    let plan = cifar(100, 7, StepMode::Even, 2, 4).plan();
    let ours: Vec<Vec<Row>> = plan
        .iter()
        .map(|block| {
            let row = |layer: &super::plan::LayerPlan| {
                let ([scales_in, scales_out], [before, after]) = (layer.scales, layer.channels);
                (scales_in, scales_out, before, after, layer.transition)
            };
            block.iter().map(row).collect()
        })
        .collect();
    assert_eq!(ours, blocks);
}

#[test]
fn lin_grow_counts_its_layers_from_the_second_block() {
    assert_eq!(cifar(100, 5, StepMode::LinGrow, 1, 1).layers_per_block(), [1, 2, 3, 4, 5]);
    assert_eq!(cifar(10, 3, StepMode::LinGrow, 2, 1).layers_per_block(), [1, 3, 5]);
}

/// The branch from the finer scale, then the branch from the scale itself, stand behind the input.
#[test]
fn a_layer_keeps_its_input_in_front() {
    let config = MsdNetConfig { channels: 4, growth: 2, ..cifar(10, 1, StepMode::Even, 1, 1) };
    let device = Device::flex();
    let layer = super::layers::Layer::new(&config, &config.plan()[0][0], &mut Initializer::new(0, &device));
    let maps: Vec<Tensor<4>> = (0..3)
        .map(|scale| Tensor::ones([1, 4 << scale, 8 >> scale, 8 >> scale], &device) * (scale + 1) as f32)
        .collect();
    let features: Vec<FeatureMap> = maps.iter().cloned().map(FeatureMap::from).collect();
    let grown = layer.forward(&features).into_iter().map(FeatureMap::into_tensor);
    for (scale, (before, after)) in maps.iter().zip(grown).enumerate() {
        let kept = 4 << scale;
        assert_eq!(after.dims()[1], kept + (2 << scale));
        assert_eq!(after.clone().narrow(1, 0, kept).into_data(), before.clone().into_data());
    }
}

#[test]
fn both_stems_and_both_prunings_run() {
    let small = |prune, stem, image| MsdNetConfig {
        channels: 4,
        growth: 2,
        growth_factors: vec![1, 2],
        bottleneck_factors: vec![1, 2],
        prune,
        stem,
        image,
        ..cifar(5, 2, StepMode::LinGrow, 1, 2)
    };
    for prune in [Prune::Max, Prune::Min] {
        for (stem, image) in [(Stem::Cifar, 16), (Stem::Cifar, 19), (Stem::Imagenet, 64), (Stem::Imagenet, 57)] {
            let config = small(prune, stem, image);
            assert_eq!(config.problem(), None);
            let device = Device::flex();
            let logits = config.init(0, &device).forward(Tensor::ones([2, 3, image, image], &device));
            assert!(logits.as_slice().iter().all(|exit| exit.dims() == [2, 5]), "{config:?}");
        }
    }
}

/// Initial weights: uniform in `+-1 / sqrt(fan_in)`, of mean 0 and variance `bound^2 / 3`.
#[test]
fn initial_weights_have_the_spread_of_pytorchs_defaults() {
    let weight = Initializer::new(3, &Device::flex()).uniform_convolution([16, 32], 3, 1, true).weight.val();
    let values = weight.into_data().try_into_vec::<f32>().unwrap();
    let bound = 1.0 / (16.0f32 * 9.0).sqrt();
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
    assert!(largest <= bound && largest > 0.99 * bound, "{largest}");
    assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.05, "{variance}");
}
