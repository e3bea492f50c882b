//! What every backbone promises, on small random networks of each kind.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use neokd_model::weights::{self, TensorMap, WeightsError};
use neokd_model::{Frozen, ModelConfig, MultiExit, Network};

const SMALL_CNN: &str = "kind = \"small-cnn\"";
const RDI_RESNET: &str = "kind = \"rdi-resnet\"\ndepth = 14";
const MSDNET: &str = "
kind = \"msdnet\"
blocks = 3
base = 1
step = 1
channels = 4
growth = 2
growth_factors = [1, 2]
bottleneck_factors = [1, 2]
image = 16
";
const MSDNET_IMAGENET: &str = "
kind = \"msdnet\"
blocks = 2
base = 2
step = 1
step_mode = \"lin-grow\"
channels = 4
growth = 2
growth_factors = [1, 2]
bottleneck_factors = [1, 2]
prune = \"min\"
classes = 3
image = 64
stem = \"imagenet\"
normalization = \"imagenet\"
";

fn model(toml: &str) -> ModelConfig {
    let config: ModelConfig = toml::from_str(toml).unwrap();
    assert_eq!(config.problem(), None);
    config
}

fn models() -> Vec<ModelConfig> {
    let smooth = [SMALL_CNN, RDI_RESNET, MSDNET].map(|kind| model(&with_activation(kind, "silu")));
    [SMALL_CNN, RDI_RESNET, MSDNET, MSDNET_IMAGENET].map(model).into_iter().chain(smooth).collect()
}

fn with_activation(toml: &str, name: &str) -> String {
    format!("{toml}\nactivation = \"{name}\"")
}

/// Pixels in [0, 1] that differ between and within images.
fn pixels(network: &Network, batch: usize, device: &Device) -> Tensor<4> {
    let [channels, height, width] = network.input_shape();
    let count = batch * channels * height * width;
    let values: Vec<f32> = (0..count).map(|at| 0.5 + 0.5 * (at as f32 * 12.9898).sin()).collect();
    Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), device)
}

fn host(logits: &Tensor<2>) -> Vec<f32> {
    logits.to_data().try_into_vec().unwrap()
}

fn statistics(network: &Network) -> TensorMap {
    let running = |name: &String| name.ends_with("running_mean") || name.ends_with("running_var");
    weights::collect(network).unwrap().into_iter().filter(|(name, _)| running(name)).collect()
}

#[test]
fn a_prefix_gives_the_logits_of_its_exit() {
    let device = Device::flex();
    for config in models() {
        let network = Frozen::new(&config.init(1, &device));
        let input = pixels(network.network(), 3, &device);
        let all = network.forward(input.clone());
        assert_eq!(all.exits().len(), network.exits());
        for (exit, logits) in all.as_slice().iter().enumerate() {
            assert_eq!(logits.dims(), [3, network.classes()]);
            assert_eq!(host(&network.forward_to(input.clone(), exit)), host(logits), "{config:?} exit {exit}");
        }
    }
}

#[test]
fn stages_run_one_by_one_give_the_whole() {
    let device = Device::flex();
    for config in models() {
        let network = Frozen::new(&config.init(1, &device)).network().clone();
        let input = pixels(&network, 2, &device);
        let whole = network.forward(input.clone());
        let mut features = network.enter(input);
        for (stage, logits) in whole.as_slice().iter().enumerate() {
            features = network.advance(features, stage);
            assert_eq!(host(&network.head(&features, stage)), host(logits), "{config:?} stage {stage}");
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_neighbours() {
    let device = Device::flex();
    for config in models() {
        let network = Frozen::new(&config.init(1, &device));
        let input = pixels(network.network(), 3, &device);
        let together = network.forward(input.clone());
        let alone = network.forward(input.narrow(0, 1, 1));
        for (all, one) in together.as_slice().iter().zip(alone.as_slice()) {
            let row = host(&all.clone().narrow(0, 1, 1));
            assert!(row.iter().zip(host(one)).all(|(a, b)| (a - b).abs() < 1e-5), "{config:?}");
        }
    }
}

#[test]
fn training_moves_batch_norm_statistics_and_a_frozen_pass_does_not() {
    let device = Device::flex().autodiff();
    for config in models().into_iter().filter(|config| !matches!(config, ModelConfig::SmallCnn(_))) {
        let network = config.init(1, &device);
        let input = pixels(&network, 4, &device);
        let initial = statistics(&network);
        network.forward(input.clone());
        let trained = statistics(&network);
        let moved = trained.iter().filter(|(name, values)| initial[*name] != **values).count();
        assert_eq!(moved, trained.len(), "{config:?}: one training pass moves all statistics");

        let frozen = Frozen::new(&network);
        let input = input.require_grad();
        frozen.forward(input.clone()).as_slice()[0].clone().sum().backward();
        assert_eq!(statistics(&network), trained, "{config:?}");
        assert_eq!(statistics(frozen.network()), trained, "{config:?}");
    }
}

#[test]
fn folding_batch_norm_changes_no_logit_beyond_rounding() {
    let device = Device::flex().autodiff();
    for config in models() {
        let network = config.init(1, &device).train();
        let input = pixels(&network, 5, &device);
        // Statistics that are neither zero nor one.
        network.forward(input.clone());
        let (plain, input) = (network.valid(), input.inner());
        let (plain, folded) = (plain.forward(input.clone()), Frozen::new(&network).forward(input));
        for (plain, folded) in plain.as_slice().iter().zip(folded.as_slice()) {
            let (plain, folded) = (host(plain), host(folded));
            let largest = plain.iter().fold(1.0_f32, |largest, logit| largest.max(logit.abs()));
            for (plain, folded) in plain.iter().zip(&folded) {
                assert!((plain - folded).abs() <= 1e-5 * largest, "{config:?}: {folded} instead of {plain}");
            }
        }
    }
}

#[test]
fn every_activation_gives_logits_of_its_own() {
    let device = Device::flex();
    for kind in [SMALL_CNN, RDI_RESNET, MSDNET] {
        let logits = ["relu", "silu", "gelu"].map(|name| {
            let network = model(&with_activation(kind, name)).init(1, &device);
            let logits = network.forward(pixels(&network, 2, &device));
            // The last layer of SmallCNN's last exit begins at zero.
            logits.as_slice()[..logits.as_slice().len() - 1].iter().map(host).collect::<Vec<_>>()
        });
        let plain = model(kind).init(1, &device);
        let without = plain.forward(pixels(&plain, 2, &device));
        assert_eq!(host(&without.as_slice()[0]), logits[0][0], "{kind}: ReLU is the default");
        let [relu, silu, gelu] = &logits;
        for (exit, (relu, (silu, gelu))) in relu.iter().zip(silu.iter().zip(gelu)).enumerate() {
            assert!(relu != silu && silu != gelu && gelu != relu, "{kind}, exit {exit}");
        }
    }
    let unknown = toml::from_str::<ModelConfig>(&with_activation(MSDNET, "tanh")).unwrap_err().to_string();
    assert!(unknown.contains("tanh") && unknown.contains("silu"), "{unknown}");
}

#[test]
fn weights_go_out_and_in_unchanged() {
    let device = Device::flex();
    for config in models() {
        let network = config.init(1, &device);
        let tensors = weights::collect(&network).unwrap();
        let other = config.init(2, &device);
        assert_ne!(weights::collect(&other).unwrap(), tensors, "another seed gives other weights");
        let copy = weights::apply(other, tensors.clone()).unwrap();
        assert_eq!(weights::collect(&copy).unwrap(), tensors);

        let bytes = weights::encode_network(&config, &network).unwrap();
        let (read, copy) = weights::decode_network(&bytes, &device).unwrap();
        assert_eq!(read, config);
        assert_eq!(weights::collect(&copy).unwrap(), tensors);
    }
}

#[test]
fn original_names_go_out_and_in_unchanged() {
    let device = Device::flex();
    for config in models() {
        let tensors = weights::collect(&config.init(1, &device)).unwrap();
        let original = weights::to_pytorch_names(&config, tensors.clone());
        assert_eq!(original.len(), tensors.len(), "names are one to one");
        assert!(original.keys().all(|name| !tensors.contains_key(name) || name.starts_with("conv")), "all are renamed");
        let network = weights::from_pytorch(&config, original, &device).unwrap();
        assert_eq!(weights::collect(&network).unwrap(), tensors);
    }
}

#[test]
fn a_misfit_is_reported_under_the_original_names() {
    let (config, device) = (model(RDI_RESNET), Device::flex());
    let tensors = weights::collect(&config.init(1, &device)).unwrap();
    let mut original = weights::to_pytorch_names(&config, tensors);
    let fc = original.remove("fc.weight").unwrap();
    original.insert("stem.conv.weight".to_string(), fc);
    original.get_mut("fc.bias").unwrap().shape = vec![2, 5];
    let Err(WeightsError::Mismatch(report)) = weights::from_pytorch(&config, original, &device) else {
        panic!("accepted");
    };
    assert_eq!(report.missing, ["fc.weight"]);
    assert_eq!(report.unexpected, ["stem.conv.weight"]);
    assert_eq!(report.misshapen, ["fc.bias [2, 5] instead of [10]"]);
}

#[test]
fn the_last_exit_costs_all_parameters() {
    for config in models() {
        let network = config.init(0, &Device::flex());
        let trainable = |name: &String| !name.contains(".running_");
        let tensors = weights::collect(&network).unwrap();
        let count: usize = tensors.iter().filter(|(name, _)| trainable(name)).map(|(_, one)| one.values.len()).sum();
        assert_eq!(config.costs().last().unwrap().parameters, count as u64, "{config:?}");
        assert_eq!(config.costs(), network.costs());
    }
}

/// Depth `6n + 2` has that many convolutions and linear layers from the pixels to the last exit.
#[test]
fn rdi_resnet_depths_of_the_public_code() {
    for (depth, blocks) in [(38, 18), (74, 36), (110, 54)] {
        let config = model(&format!("kind = \"rdi-resnet\"\ndepth = {depth}"));
        let residual = |name: &&(String, String)| name.1.starts_with("group") && name.1.ends_with(".conv1");
        assert_eq!(config.pytorch_names().iter().filter(residual).count(), blocks);
        assert_eq!(config.costs().len(), 7);
    }
}

#[test]
fn a_key_that_does_not_exist_is_named() {
    for (toml, key) in [
        (format!("{MSDNET}\ngrowth_rate = 6"), "growth_rate"),
        (format!("{RDI_RESNET}\nwidth = 2"), "width"),
        (format!("{MSDNET}\nprune = \"mean\""), "mean"),
        (format!("{MSDNET}\nstep_mode = \"lin_grow\""), "lin_grow"),
        ("kind = \"vgg\"".to_string(), "vgg"),
    ] {
        let error = toml::from_str::<ModelConfig>(&toml).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn an_odd_value_is_named_with_its_cure() {
    for (toml, expected) in [
        ("kind = \"small-cnn\"\nclasses = 1", "model.classes = 1: a classifier needs at least 2"),
        ("kind = \"small-cnn\"\nclasses = 9000000000", "model has 5427000830816 parameters"),
        ("kind = \"rdi-resnet\"\nclasses = 1", "model.classes = 1: a classifier needs at least 2"),
        ("kind = \"rdi-resnet\"\ndepth = 40", "model.depth = 40: must be 6n + 2"),
        ("kind = \"rdi-resnet\"\ndepth = 8", "model.depth = 8: must be 6n + 2 with n at least 2"),
        ("kind = \"rdi-resnet\"\ndepth = 6000000002", "at most 1202"),
        ("kind = \"rdi-resnet\"\nnormalization = \"mnist\"", "model.normalization has 1 means and 1 deviations"),
        ("kind = \"msdnet\"\nclasses = 1", "model.classes = 1: a classifier needs at least 2"),
        ("kind = \"msdnet\"\nreduction = 1.5", "model.reduction = 1.5: must be in [0, 1]"),
        ("kind = \"msdnet\"\nreduction = nan", "model.reduction = NaN: must be in [0, 1]"),
        ("kind = \"msdnet\"\nreduction = 0.01", "model.reduction = 0.01 leaves a transition no channels"),
        ("kind = \"msdnet\"\ngrowth_factors = []", "model.growth_factors has 0 entries"),
        (
            "kind = \"msdnet\"\ngrowth_factors = [1, 2]",
            "model.bottleneck_factors has 3 entries, but growth_factors has 2",
        ),
        ("kind = \"msdnet\"\ngrowth_factors = [1, 0, 4]", "model.growth_factors holds 0: factors are from 1"),
        ("kind = \"msdnet\"\nbottleneck_factors = [1, 0, 4]", "model.bottleneck_factors holds 0: factors are from 1"),
        ("kind = \"msdnet\"\nblocks = 0", "model.blocks = 0: must be from 1"),
        ("kind = \"msdnet\"\nbase = 0", "model.base = 0: must be from 1"),
        ("kind = \"msdnet\"\nstep = 0", "model.step = 0: must be from 1"),
        ("kind = \"msdnet\"\nchannels = 0", "model.channels = 0: must be from 1"),
        ("kind = \"msdnet\"\nblocks = 900\nstep = 900\nstep_mode = \"lin-grow\"", "layers, more than 1000"),
        ("kind = \"msdnet\"\ngrowth = 1\ngrowth_factors = [1, 1, 1]", "model.growth = 1 times growth factor 1"),
        ("kind = \"msdnet\"\nimage = 64", "give growth_factors and bottleneck_factors 4 entries"),
        ("kind = \"msdnet\"\nimage = 64", "heads end at 2x2, not 1x1"),
        (
            "kind = \"msdnet\"\nimage = 3",
            "model.image = 3 with 3 growth_factors: heads end at 0x0, not 1x1; choose another",
        ),
        ("kind = \"msdnet\"\nclasses = 4000000000000000000", "model has 18446744073709551615 parameters"),
        ("kind = \"msdnet\"\nblocks = 200\nbase = 5\nstep = 5\nchannels = 4096\ngrowth = 4096", "model has "),
    ] {
        let config: ModelConfig = toml::from_str(toml).unwrap();
        let problem = config.problem().unwrap_or_else(|| panic!("{toml}: no problem"));
        assert!(problem.contains(expected), "{toml}: {problem}");
    }
}

#[test]
fn a_configuration_that_cannot_be_built_is_an_error_not_a_panic() {
    let config: ModelConfig = toml::from_str("kind = \"msdnet\"\nimage = 64").unwrap();
    let refused = weights::from_pytorch(&config, TensorMap::new(), &Device::flex());
    assert!(matches!(refused, Err(WeightsError::Model(why)) if why.contains("model.image")));
}
