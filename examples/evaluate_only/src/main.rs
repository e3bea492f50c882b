//! An evaluation of somebody's network: accuracy per exit with its interval, clean and under two attacks.
//!
//! `cargo run -- WEIGHTS` takes weights that neokd wrote, for MNIST; without any, a network that learned nothing.
#![allow(clippy::print_stdout, reason = "an example prints")]

use burn::tensor::Device;
use neokd_attack::{Attack, Objective, Pgd, Threat};
use neokd_datasets::Images;
use neokd_evaluate::attack_run::AttackRun;
use neokd_evaluate::images::Source;
use neokd_evaluate::{Evaluation, ImageOutcomes};
use neokd_model::{Frozen, ModelConfig, MultiExit, SmallCnnConfig, weights};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let network = match std::env::args().nth(1).filter(|name| name.ends_with(".safetensors")) {
        Some(file) => weights::decode_network(&std::fs::read(file)?, &device)?.1,
        None => ModelConfig::SmallCnn(SmallCnnConfig::default()).init(1, &device),
    };
    let data = neokd_datasets::load("mnist", std::path::Path::new(""))?;
    let pgd = Pgd { steps: 10, step_size: 0.02, random_start: true, restarts: 1 };
    let threat = Threat::linf(0.1);
    let runs = [Objective::Average, Objective::MaxAverage]
        .map(|objective| AttackRun::of(&Attack::new(objective, pgd), &threat));
    let (model, images) = (Frozen::new(&network), Source::from(&data.test as &dyn Images));
    let scored = Evaluation { count: 100, ..Evaluation::new(&model, &images, &runs, 1, &device) }.run()?;
    for exit in 0..network.exits() {
        let share = |found: &ImageOutcomes| found.whole.right[exit].share().with_interval();
        let attacked: Vec<String> = scored.runs.iter().map(share).collect();
        println!("exit {exit}: {} clean, {} attacked", share(&scored.clean), attacked.join(" and "));
    }
    Ok(())
}
