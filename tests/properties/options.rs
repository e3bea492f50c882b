//! Options of the training loop: resumable like everything else, and each does what it says.

use burn::module::Module;
use burn::tensor::Device;
use neokd_attack::{Objective, Scenario, Threat};
use neokd_datasets::DataSplits;
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_model::{Frozen, ModelConfig, Network, weights};
use neokd_train::RunConfig;
use neokd_train::options::ema::EmaConfig;
use neokd_train::options::training_attack::{TrainingAttack, TrainingSearch};
use neokd_train::run::checkpoint::{self, Contents, TrainingState};

use crate::cases::{batch, host};
use crate::training::{metrics, train};

/// A small MSDNet, which has batch-norm; four steps in two epochs.
fn config(set: &[&str]) -> RunConfig {
    let text = r#"
        data = { name = "synthetic" }
        threat = { epsilon = 0.1 }
        [model]
        kind = "msdnet"
        blocks = 2
        base = 1
        step = 1
        channels = 4
        growth = 2
        growth_factors = [1, 2]
        bottleneck_factors = [1, 1]
        classes = 4
        image = 16
        [training]
        epochs = 2
        batch_size = 8
        steps_per_epoch = 2
        checkpoint_every_steps = 3
        attack = { kind = "fgsm-rs", objective = "average" }
        loss = { kind = "neo-kd" }
        optimizer = { kind = "sgd" }
        schedule = { kind = "cosine", rate = 0.05 }
        [validation]
        every_steps = 1
        images = 8
        transfer_images = 12
        probe = { every_steps = 2, images = 8, steps = 2 }
        [evaluation]
        batch_size = 5
        attack = { kind = "fgsm" }
    "#;
    RunConfig::parse("test", text, &set.iter().map(|change| change.to_string()).collect::<Vec<_>>()).unwrap()
}

fn data() -> DataSplits {
    neokd_datasets::synthetic(3, 32, 16, 16, [3, 16, 16], 4).unwrap()
}

#[derive(Debug, PartialEq)]
struct End {
    model: weights::TensorMap,
    average: Option<weights::TensorMap>,
    predictions: Option<weights::HostTensor>,
    best: Option<Vec<u8>>,
    metrics: String,
}

fn end(folder: &std::path::Path, state: &TrainingState) -> End {
    End {
        model: weights::collect(&state.model).unwrap(),
        average: state.average.as_ref().map(|average| weights::collect(average).unwrap()),
        predictions: state.predictions.as_ref().map(|kept| kept.to_host()),
        best: std::fs::read(folder.join("checkpoints/best.safetensors")).ok(),
        metrics: metrics(folder),
    }
}

#[test]
fn with_every_option_a_run_that_is_interrupted_anywhere_ends_the_same() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let averaged: &[&str] = &[
        "training.ema={ decay = 0.9 }",
        "training.awp={ gamma = 0.01 }",
        "training.cutmix={ probability = 0.7 }",
        "training.label_smoothing=0.1",
        "training.attack_mode=training",
        "training.passes=joint",
        "training.loss.partition={ redrawn = \"batch\" }",
        "validation.keep_best=true",
    ];
    let remembering: &[&str] = &[
        "training.loss={ kind = \"pgd-te\", ensemble = { start = 0.0, full = 0.5 } }",
        "training.attack={ kind = \"n-fgsm\", objective = \"max-average\" }",
        "validation.keep_best=true",
        "validation.patience=1",
    ];
    for (name, set) in [("averaged", averaged), ("remembering", remembering)] {
        let config = config(set);
        let whole = folder.path().join(name);
        let state = train(&config, &data, &whole, &Stop::default()).unwrap();
        let expected = end(&whole, &state);
        assert!(expected.metrics.contains("\"event\":\"probe\""));
        let count = |event: &str| expected.metrics.matches(&format!("\"event\":\"{event}\"")).count();
        assert_eq!(count("transfer"), count("epoch"));
        for step in 1..state.progress.step {
            let path = folder.path().join(format!("{name}-{step}"));
            let stopped = train(&config, &data, &path, &Stop::after_step(step));
            assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{name} {step}");
            let resumed = train(&config, &data, &path, &Stop::default()).unwrap();
            assert_eq!(end(&path, &resumed), expected, "{name}, step {step}");
        }
    }
}

#[test]
fn the_average_is_what_a_checkpoint_stands_for_and_both_networks_can_be_read() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let path = folder.path().join("run");
    let state = train(&config(&["training.ema={ decay = 0.9 }"]), &data, &path, &Stop::default()).unwrap();
    let (file, device) = (path.join("checkpoints/last.safetensors"), Device::flex());
    let read = |network: Network| weights::collect(&network).unwrap();
    let expected = weights::collect(state.average.as_ref().unwrap()).unwrap();
    assert_eq!(read(checkpoint::load_network(&file, &device).unwrap().1), expected);
    let last = weights::collect(&state.model).unwrap();
    assert_eq!(read(Contents::<ModelConfig>::read(&file).unwrap().last_network(&device).unwrap().1), last);
    assert_ne!(last, expected);
}

#[test]
fn an_average_of_equal_networks_is_that_network_and_forgets_at_its_rate() {
    let device = Device::flex();
    let (first, second) = (config(&[]).model.init(1, &device), config(&[]).model.init(2, &device));
    let ema = EmaConfig { decay: 0.75, warm_up: false };
    let value = |network: &Network| weights::collect(network).unwrap();
    let same = value(&ema.update(first.valid(), &first, 0));
    let mixed = value(&ema.update(first.valid(), &second, 0));
    for (name, tensor) in value(&first) {
        let other = &value(&second)[&name].values;
        for (at, own) in tensor.values.iter().enumerate() {
            assert!((same[&name].values[at] - own).abs() <= 1e-6 * own.abs(), "{name}");
            let expected = 0.75 * own + 0.25 * other[at];
            assert!((mixed[&name].values[at] - expected).abs() < 1e-5, "{name}");
        }
    }
}

#[test]
fn options_that_do_nothing_change_no_bit() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let ends = |name: &str, set: &[&str]| {
        let path = folder.path().join(name);
        let state = train(&config(set), &data, &path, &Stop::default()).unwrap();
        weights::collect(&state.model).unwrap()
    };
    let plain = ends("plain", &[]);
    // Averaging, probing and keeping the best look at the network and leave it alone.
    let watched =
        &["training.ema={ decay = 0.5 }", "validation.keep_best=true", "validation.probe={ when = \"never\" }"];
    assert_eq!(ends("watched", watched), plain);
    assert_ne!(ends("awp", &["training.awp={ gamma = 0.01 }"]), plain);
    assert_ne!(ends("smooth", &["training.label_smoothing=0.1"]), plain);
    assert_ne!(ends("mode", &["training.attack_mode=training"]), plain);
    assert_ne!(ends("joint", &["training.passes=joint"]), plain);
}

#[test]
fn an_attack_in_training_mode_leaves_the_network_as_it_was() {
    let (device, data) = (Device::flex(), data());
    let model = config(&[]).model.init(1, &device).train();
    let images = neokd_evaluate::batches::collect(&data.train, &[0, 1, 2, 3], &device).unwrap().batch;
    let before = weights::collect(&model).unwrap();
    let frozen = Frozen::in_training_mode(&model);
    let attack = TrainingAttack { objective: Objective::default(), search: TrainingSearch::FgsmRs(Default::default()) };
    let moved = attack.perturb(&Scenario::new(&frozen, &images, &Threat::linf(0.1), 5)).unwrap().pixels;
    assert_eq!(weights::collect(&model).unwrap(), before);
    // Batch-norm there does see the batch.
    let alone = frozen.forward(moved.clone().narrow(0, 0, 2)).into_last();
    let together = frozen.forward(moved).into_last().narrow(0, 0, 2);
    assert_ne!(host(&alone), host(&together));
}

#[test]
fn n_fgsm_stays_among_pixels_and_goes_beyond_the_ball() {
    let device = Device::flex();
    let (model, images) = (crate::cases::network(&device), batch(6, &device));
    let attack = TrainingAttack { objective: Objective::default(), search: TrainingSearch::NFgsm(Default::default()) };
    let moved = attack.perturb(&Scenario::new(&Frozen::new(&model), &images, &Threat::linf(0.1), 5)).unwrap().pixels;
    let change: Vec<f32> = host(&(moved.clone() - images.pixels.clone()).abs());
    let largest = change.iter().copied().fold(0.0, f32::max);
    // Noise of twice epsilon and a step of one.
    assert!(largest > 0.2 && largest <= 0.3 + 1e-6, "{largest}");
    assert!(host(&moved).iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    let again = attack.perturb(&Scenario::new(&Frozen::new(&model), &images, &Threat::linf(0.1), 5)).unwrap().pixels;
    assert_eq!(host(&moved), host(&again));
}

#[test]
fn a_patient_run_ends_early_and_its_best_is_kept() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    // Nothing improves at a learning rate of almost zero.
    let set =
        ["validation.keep_best=true", "validation.patience=2", "training.schedule.rate=1e-12", "training.epochs=5"];
    let path = folder.path().join("run");
    let state = train(&config(&set), &data, &path, &Stop::default()).unwrap();
    let best = state.progress.best.unwrap();
    assert_eq!((best.step, best.looks_since, state.progress.step), (1, 2, 3));
    assert!(path.join("checkpoints/best.safetensors").exists());
}

/// FGSM without a random start at a large epsilon is the textbook case.
#[test]
fn a_run_that_overfits_catastrophically_raises_the_alarm_within_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let data = neokd_datasets::load("mnist", folder.path()).unwrap();
    let text = r#"
        model = { kind = "small-cnn", dropout = 0.0 }
        data = { name = "mnist" }
        threat = { epsilon = 0.3 }
        [training]
        epochs = 1
        batch_size = 16
        steps_per_epoch = 100
        attack = { kind = "fgsm", objective = "average" }
        loss = { kind = "adversarial-training" }
        optimizer = { kind = "adam" }
        schedule = { kind = "cosine", rate = 0.002 }
        [validation]
        every_steps = 0
        images = 8
        probe = { every_steps = 20, images = 32 }
        [evaluation]
        attack = { kind = "fgsm" }
    "#;
    let config = RunConfig::parse("test", text, &[]).unwrap();
    let state = train(&config, &data, &folder.path().join("run"), &Stop::default()).unwrap();
    assert!(state.progress.alarm.is_some(), "{}", metrics(&folder.path().join("run")));
}
