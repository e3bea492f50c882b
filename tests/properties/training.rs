//! Training is repeatable, resumable at every step, and its losses are differentiated correctly.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_datasets::DataSplits;
use neokd_distill::{Draw, LossConfig, LossInput, NeoKdConfig};
use neokd_model::weights;
use neokd_train::checkpoint::TrainingState;
use neokd_train::fit::{Fit, Silent};
use neokd_train::run_dir::RunDir;
use neokd_train::stop::Stop;
use neokd_train::{Error, RunConfig};

use crate::cases::{data, host};

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

fn train(config: &RunConfig, data: &DataSplits, folder: &Path, stop: &Stop) -> Result<TrainingState, Error> {
    let device = Device::flex();
    let (run, mut state) = match folder.join("config.toml").exists() {
        true => {
            let (run, _) = RunDir::open(folder)?;
            let state = TrainingState::load(config, &run.checkpoint_path(), &device)?;
            (run, state)
        }
        false => (RunDir::create(folder, config)?, TrainingState::start(config, &device)),
    };
    Fit::new(config, data, &device)?.run(&mut state, &run, stop, &mut Silent)?;
    Ok(state)
}

fn metrics(folder: &Path) -> String {
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

#[test]
fn loss_gradients_agree_with_finite_differences_and_teachers_get_none() {
    let device = Device::flex();
    let tracked = device.clone().autodiff();
    let (batch, exits, classes) = (4, 3, 6);
    let size = batch * classes;
    let values: Vec<f32> = (0..2 * exits * size).map(|at| ((at * 7919 + 13) % 101) as f32 / 25.0 - 2.0).collect();
    let labels = [1_usize, 0, 5, 3];
    let on_device = Tensor::from_ints([1, 0, 5, 3], &device);
    let draw = Draw { seed: 1, examples: &[0, 1, 2, 3], labels: &labels };
    let split = |values: &[f32], device: &Device, tracked: bool| -> Vec<Tensor<2>> {
        let one = |chunk: &[f32]| Tensor::<2>::from_data(TensorData::new(chunk.to_vec(), [batch, classes]), device);
        values.chunks(size).map(|chunk| if tracked { one(chunk).require_grad() } else { one(chunk) }).collect()
    };
    for alpha in [0.0, 3.0] {
        let config = LossConfig::NeoKd(NeoKdConfig { alpha, gamma: vec![1.0, 1.5, 2.0], ..NeoKdConfig::default() });
        let loss = config.init(exits).unwrap();
        let leaves = split(&values, &tracked, true);
        let (clean, adversarial) = leaves.split_at(exits);
        let input = LossInput { clean, adversarial, labels: &on_device, draw };
        let gradients = loss.terms(input).total().backward();

        let total = |values: &[f32]| {
            let plain = split(values, &device, false);
            let (clean, adversarial) = plain.split_at(exits);
            f64::from(host(&loss.terms(LossInput { clean, adversarial, labels: &on_device, draw }).total())[0])
        };
        // Adversarial logits: the loss itself. Clean logits teach, so only cross-entropy reaches them.
        for (exit, leaf) in adversarial.iter().enumerate() {
            let ours = host(&leaf.grad(&gradients).unwrap());
            for at in [0, 7, size - 1] {
                let place = (exits + exit) * size + at;
                let moved = |by: f32| {
                    let mut values = values.clone();
                    values[place] += by;
                    total(&values)
                };
                let slope = (moved(0.02) - moved(-0.02)) / 0.04;
                assert!((f64::from(ours[at]) - slope).abs() < 2e-3 * slope.abs().max(1.0), "{} {slope}", ours[at]);
            }
        }
        let plain = LossConfig::AdversarialTraining(Default::default()).init(exits).unwrap();
        let only_entropy = plain.terms(input).total().backward();
        for exit in clean {
            assert_eq!(host(&exit.grad(&gradients).unwrap()), host(&exit.grad(&only_entropy).unwrap()));
        }
    }
}
