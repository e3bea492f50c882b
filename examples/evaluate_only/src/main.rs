//! An evaluation of somebody's network: accuracy per exit with its interval, clean and under two attacks.
//!
//! `cargo run -- WEIGHTS` takes weights that neokd wrote, for MNIST; without any, a network that learned nothing.
#![allow(clippy::print_stdout, reason = "an example prints")]

use burn::tensor::Device;
use neokd_attack::{Attack, Objective, Pgd, Threat};
use neokd_evaluate::evaluate::Evaluation;
use neokd_model::{Frozen, ModelConfig, MultiExit, SmallCnnConfig, weights};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let network = match std::env::args().nth(1).filter(|name| name.ends_with(".safetensors")) {
        Some(file) => weights::decode_network(&std::fs::read(file)?, &device)?.1,
        None => ModelConfig::SmallCnn(SmallCnnConfig::default()).init(1, &device),
    };
    let data = neokd_datasets::load("mnist", std::path::Path::new(""))?;
    let pgd = Pgd { steps: 10, step_size: 0.02, random_start: true, restarts: 1 };
    let attacks = [Objective::Average, Objective::MaxAverage].map(|objective| Attack::new(objective, pgd));
    let scores = Evaluation {
        model: &Frozen::new(&network),
        set: &data.test,
        images: 100,
        batch_size: 50,
        attacks: &attacks,
        threat: &Threat::linf(0.1),
        key: 1,
        policies: &[],
        device: &device,
    }
    .run(&mut |_| {})?;
    for exit in 0..network.exits() {
        let attacked = scores.attacks.iter().map(|attack| attack.exits[exit].with_interval());
        let attacked: Vec<String> = attacked.collect();
        println!("exit {exit}: {} clean, {} attacked", scores.clean[exit].with_interval(), attacked.join(" and "));
    }
    Ok(())
}
