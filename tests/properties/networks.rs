//! Frozen copies, prefixes, stages, costs and initial weights.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use neokd_model::{Frozen, ModelConfig, MultiExit, SmallCnnConfig, weights};

use crate::cases::{batch, host, network};

#[test]
fn a_prefix_and_single_stages_give_the_logits_of_the_whole_network() {
    let device = Device::flex();
    let (model, pixels) = (network(&device), batch(5, &device).pixels);
    let whole = model.forward(pixels.clone());
    let mut features = model.enter(pixels.clone());
    for exit in 0..model.exits() {
        let expected = host(whole.get(exit).unwrap());
        assert_eq!(host(&model.forward_to(pixels.clone(), exit)), expected);
        features = model.advance(features, exit);
        assert_eq!(host(&model.head(&features, exit)), expected);
    }
}

#[test]
fn rows_that_stay_get_the_same_logits_after_others_left() {
    let device = Device::flex();
    let (model, pixels) = (network(&device), batch(6, &device).pixels);
    let whole = model.forward_to(pixels.clone(), 2);
    let rows = Tensor::<1, Int>::from_ints([1, 4], &device);
    let features = model.advance(model.enter(pixels), 0).select(&rows);
    let features = model.advance(model.advance(features, 1), 2);
    let (ours, theirs) = (host(&model.head(&features, 2)), host(&whole.select(0, rows)));
    assert!(ours.iter().zip(&theirs).all(|(our, their)| (our - their).abs() < 1e-5));
}

#[test]
fn costs_of_small_cnn_are_those_of_the_reference() {
    let costs = network(&Device::flex()).costs();
    let weights: Vec<u64> = costs.iter().map(|cost| cost.weight_multiply_adds).collect();
    let parameters: Vec<u64> = costs.iter().map(|cost| cost.parameters).collect();
    assert_eq!(weights, [1_015_440, 8_529_056, 11_135_152]);
    assert_eq!(parameters, [162_554, 552_708, 836_846]);
    assert_eq!(network(&Device::flex()).num_params() as u64, parameters[2]);
}

#[test]
fn a_seed_gives_the_same_weights_and_another_seed_others() {
    let device = Device::flex();
    let make = |seed| weights::collect(&SmallCnnConfig::default().init(seed, &device)).unwrap();
    assert_eq!(make(5), make(5));
    assert_ne!(make(5), make(6));
}

#[test]
fn initial_weights_have_the_spread_that_the_papers_give() {
    let tensors = weights::collect(&network(&Device::flex())).unwrap();
    let deviation = |name: &str| {
        let values = &tensors[name].values;
        (values.iter().map(|value| f64::from(value * value)).sum::<f64>() / values.len() as f64).sqrt()
    };
    // Kaiming-normal with fan-in 64 * 9, and uniform in +-1/sqrt(1600).
    assert!((deviation("conv4.weight") / (2.0_f64 / 576.0).sqrt() - 1.0).abs() < 0.02);
    assert!((deviation("exit2.fc1.weight") / (1.0 / 1600.0_f64.sqrt() / 3.0_f64.sqrt()) - 1.0).abs() < 0.02);
    assert!(tensors["conv4.bias"].values.iter().chain(&tensors["exit3.fc3.weight"].values).all(|value| *value == 0.0));
}

#[test]
fn dropout_acts_while_training_only_and_repeats_with_its_key() {
    let device = Device::flex();
    let (model, pixels) = (network(&device).train(), batch(3, &device).pixels);
    let run = |key| {
        model.reseed(key);
        host(model.forward(pixels.clone()).get(0).unwrap())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let frozen = Frozen::new(&model);
    let quiet = host(&frozen.forward_to(pixels.clone(), 0));
    assert_eq!(quiet, host(&frozen.forward_to(pixels.clone().autodiff(), 0).without_autodiff()));
    assert_ne!(quiet, run(1));
}

#[test]
fn weights_survive_a_file_and_damage_is_noticed() {
    let device = Device::flex();
    let config = ModelConfig::SmallCnn(SmallCnnConfig::default());
    let model = config.init(3, &device);
    let bytes = weights::encode_network(&config, &model).unwrap();
    let (read_config, read) = weights::decode_network(&bytes, &device).unwrap();
    assert_eq!(read_config, config);
    assert_eq!(weights::collect(&read).unwrap(), weights::collect(&model).unwrap());
    // One bit anywhere in the data, and any missing tail.
    for at in [bytes.len() - 1, bytes.len() / 2, bytes.len() - 100_000] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert!(matches!(weights::decode(&damaged), Err(weights::WeightsError::Damaged { .. })));
    }
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(weights::decode(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_all_named() {
    let device = Device::flex();
    let model = network(&device);
    let mut tensors = weights::collect(&model).unwrap();
    let moved = tensors.remove("conv1.bias").unwrap();
    tensors.insert("conv9.bias".into(), moved);
    tensors.get_mut("conv2.bias").unwrap().shape = vec![4, 8];
    let error = weights::apply(model, tensors).unwrap_err().to_string();
    for part in ["conv1.bias", "conv9.bias", "conv2.bias", "[4, 8] instead of [32]"] {
        assert!(error.contains(part), "{error}");
    }
}
