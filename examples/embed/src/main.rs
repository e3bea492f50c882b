//! A network of one's own, trained with the NEO-KD loss in a loop of one's own, attacked, and judged.
#![allow(clippy::print_stdout)]

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::{Attack, Batch, Criterion, Diagnostics, Effort, Pgd, Target, Threat};
use neokd_distill::{Draw, ExitLoss, LossInput, NeoKd, NeoKdConfig};
use neokd_model::{CostCounter, ExitCost, Features, Frozen, MultiExit};

const CLASSES: usize = 10;
const WIDTH: usize = 128;
const INPUTS: [usize; 3] = [28 * 28, WIDTH, WIDTH];

/// Three fully connected layers with a classifier behind each.
#[derive(Module, Debug)]
struct Mlp {
    trunk: Vec<Linear>,
    heads: Vec<Linear>,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        let layer = |inputs| LinearConfig::new(inputs, WIDTH).init(device);
        let head = |_| LinearConfig::new(WIDTH, CLASSES).init(device);
        Self { trunk: INPUTS.map(layer).into(), heads: INPUTS.map(head).into() }
    }
}

impl MultiExit for Mlp {
    fn exits(&self) -> usize {
        INPUTS.len()
    }
    fn classes(&self) -> usize {
        CLASSES
    }
    fn input_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }
    fn costs(&self) -> Vec<ExitCost> {
        let mut cost = CostCounter::new();
        INPUTS.iter().for_each(|inputs| {
            cost.linear(*inputs, WIDTH).relu(WIDTH).linear(WIDTH, CLASSES).exit();
        });
        cost.into_costs()
    }
    fn enter(&self, pixels: Tensor<4>) -> Features {
        Features::single(pixels)
    }
    fn advance(&self, features: Features, stage: usize) -> Features {
        let flat = features.into_single().flatten::<2>(1, 3);
        Features::single(relu(self.trunk[stage].forward(flat)).unsqueeze_dims(&[2, 3]))
    }
    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        self.heads[exit].forward(features.clone().into_single().flatten(1, 3))
    }
}

fn batch(set: &neokd_datasets::ImageSet, from: usize, size: usize, device: &Device) -> (Batch, Vec<usize>) {
    let indices = from..from + size;
    let pixels: Vec<f32> = indices.clone().flat_map(|at| set.image(at)).map(|byte| f32::from(*byte) / 255.0).collect();
    let labels: Vec<usize> = indices.clone().map(|at| usize::from(set.label(at))).collect();
    let pixels = Tensor::from_data(TensorData::new(pixels, [size, 1, 28, 28]), device);
    let classes = TensorData::new(labels.iter().map(|label| *label as i64).collect::<Vec<_>>(), [size]);
    let (on_device, examples) = (Tensor::from_data(classes, device), indices.map(|at| at as u64).collect());
    (Batch { pixels, labels: on_device, examples }, labels)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (device, steps, size) = (Device::flex(), 300, 64);
    let data = neokd_datasets::load("mnist", std::path::Path::new(""))?;
    let threat = Threat::linf(0.1);
    let pgd = |steps| Pgd { steps, step_size: 0.25 * threat.epsilon, random_start: true, restarts: 1 };
    let mut model = Mlp::new(&device).train();
    let mut adam = AdamConfig::new().init();
    let loss = NeoKd::new(NeoKdConfig::default(), INPUTS.len())?;
    for step in 0..steps {
        let (batch, labels) = batch(&data.train, step as usize * size, size, &device);
        let attack = Attack { target: Target::Average, pgd: pgd(5) };
        let adversarial = neokd_attack::perturb(&Frozen::new(&model), &batch, &attack, &threat, step)?;
        let (clean, attacked) = (model.forward(batch.pixels.clone()), model.forward(adversarial.pixels));
        let draw = Draw { run: 1, epoch: 1, step, examples: &batch.examples, labels: &labels };
        let terms = loss.terms(LossInput::new(clean.as_slice(), attacked.as_slice(), &batch.labels, draw));
        let gradients = GradientsParams::from_grads(terms.total().backward(), &model);
        model = adam.step(1e-3, model, gradients);
    }
    let [(test, _), (few, _)] = [500, 100].map(|size| batch(&data.test, 0, size, &device));
    let (frozen, attack) = (Frozen::new(&model), Attack { target: Target::MaxAverage, pgd: pgd(20) });
    let outcome = neokd_attack::run(&frozen, &test, &attack, &threat, 1)?;
    for exit in 0..INPUTS.len() {
        let broken = Criterion::Exit(exit).broken(&outcome.logits, &test.labels).int().sum().into_scalar::<i64>();
        println!("exit {exit}: {broken} of {} test images broken by {}", test.len(), attack.target);
    }
    let signs = Diagnostics::measure(&frozen, &few, &Criterion::AnyExit, &threat, Effort::default(), 1)?;
    println!("verdict: {:#?}", signs.verdict());
    Ok(())
}
