//! `neokd convert`: weights of the original PyTorch code in, safetensors out, or the other way.

use std::path::PathBuf;

use neokd_evaluate::{Error, files};
use neokd_model::weights::{self, KeyReport, Metadata, TensorMap};
use neokd_model::{ModelConfig, Network};
use neokd_train::model_file;
use neokd_train::run::checkpoint;

use super::Output;
use crate::device;

/// How many names of what was left out are printed unasked.
const FEW: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A PyTorch file (.pth.tar, .pth, .pt: a state dict or a training checkpoint) or safetensors
    /// with the original code's names; with --export, neokd weights or a checkpoint
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The network: a TOML file with its keys; not needed with --export
    #[arg(long, value_name = "FILE", required_unless_present = "export")]
    model: Option<PathBuf>,
    /// The weights file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write names that the original code loads instead of ours
    #[arg(long, value_name = "NAMES", value_parser = ["pytorch-names"])]
    export: Option<String>,
    /// Leave out tensors that the network does not have instead of failing
    #[arg(long)]
    ignore_unexpected: bool,
    /// Name everything that was left out, not only the first few
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    files::refuse_existing("--out", &args.out)?;
    let (device, _) = device::open(device::DeviceChoice::Cpu)?;
    if args.export.is_some() {
        let (config, network) = checkpoint::load_network(&args.from, &device)?;
        return export(&args, &config, &network, out);
    }
    let Some(model) = &args.model else {
        return Err(Error::Config("--model FILE is needed to know which network the weights are for".to_string()));
    };
    let config = model_file::read(model)?;
    let read = weights::read_pytorch(&args.from).map_err(Error::weights(&args.from))?;
    let (mut tensors, mut unexpected) = (read.tensors, Vec::new());
    if args.ignore_unexpected {
        unexpected = unknown_to(&config, &tensors, &device);
        tensors.retain(|name, _| !unexpected.contains(name));
    }
    let left_out =
        [("integers", &read.integers), ("not weights", &read.beside), ("unknown to the network", &unexpected)];
    for (what, names) in left_out {
        if !names.is_empty() {
            out.line(&format!("left out, {what}: {}", listed(names, args.verbose)))?;
        }
    }
    let count = tensors.len();
    let network = weights::from_pytorch(&config, tensors, &device).map_err(Error::weights(&args.from))?;
    let bytes = weights::encode_network(&config, &network).map_err(Error::weights(&args.out))?;
    files::write_atomically(&args.out, &bytes)?;
    out.line(&format!("{}: {count} tensors, every one accounted for", args.out.display()))
}

/// Names of the tensors that the network does not have.
fn unknown_to(config: &ModelConfig, tensors: &TensorMap, device: &burn::tensor::Device) -> Vec<String> {
    match weights::from_pytorch(config, tensors.clone(), device) {
        Err(weights::WeightsError::Mismatch(KeyReport { unexpected, .. })) => unexpected,
        _ => Vec::new(),
    }
}

/// The first few names and how many more there are, or all of them.
fn listed(names: &[String], all: bool) -> String {
    let mut names = names.to_vec();
    names.sort();
    match names.len().saturating_sub(FEW) {
        more @ 1.. if !all => format!("{} and {more} more (--verbose names them)", names[..FEW].join(", ")),
        _ => names.join(", "),
    }
}

fn export(args: &Args, config: &ModelConfig, network: &Network, out: &mut Output) -> Result<(), Error> {
    let fail = || Error::weights(&args.out);
    let tensors = weights::to_pytorch_names(config, weights::collect(network).map_err(fail())?);
    let metadata = Metadata::from([(weights::MODEL_KEY.to_string(), weights::model_toml(config).map_err(fail())?)]);
    let bytes = weights::encode(&tensors, &metadata).map_err(fail())?;
    files::write_atomically(&args.out, &bytes)?;
    out.line(&format!("{}: {} tensors under the original code's names", args.out.display(), tensors.len()))
}
