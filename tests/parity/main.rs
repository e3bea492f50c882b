//! Every other backend that is compiled in and present against Flex: logits, an attack step, a
//! training step. Run it with, for example,
//! `cargo test --release -p neokd --features vulkan --test parity`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use neokd::device::{self, DeviceChoice};
use neokd_attack::{Attack, Objective, Pgd, Scenario, Threat, run};
use neokd_distill::{Draw, LossConfig, LossInput, NeoKdConfig};
use neokd_evaluate::batches;
use neokd_model::weights::{self, TensorMap};
use neokd_model::{Frozen, ModelConfig, MultiExit, SmallCnnConfig};
use neokd_train::training::optimizer::{Optimizer, OptimizerConfig};

/// What one device computes, on the host.
struct Computed {
    logits: Vec<Vec<f32>>,
    attacked: Vec<f32>,
    after_step: TensorMap,
}

#[test]
fn every_device_computes_what_the_cpu_computes() {
    let (cpu, _) = device::open(DeviceChoice::Cpu).unwrap();
    let expected = compute(&cpu);
    let others = [DeviceChoice::NdArray, DeviceChoice::Wgpu(0), DeviceChoice::Vulkan(0), DeviceChoice::Cuda(0)];
    for choice in others {
        match device::open(choice) {
            Ok((device, name)) => {
                compare(&name, &expected, &compute(&device));
                eprintln!("{name}: agrees with the CPU");
            }
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
}

fn compute(device: &Device) -> Computed {
    let data = neokd_datasets::load("mnist", std::path::Path::new("")).unwrap();
    let data = batches::collect(&data.test, &(0..16).collect::<Vec<_>>(), device).unwrap();
    let model = ModelConfig::SmallCnn(SmallCnnConfig { dropout: 0.0, ..Default::default() }).init(3, device);
    let frozen = Frozen::new(&model);
    let logits = frozen.forward(data.batch.pixels.clone()).as_slice().iter().map(host).collect();

    let pgd = Pgd { steps: 1, step_size: 0.1, random_start: true, restarts: 1 };
    let attack = Attack::new(Objective::MaxAverage, pgd);
    let adversarial =
        run(&Scenario::new(&frozen, &data.batch, &Threat::linf(0.3), 1), &attack).unwrap().adversarial.pixels;

    let model = model.train();
    let (clean, attacked) = (model.forward(data.batch.pixels.clone()), model.forward(adversarial.clone()));
    let loss = LossConfig::NeoKd(NeoKdConfig::default()).init(3).unwrap();
    let draw = Draw { run: 1, epoch: 1, step: 1, examples: &data.batch.examples, labels: &data.labels };
    let terms = loss.terms(LossInput::new(clean.as_slice(), attacked.as_slice(), &data.batch.labels, draw));
    let gradients = GradientsParams::from_grads(terms.total().backward(), &model);
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
    let model = Optimizer::new(&sgd).step(0.01, model, gradients);
    Computed { logits, attacked: host(&adversarial), after_step: weights::collect(&model).unwrap() }
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_into_vec().unwrap()
}

fn compare(name: &str, expected: &Computed, found: &Computed) {
    for (exit, (expected, found)) in expected.logits.iter().zip(&found.logits).enumerate() {
        close(&format!("{name}: logits of exit {exit}"), expected, found, 1e-4);
    }
    // A gradient's sign may differ where it is near zero, and with it the whole step.
    let equal = expected.attacked.iter().zip(&found.attacked).filter(|(a, b)| (*a - *b).abs() < 1e-5).count();
    let share = equal as f64 / expected.attacked.len() as f64;
    assert!(share > 0.995, "{name}: only {:.2} % of the attacked pixels are equal", 100.0 * share);
    for (tensor, expected) in &expected.after_step {
        close(&format!("{name}: {tensor} after a step"), &expected.values, &found.after_step[tensor].values, 1e-3);
    }
}

fn close(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    for (expected, found) in expected.iter().zip(found) {
        assert!(
            (expected - found).abs() <= tolerance * expected.abs().max(1.0),
            "{what}: {found} instead of {expected}"
        );
    }
}
