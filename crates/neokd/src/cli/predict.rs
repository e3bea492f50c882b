//! `neokd predict`: what a network says to pictures, leaving early under a policy.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_evaluate::images::Source;
use neokd_evaluate::interval::Share;
use neokd_evaluate::{Error, policy_file};
use neokd_model::policy::{Answer, Policy};
use neokd_model::{ExitCost, Frozen, MultiExit, Network, early_exit};
use neokd_train::run::checkpoint;
use serde_json::{Value, json};

use super::progress::image_bar;
use super::{DataFlag, DeviceFlag, Output};
use crate::{device, pictures};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A weights file or checkpoint
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required_unless_present = "source", conflicts_with = "source", value_name = "IMAGE|FOLDER")]
    pictures: Vec<PathBuf>,
    /// The test images of a data set or of a folder of images per class, or a safetensors or NumPy (.npz, .npy) file
    /// with images and labels
    #[arg(long = "data", value_name = "NAME|FOLDER|FILE")]
    source: Option<String>,
    /// Number of images of --data from the start; 0 means all
    #[arg(long, default_value_t = 0, requires = "source")]
    images: usize,
    /// When to leave: confidence:T, entropy:T, patience:N, fixed:EXIT or budget:FILE
    #[arg(long, default_value = "confidence:0.9")]
    policy: String,
    /// Answer with the mean of the probabilities of all exits so far
    #[arg(long)]
    ensemble: bool,
    /// Images per pass; images that leave make it smaller
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Print one JSON object per image
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlag,
    #[command(flatten)]
    data: DataFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let (device, device_name) = device::open(args.device.device)?;
    let (_, network) = checkpoint::load_network(&args.weights, &device)?;
    let policy = policy_file::parse(&args.policy, args.ensemble, network.exits())?;
    let mut predictor = Predictor::new(&network, policy);
    match &args.source {
        Some(source) => classify_data(source, &args, &mut predictor, &device, out)?,
        None => classify_pictures(&args, &mut predictor, &device, out)?,
    }
    match args.json {
        true => Ok(()),
        false => out.line(&predictor.summary(&device_name)),
    }
}

fn classify_pictures(args: &Args, predictor: &mut Predictor, device: &Device, out: &mut Output) -> Result<(), Error> {
    let files = pictures::list(&args.pictures)?;
    let bar = image_bar(files.len());
    for chunk in files.chunks(args.batch_size.max(1)) {
        let answers = predictor.classify(load(chunk, &predictor.model, device)?)?;
        bar.inc(chunk.len() as u64);
        for (file, answer) in chunk.iter().zip(answers) {
            let line = match args.json {
                true => predictor.json(&answer, json!({ "file": file })),
                false => predictor.text(&answer, &file.display().to_string()),
            };
            out.line(&line)?;
        }
    }
    drop(bar);
    Ok(())
}

fn classify_data(
    source: &str,
    args: &Args,
    predictor: &mut Predictor,
    device: &Device,
    out: &mut Output,
) -> Result<(), Error> {
    let (shape, classes) = (predictor.model.input_shape(), predictor.model.classes());
    let source = Source::open(source, || args.data.folder(), shape, classes)?.of_classes(classes)?;
    let count = source.count(args.images);
    let bar = image_bar(count);
    let mut number = 0;
    for batch in source.batches(count, args.batch_size, device) {
        let (pixels, labels) = batch?;
        let answers = predictor.classify(pixels)?;
        bar.inc(labels.len() as u64);
        for (label, answer) in labels.into_iter().zip(answers) {
            predictor.compare(&answer, label);
            let line = match args.json {
                true => predictor.json(&answer, json!({ "data": source.name(), "image": number, "true_label": label })),
                false => predictor.text(&answer, &format!("{} {number}, of class {label}", source.name())),
            };
            out.line(&line)?;
            number += 1;
        }
    }
    drop(bar);
    Ok(())
}

/// A network that leaves early, and what it spent so far.
struct Predictor {
    model: Frozen<Network>,
    policy: Policy,
    costs: Vec<ExitCost>,
    images: u64,
    multiply_adds: f64,
    seconds: f64,
    /// Images whose class is known, and how many of them were answered correctly.
    known: u64,
    correct: u64,
}

impl Predictor {
    fn new(network: &Network, policy: Policy) -> Self {
        let (model, costs) = (Frozen::new(network), network.costs());
        Self { model, policy, costs, images: 0, multiply_adds: 0.0, seconds: 0.0, known: 0, correct: 0 }
    }

    fn classify(&mut self, pixels: Tensor<4>) -> Result<Vec<Answer>, Error> {
        let started = Instant::now();
        let answers = early_exit::predict(&self.model, pixels, &self.policy).map_err(|why| Error::unreadable(&why))?;
        self.seconds += started.elapsed().as_secs_f64();
        self.images += answers.len() as u64;
        self.multiply_adds += answers.iter().map(|answer| self.cost(answer) as f64).sum::<f64>();
        Ok(answers)
    }

    fn compare(&mut self, answer: &Answer, label: usize) {
        self.known += 1;
        self.correct += u64::from(answer.label == label);
    }

    fn cost(&self, answer: &Answer) -> u64 {
        self.costs[answer.exit].multiply_adds
    }

    fn text(&self, answer: &Answer, what: &str) -> String {
        let Answer { exit, label, confidence } = answer;
        let cost = self.cost(answer) as f64 / 1e6;
        format!("{what}  class {label}  confidence {confidence:.3}  exit {exit}  {cost:.2} M multiply-adds")
    }

    fn json(&self, answer: &Answer, mut line: Value) -> String {
        line["label"] = answer.label.into();
        line["confidence"] = answer.confidence.into();
        line["exit"] = answer.exit.into();
        line["multiply_adds"] = self.cost(answer).into();
        line.to_string()
    }

    fn summary(&self, device: &str) -> String {
        let n = self.images.max(1) as f64;
        let accuracy = match self.known {
            0 => String::new(),
            known => format!(", accuracy {} % (n {known})", Share::new(self.correct, known).with_interval()),
        };
        format!(
            "{} images on {device}: {:.0} images/s in the network, {:.2} M multiply-adds each of {:.2} M to the last \
             exit{accuracy}",
            self.images,
            n / self.seconds.max(1e-9),
            self.multiply_adds / n / 1e6,
            self.costs.last().map_or(0.0, |cost| cost.multiply_adds as f64 / 1e6)
        )
    }
}

fn load(files: &[PathBuf], model: &Frozen<Network>, device: &Device) -> Result<Tensor<4>, Error> {
    let [channels, height, width] = model.input_shape();
    let mut values = Vec::with_capacity(files.len() * channels * height * width);
    for file in files {
        let pixels = pictures::read(file, model.input_shape())?;
        values.extend(pixels.iter().map(|byte| f32::from(*byte) / 255.0));
    }
    Ok(Tensor::from_data(TensorData::new(values, [files.len(), channels, height, width]), device))
}
