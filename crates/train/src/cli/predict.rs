//! `neokd predict`: what a network says to pictures, leaving early under a policy.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_model::policy::{Answer, Policy};
use neokd_model::{Frozen, MultiExit, Network, early_exit};
use serde_json::json;

use super::progress::image_bar;
use super::{DeviceFlag, Output};
use crate::{Error, checkpoint, device, pictures, policy_file};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A weights file or checkpoint
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    images: Vec<PathBuf>,
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
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let (device, device_name) = device::open(args.device.device)?;
    let (_, network) = checkpoint::load_network(&args.weights, &device)?;
    let policy = policy_file::parse(&args.policy, args.ensemble, network.exits())?;
    let files = pictures::list(&args.images)?;
    let costs = network.costs();
    let model = Frozen::new(&network);
    let (mut seconds, mut spent) = (0.0, 0.0);
    let bar = image_bar(files.len());
    for chunk in files.chunks(args.batch_size.max(1)) {
        let pixels = load(chunk, &model, &device)?;
        let started = Instant::now();
        let answers = predict(&model, pixels, &policy)?;
        seconds += started.elapsed().as_secs_f64();
        bar.inc(chunk.len() as u64);
        for (file, answer) in chunk.iter().zip(answers) {
            let cost = costs[answer.exit].multiply_adds;
            spent += cost as f64;
            out.line(&if args.json { as_json(file, &answer, cost) } else { as_text(file, &answer, cost) })?;
        }
    }
    bar.finish_and_clear();
    if args.json {
        return Ok(());
    }
    let n = files.len() as f64;
    out.line(&format!(
        "{} images on {device_name}: {:.0} images/s in the network, {:.2} M multiply-adds each of {:.2} M to the last exit",
        files.len(),
        n / seconds.max(1e-9),
        spent / n / 1e6,
        costs.last().map_or(0.0, |cost| cost.multiply_adds as f64 / 1e6)
    ))
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

fn predict(model: &Frozen<Network>, pixels: Tensor<4>, policy: &Policy) -> Result<Vec<Answer>, Error> {
    early_exit::predict(model, pixels, policy).map_err(|why| Error::unreadable(&why))
}

fn as_text(file: &Path, answer: &Answer, cost: u64) -> String {
    format!(
        "{}  class {}  confidence {:.3}  exit {}  {:.2} M multiply-adds",
        file.display(),
        answer.label,
        answer.confidence,
        answer.exit,
        cost as f64 / 1e6
    )
}

fn as_json(file: &Path, answer: &Answer, cost: u64) -> String {
    let Answer { exit, label, confidence } = answer;
    json!({ "file": file, "label": label, "confidence": confidence, "exit": exit, "multiply_adds": cost }).to_string()
}
