//! Attacks on somebody's network: AutoAttack's first member on every exit, and whether to believe the number.
//!
//! `cargo run -- WEIGHTS` takes weights that neokd wrote, for MNIST; without any, a network that learned nothing.
#![allow(clippy::print_stdout, reason = "an example prints")]

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::{Apgd, ApgdCe, Attack, Batch, Criterion, Diagnostics, Effort, Objective, Scenario, Threat};
use neokd_model::{Frozen, ModelConfig, SmallCnnConfig, weights};

const IMAGES: usize = 50;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let network = match std::env::args().nth(1).filter(|name| name.ends_with(".safetensors")) {
        Some(file) => weights::decode_network(&std::fs::read(file)?, &device)?.1,
        None => ModelConfig::SmallCnn(SmallCnnConfig::default()).init(1, &device),
    };
    let model = Frozen::new(&network);
    let batch = batch(&device)?;
    let threat = Threat::linf(0.1);
    let scenario = Scenario::new(&model, &batch, &threat, 1);
    for exit in 0..model.exits() {
        let attack = Attack::new(Objective::Single(exit), ApgdCe(Apgd { steps: 10, restarts: 1 }));
        let outcome = neokd_attack::run(&scenario, &attack)?;
        let broken = Criterion::Exit(exit).broken(&outcome.logits, &batch.labels).int().sum().into_scalar::<i64>();
        println!("exit {exit}: {broken} of {IMAGES} broken, audit {:?}", outcome.adversarial.audit);
    }
    let signs = Diagnostics::measure(&scenario, &Criterion::AnyExit, Effort::default())?;
    println!("verdict: {:#?}", signs.verdict());
    Ok(())
}

/// The first test images of MNIST; any pixels in `[0, 1]` with labels do.
fn batch(device: &Device) -> Result<Batch, Box<dyn std::error::Error>> {
    let set = neokd_datasets::load("mnist", std::path::Path::new(""))?.test;
    let pixels: Vec<f32> = (0..IMAGES).flat_map(|at| set.image(at)).map(|byte| f32::from(*byte) / 255.0).collect();
    let labels: Vec<i64> = (0..IMAGES).map(|at| i64::from(set.label(at))).collect();
    Ok(Batch {
        pixels: Tensor::from_data(TensorData::new(pixels, [IMAGES, 1, 28, 28]), device),
        labels: Tensor::from_data(TensorData::new(labels, [IMAGES]), device),
        examples: (0..IMAGES as u64).collect(),
    })
}
