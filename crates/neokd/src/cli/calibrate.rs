//! `neokd calibrate`: thresholds for a budget, from validation images.

use std::path::PathBuf;

use neokd_evaluate::dynamic::ExitAnswers;
use neokd_evaluate::{Error, files};
use neokd_model::Frozen;
use neokd_train::RunConfig;
use neokd_train::config::DataConfig;
use neokd_train::run::checkpoint;

use super::progress::image_bar;
use super::{DataFlag, DeviceFlag, Output};
use crate::device;
use crate::session;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A weights file or checkpoint
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Data set or folder of images per class whose validation split is used [default: the configuration's]
    #[arg(long = "data", value_name = "NAME|FOLDER")]
    source: Option<String>,
    /// Configuration whose data apply where --data is not given
    #[arg(long, value_name = "NAME|FILE", default_value = "mnist")]
    config: String,
    /// Change a value of the configuration, for example --set data.name=cifar10
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Mean multiply-adds that an image may cost [default: the same share of images at every exit]
    #[arg(long, value_name = "MULTIPLY-ADDS")]
    budget: Option<f64>,
    /// Answer with the mean of the probabilities of all exits so far
    #[arg(long)]
    ensemble: bool,
    /// The file to write; predict and evaluate read it as --policy budget:FILE
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceFlag,
    #[command(flatten)]
    data: DataFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let (device, _) = device::open(args.device.device)?;
    let (model, network) = checkpoint::load_network(&args.weights, &device)?;
    let mut config = RunConfig::load(&args.config, &args.set)?;
    config.model = model;
    if let Some(source) = &args.source {
        config.data = DataConfig::of(source);
    }
    let data = session::load(&config, &|| args.data.folder())?;
    let costs = config.model.costs();
    let bar = image_bar(data.validation.len());
    let found = ExitAnswers::of(
        &Frozen::new(&network),
        &data.validation,
        config.evaluation.batch_size,
        args.ensemble,
        &device,
        &mut |images| bar.inc(images as u64),
    );
    drop(bar);
    let file = found?.calibrate(&config.data.name, &costs, args.budget)?;
    let text = serde_json::to_string_pretty(&file);
    let text = text.map_err(|error| Error::Config(format!("thresholds cannot be written as JSON: {error}")))?;
    files::write_atomically(&args.out, text.as_bytes())?;
    let chosen = &file.budgets[file.chosen];
    out.line(&format!(
        "{}: budget {} of {}, {:.2} M multiply-adds and {:.2} % on {} validation images",
        args.out.display(),
        file.chosen,
        file.budgets.len(),
        chosen.multiply_adds / 1e6,
        100.0 * chosen.accuracy,
        file.n
    ))
}
