//! `neokd convert`: weights of the original PyTorch code in, safetensors out, or the other way.

use std::path::PathBuf;

use neokd_evaluate::{Error, files};
use neokd_model::weights::{self, Metadata, PytorchWeights};
use neokd_model::{ModelConfig, Network};
use neokd_train::model_file;
use neokd_train::run::checkpoint;
use neokd_train::run::origin::Origin;

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
    /// The entry of a checkpoint that holds the weights, for example ema; needed where several fit
    #[arg(long, value_name = "KEY", conflicts_with = "export")]
    key: Option<String>,
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
    /// Take weights that are not finite, and negative running variances, as they are instead of failing
    #[arg(long)]
    allow_non_finite: bool,
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
    let fail = || Error::weights(&args.from);
    let wanted = weights::pytorch_shapes(&config, &device).map_err(fail())?;
    let mut read = weights::read_pytorch(&args.from, &wanted, args.key.as_deref()).map_err(fail())?;
    if !args.ignore_unexpected {
        read = read.strict().map_err(fail())?;
    }
    if !args.allow_non_finite {
        read = read.sound().map_err(fail())?;
    }
    say_where(&read, out)?;
    let left_out = [
        ("integers", &read.integers),
        ("not weights", &read.beside),
        ("second names of the same tensors", &read.repeated),
        ("unknown to the network", &read.unexpected),
    ];
    for (what, names) in left_out {
        if !names.is_empty() {
            out.line(&format!("left out, {what}: {}", listed(names, args.verbose)))?;
        }
    }
    let count = read.tensors.len();
    let network = weights::from_pytorch(&config, read.tensors, &device).map_err(fail())?;
    let origin = Origin::Converted {
        file: args.from.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: neokd_datasets::sha256_hex(&files::read(&args.from)?),
        key: read.key,
    };
    let bytes = origin.encode(&config, &network).map_err(Error::weights(&args.out))?;
    files::write_atomically(&args.out, &bytes)?;
    out.line(&format!("{}: {count} tensors, every one accounted for", args.out.display()))
}

/// Under which key the weights are, and what was taken off their names.
fn say_where(read: &PytorchWeights, out: &mut Output) -> Result<(), Error> {
    if !read.key.is_empty() {
        out.line(&format!("weights under key: {}", read.key))?;
    }
    match read.prefix.as_str() {
        "" => Ok(()),
        prefix => out.line(&format!("taken off every name: {prefix}")),
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
