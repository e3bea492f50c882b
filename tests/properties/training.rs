//! Training is repeatable, resumable at every step, and its losses are differentiated correctly.

use std::path::Path;

use burn::tensor::Device;
use neokd_datasets::DataSplits;
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_model::weights;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::TrainingState;
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::{Fit, Silent};

use crate::cases::data;

fn config(optimizer: &str) -> RunConfig {
    let text = r#"
        model = { kind = "small-cnn" }
        data = { name = "mnist", train_images = 40, augmentation = { kind = "pad-crop-flip", pad = 2 } }
        threat = { epsilon = 0.1 }
        [training]
        epochs = 2
        batch_size = 10
        checkpoint_every_steps = 3
        attack = { kind = "pgd", objective = "max-average", steps = 1, step_size = 0.05 }
        loss = { kind = "neo-kd" }
        schedule = { kind = "cosine", rate = 0.01 }
        [validation]
        every_steps = 3
        images = 8
        [evaluation]
        attack = { kind = "fgsm" }
    "#;
    RunConfig::parse("test", text, &[format!("training.optimizer={optimizer}")]).unwrap()
}

const SGD: &str = "{ kind = \"sgd\", weight_decay = 5e-4 }";
const ADAM: &str = "{ kind = \"adam\" }";

pub(crate) fn train(config: &RunConfig, data: &DataSplits, folder: &Path, stop: &Stop) -> Result<TrainingState, Error> {
    train_with(0, config, data, folder, stop)
}

/// The same with so many further devices.
fn train_with(
    replicas: usize,
    config: &RunConfig,
    data: &DataSplits,
    folder: &Path,
    stop: &Stop,
) -> Result<TrainingState, Error> {
    let device = Device::flex();
    let (run, mut state) = match folder.join("config.toml").exists() {
        true => {
            let (run, _) = RunDir::open(folder)?;
            let state = TrainingState::load(config, &run.checkpoint_path(), &device)?;
            (run, state)
        }
        false => (RunDir::create(folder, config)?, TrainingState::start(config, &device)),
    };
    let fit = Fit::new(config, data, &device)?.with_replicas(vec![device.clone(); replicas]);
    fit.run(&mut state, &run, stop, &mut Silent)?;
    Ok(state)
}

pub(crate) fn metrics(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap()
}

#[test]
fn the_same_run_twice_gives_the_same_metrics_and_weights() {
    let (folder, data, config) = (tempfile::tempdir().unwrap(), data(), config(SGD));
    let run = |name: &str| {
        let path = folder.path().join(name);
        let state = train(&config, &data, &path, &Stop::default()).unwrap();
        (weights::collect(&state.model).unwrap(), metrics(&path))
    };
    assert_eq!(run("first"), run("second"));
}

#[test]
fn several_devices_learn_what_one_learns() {
    let (folder, data, mut config) = (tempfile::tempdir().unwrap(), data(), config(SGD));
    // Without dropout, whose masks are drawn by part, parts of a batch add up to the batch.
    config.model = toml::from_str("kind = \"small-cnn\"\ndropout = 0.0").unwrap();
    let run = |replicas: usize, name: &str| {
        let path = folder.path().join(name);
        let state = train_with(replicas, &config, &data, &path, &Stop::default()).unwrap();
        (weights::collect(&state.model).unwrap(), metrics(&path))
    };
    let (alone, _) = run(0, "alone");
    for replicas in [1, 2] {
        let (together, metrics) = run(replicas, &format!("{replicas}"));
        assert_eq!((together.clone(), metrics), run(replicas, &format!("{replicas} again")));
        assert_eq!(alone.keys().collect::<Vec<_>>(), together.keys().collect::<Vec<_>>());
        for (name, tensor) in &alone {
            let furthest = tensor.values.iter().zip(&together[name].values).map(|(one, other)| (one - other).abs());
            let furthest = furthest.fold(0.0, f32::max);
            assert!(furthest < 2e-4, "{name} with {replicas} replicas: {furthest}");
        }
    }
}

#[test]
fn interrupted_at_any_step_of_two_epochs_and_resumed_it_ends_the_same() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    for optimizer in [SGD, ADAM] {
        let config = config(optimizer);
        let whole = folder.path().join(format!("whole-{}", optimizer.len()));
        let expected = train(&config, &data, &whole, &Stop::default()).unwrap();
        for step in 1..8 {
            let path = folder.path().join(format!("{}-{step}", optimizer.len()));
            match train(&config, &data, &path, &Stop::after_step(step)) {
                Err(Error::Interrupted { step: stopped, .. }) => assert_eq!(stopped, step),
                other => panic!("expected a stop after step {step}, got {:?}", other.map(|_| ())),
            }
            let resumed = train(&config, &data, &path, &Stop::default()).unwrap();
            let (ours, theirs) =
                (weights::collect(&resumed.model).unwrap(), weights::collect(&expected.model).unwrap());
            assert_eq!(ours, theirs, "{optimizer}, step {step}");
            assert_eq!(resumed.optimizer.to_state(), expected.optimizer.to_state(), "{optimizer}, step {step}");
            assert_eq!(metrics(&path), metrics(&whole), "{optimizer}, step {step}");
        }
    }
}

#[test]
fn a_run_killed_between_checkpoints_goes_on_from_the_last_one() {
    let (folder, data, config) = (tempfile::tempdir().unwrap(), data(), config(SGD));
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let expected = train(&config, &data, &whole, &Stop::default()).unwrap();
    let _ = train(&config, &data, &killed, &Stop::after_step(3));
    // What a killed process leaves behind: lines past the checkpoint, the last one cut short.
    let ahead: String = metrics(&whole).lines().take(7).map(|line| format!("{line}\n")).collect();
    std::fs::write(killed.join("metrics.jsonl"), format!("{ahead}{{\"event\":\"st")).unwrap();
    let resumed = train(&config, &data, &killed, &Stop::default()).unwrap();
    assert_eq!(weights::collect(&resumed.model).unwrap(), weights::collect(&expected.model).unwrap());
    assert_eq!(metrics(&killed), metrics(&whole));
}

#[test]
fn training_lowers_the_loss() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let mut config = config(ADAM);
    config.data.train_images = 0;
    config.training.batch_size = 32;
    config.training.epochs = 3;
    let path = folder.path().join("run");
    train(&config, &data, &path, &Stop::default()).unwrap();
    let totals: Vec<f64> = metrics(&path)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["total"].as_f64())
        .collect();
    assert_eq!(totals.len(), 24);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&totals[18..]) < 0.8 * mean(&totals[..6]), "{totals:?}");
}
