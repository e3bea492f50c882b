//! Speed of the steps that a run is made of: inference, attack step, training steps.
//!
//! `cargo xtask bench [--device D] [--batch N] [--rounds N] [--json FILE]`. Machines are shared and
//! noisy: the arms take turns in every round, and the median over the rounds is what counts.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use clap::Parser;
use neokd_attack::{Attack, Pgd, Target, Threat, perturb};
use neokd_distill::{Draw, ExitLoss, LossConfig, LossInput, NeoKdConfig};
use neokd_model::{Frozen, ModelConfig, MultiExit, Network, SmallCnnConfig};
use neokd_train::batches::{self, LabelledBatch};
use neokd_train::device::DeviceChoice;
use neokd_train::optimizer::{Optimizer, OptimizerConfig};
use neokd_train::{device, plan};
use serde_json::json;

/// Speed of inference, attack and training steps.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Images per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Rounds; in each, every arm runs once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Write the figures here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

type Arm<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let (device, name) = device::open(args.device)?;
    let data = neokd_datasets::synthetic(1, args.batch, 1, 1, [1, 28, 28], 10)?;
    let batch = batches::collect(&data.train, &(0..args.batch).collect::<Vec<_>>(), &device);
    let mut arms = arms(&batch, &device);
    println!("mnist small-cnn, {name}, batch {}, median of {} rounds", args.batch, args.rounds);

    let mut seconds: Vec<Vec<f64>> = arms.iter().map(|_| Vec::new()).collect();
    for round in 0..=args.rounds {
        for (arm, times) in arms.iter_mut().zip(&mut seconds) {
            let started = Instant::now();
            (arm.1)();
            device.sync().map_err(|error| format!("{error:?}"))?;
            // The first round warms up.
            if round > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    let figures: Vec<(&str, f64)> = arms
        .iter()
        .zip(&mut seconds)
        .map(|(arm, times)| {
            times.sort_by(f64::total_cmp);
            (arm.0, args.batch as f64 / times[times.len() / 2])
        })
        .collect();
    for (arm, speed) in &figures {
        println!("{arm:22} {speed:9.1} images/s");
    }
    let memory = plan::resident();
    if let Some(bytes) = memory {
        println!("{:22} {:9} MB", "peak memory", bytes / 1_000_000);
    }
    if let Some(path) = args.json {
        let speeds: serde_json::Map<String, serde_json::Value> =
            figures.iter().map(|(arm, speed)| (arm.to_string(), json!(speed))).collect();
        let report = json!({
            "device": name, "batch": args.batch, "rounds": args.rounds,
            "network": "mnist small-cnn", "images_per_second": speeds, "peak_bytes": memory,
        });
        std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn arms<'a>(batch: &'a LabelledBatch, device: &Device) -> Vec<Arm<'a>> {
    let model = ModelConfig::SmallCnn(SmallCnnConfig::default()).init(1, device);
    let frozen = Frozen::new(&model);
    let attacked = Frozen::new(&model);
    let threat = Threat::linf(0.3);
    let attack = |target, steps| Attack { target, pgd: Pgd { steps, step_size: 0.1, random_start: true, restarts: 1 } };
    let mut clean = Trainer::new(&model, LossConfig::AdversarialTraining(Default::default()), None);
    let mut robust =
        Trainer::new(&model, LossConfig::NeoKd(NeoKdConfig::default()), Some(attack(Target::MaxAverage, 7)));
    vec![
        (
            "inference",
            Box::new(move || {
                let logits = frozen.forward(batch.batch.pixels.clone());
                let _ = logits.into_last().into_data();
            }),
        ),
        (
            "attack step",
            Box::new(move || {
                let result = perturb(&attacked, &batch.batch, &attack(Target::Average, 1), &threat, 1);
                result.expect("a valid attack");
            }),
        ),
        ("clean training step", Box::new(move || clean.step(batch, &threat))),
        ("NEO-KD step, 7 steps", Box::new(move || robust.step(batch, &threat))),
    ]
}

struct Trainer {
    model: Network,
    optimizer: Optimizer,
    loss: Box<dyn ExitLoss + Send + Sync>,
    attack: Option<Attack>,
}

impl Trainer {
    fn new(model: &Network, loss: LossConfig, attack: Option<Attack>) -> Self {
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
        let loss = loss.init(model.exits()).expect("a valid loss");
        Self { model: model.clone().train(), optimizer: Optimizer::new(&sgd), loss, attack }
    }

    fn step(&mut self, data: &LabelledBatch, threat: &Threat) {
        let clean = self.model.forward(data.batch.pixels.clone());
        let total = match &self.attack {
            None => clean
                .as_slice()
                .iter()
                .map(|exit| neokd_distill::cross_entropy(exit, &data.batch.labels).mean())
                .reduce(|sum, exit| sum + exit),
            Some(attack) => {
                let frozen = Frozen::new(&self.model);
                let pixels = perturb(&frozen, &data.batch, attack, threat, 1).expect("a valid attack").pixels;
                let adversarial = self.model.forward(pixels);
                let draw = Draw { run: 1, epoch: 1, step: 1, examples: &data.batch.examples, labels: &data.labels };
                let input = LossInput::new(clean.as_slice(), adversarial.as_slice(), &data.batch.labels, draw);
                Some(self.loss.terms(input).total())
            }
        };
        let gradients = total.expect("at least one exit").backward();
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        self.model = self.optimizer.step(0.01, self.model.clone(), gradients);
    }
}
