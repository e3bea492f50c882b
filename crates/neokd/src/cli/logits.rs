//! `neokd logits`: what every exit says to images, as tensors.

use std::path::PathBuf;

use neokd_evaluate::images::Source;
use neokd_evaluate::{Error, files};
use neokd_model::weights::{self, HostTensor, Metadata, PytorchWeights, TensorMap};
use neokd_model::{Frozen, ModelConfig, Network};
use neokd_train::model_file;
use neokd_train::run::checkpoint::{self, Contents};

use super::progress::image_bar;
use super::{DataFlag, DeviceFlag, Output};
use crate::device;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network, for weights that do not carry it: a TOML file with its keys; weights that carry another are refused
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A weights file or checkpoint; with --model also files of the original PyTorch code
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A data set or a folder of images per class, whose test images are taken, or a safetensors or NumPy (.npz, .npy)
    /// file with images and labels
    #[arg(long = "data", value_name = "NAME|FOLDER|FILE")]
    source: String,
    /// The safetensors file to write: tensors logits.0, logits.1, ... of [images, classes]
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of images from the start; 0 means all
    #[arg(long, default_value_t = 0)]
    images: usize,
    /// Images per pass
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    #[command(flatten)]
    device: DeviceFlag,
    #[command(flatten)]
    data: DataFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    files::refuse_existing("--out", &args.out)?;
    let (device, _) = device::open(args.device.device)?;
    let (config, network) = network(&args, &device)?;
    let source = Source::open(&args.source, || args.data.folder(), config.input_shape(), config.classes())?;
    let count = source.count(args.images);
    let model = Frozen::new(&network);
    let mut exits = vec![Vec::with_capacity(count * model.classes()); model.exits()];
    let bar = image_bar(count);
    for batch in source.batches(count, args.batch_size, &device) {
        let (pixels, labels) = batch?;
        let logits = model.forward(pixels);
        for (values, logits) in exits.iter_mut().zip(logits.as_slice()) {
            let rows = logits.clone().into_data().try_into_vec::<f32>();
            values.extend(rows.map_err(|error| Error::unreadable(&error))?);
        }
        bar.inc(labels.len() as u64);
    }
    drop(bar);
    let shape = vec![count, model.classes()];
    let tensor = |(exit, values)| (format!("logits.{exit}"), HostTensor { shape: shape.clone(), values });
    let tensors: TensorMap = exits.into_iter().enumerate().map(tensor).collect();
    let bytes = weights::encode(&tensors, &Metadata::new()).map_err(Error::weights(&args.out))?;
    files::write_atomically(&args.out, &bytes)?;
    out.line(&format!("{}: logits of {} exits on {count} images", args.out.display(), tensors.len()))
}

fn network(args: &Args, device: &burn::tensor::Device) -> Result<(ModelConfig, Network), Error> {
    let Some(model) = &args.model else {
        return checkpoint::load_network(&args.weights, device);
    };
    let config = model_file::read(model)?;
    let bytes = files::read(&args.weights)?;
    if weights::carries_model(&bytes) {
        let contents = Contents::decode(&args.weights, &bytes)?;
        model_file::check_same(model, &config, &args.weights, contents.model())?;
        return contents.network_of_any_names(device);
    }
    let fail = || Error::weights(&args.weights);
    let wanted = weights::pytorch_shapes(&config, device).map_err(fail())?;
    let read = weights::read_pytorch(&args.weights, &wanted, None).and_then(PytorchWeights::strict).map_err(fail())?;
    let network = weights::from_pytorch(&config, read.tensors, device).map_err(fail())?;
    Ok((config, network))
}
