//! `neokd train`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use neokd_datasets::{DataSplits, Images, Storage, TreeOptions};
use neokd_evaluate::stop::Stop;
use neokd_evaluate::{Error, files};
use neokd_model::{Network, weights};
use neokd_report::card;
use neokd_report::report::TrainingReport;
use neokd_report::run::Run;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::{self, TrainingState};
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::Fit;
use neokd_train::training::plan::{Plan, human};

use super::progress::TrainingBar;
use super::{DataFlag, DeviceFlag, Output, evaluate};
use crate::device::{DeviceChoice, Devices};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a configuration (see neokd config list) or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "mnist-quick")]
    config: String,
    /// Change a value, for example --set training.epochs=3; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of everything random; the same as --set seed=N
    #[arg(long)]
    seed: Option<u64>,
    /// Directory of the run; it must not hold anything yet [default: runs/CONFIG-001, -002, ...]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this directory from its last checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "set", "seed", "out"])]
    resume: Option<PathBuf>,
    /// Print what the run would cost (steps, passes, time, memory) and stop
    #[arg(long)]
    dry_run: bool,
    /// Print the report (or the plan) as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlag,
    /// Train on several devices at once, each on its part of every batch, for example cuda:0,cuda:1
    #[arg(long, value_name = "DEVICE,...", value_delimiter = ',', conflicts_with = "device")]
    devices: Vec<DeviceChoice>,
    #[command(flatten)]
    data: DataFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let (config, existing) = match &args.resume {
        Some(folder) => {
            let (run, config) = RunDir::open(folder)?;
            (config, Some(run))
        }
        None => (configuration(&args)?, None),
    };
    let choices = if args.devices.is_empty() { vec![args.device.device] } else { args.devices.clone() };
    let devices = Devices::open(&choices)?;
    let device = &devices.first;
    let data = load(&config, &args.data)?;
    if args.dry_run {
        return print_plan(&Plan::make(&config, &data, device)?, args.json, out);
    }

    let (run, mut state) = match existing {
        Some(run) => {
            let state = load_state(&config, &run, device)?;
            (run, state)
        }
        None => {
            let folder =
                args.out.clone().unwrap_or_else(|| RunDir::fresh(Path::new("runs"), &short_name(&args.config)));
            fresh(&config, &folder, device)?
        }
    };
    if !args.json {
        if let Some(warning) = config.threat.warning() {
            out.line(&format!("note: {warning}"))?;
        }
        out.line(&format!("training on {}, run directory {}", devices.names, run.folder().display()))?;
    }
    let Trained { network, report: training } =
        to_the_end(&config, &data, &devices, &run, &mut state, &Stop::on_signal()?)?;
    let setting = evaluate::Setting {
        config: &config,
        data: &data,
        device,
        device_name: &devices.names,
        training: Some(&training),
    };
    let report = evaluate::score(&setting, &network, &run)?;
    files::write_atomically(&run.report_path(), report.to_json()?.as_bytes())?;
    card::write(&Run::read(run.folder())?)?;
    if args.json {
        return out.line(&report.to_json()?);
    }
    out.line(&neokd_report::render(&report))?;
    if let Some(step) = training.progress.alarm {
        out.line(&alarm(step))?;
    }
    let seconds = Duration::from_secs_f64(training.progress.seconds);
    out.line(&format!(
        "trained in {}, evaluated in {}; weights, metrics and report.json are in {}",
        human(seconds),
        human(Duration::from_secs_f64(report.seconds)),
        run.folder().display()
    ))
}

fn configuration(args: &Args) -> Result<RunConfig, Error> {
    let mut set = args.set.clone();
    set.extend(args.seed.map(|seed| format!("seed={seed}")));
    RunConfig::load(&args.config, &set)
}

/// Loads the data of a run and checks that they suit its network.
pub(super) fn load(config: &RunConfig, flag: &DataFlag) -> Result<DataSplits<Box<dyn Images>>, Error> {
    let data = match &config.data.path {
        Some(tree) => neokd_datasets::open_tree(tree, &flag.folder()?, &tree_options(config))?,
        None => known(config, flag)?.boxed(),
    };
    let (shape, classes) = (data.train.shape(), data.train.classes());
    if config.model.input_shape() != shape || config.model.classes() != classes {
        return Err(Error::Config(format!(
            "model takes {:?} images of {} classes, but data.name = {:?} has {shape:?} images of {classes} classes; \
             change one of them",
            config.model.input_shape(),
            config.model.classes(),
            config.data.name
        )));
    }
    Ok(data)
}

fn known(config: &RunConfig, flag: &DataFlag) -> Result<DataSplits, Error> {
    let folder = match config.dataset()?.is_embedded() {
        true => PathBuf::new(),
        false => flag.folder()?,
    };
    if config.data.augmentation.needs_files() {
        return Err(Error::Config(format!(
            "data.augmentation.from_file = true: data.name = {:?} has no image files; leave from_file out, or set \
             data.path",
            config.data.name
        )));
    }
    Ok(neokd_datasets::load(&config.data.name, &folder)?)
}

fn tree_options(config: &RunConfig) -> TreeOptions {
    let mut options = TreeOptions::new(config.model.input_shape());
    options.resize = config.data.resize;
    options.storage = match config.data.augmentation.needs_files() {
        true => Storage::Stream,
        false => config.data.storage,
    };
    options
}

/// The directory and state of a new run.
pub(super) fn fresh(config: &RunConfig, folder: &Path, device: &Device) -> Result<(RunDir, TrainingState), Error> {
    Ok((RunDir::create(folder, config)?, TrainingState::start(config, device)))
}

/// The state of an existing run.
pub(super) fn load_state(config: &RunConfig, run: &RunDir, device: &Device) -> Result<TrainingState, Error> {
    let path = run.checkpoint_path();
    match path.exists() {
        true => TrainingState::load(config, &path, device),
        // Interrupted before the first checkpoint: the beginning is where it stands.
        false => Ok(TrainingState::start(config, device)),
    }
}

/// What a training run delivers.
pub(super) struct Trained {
    /// The network that stands for the run: its best where that is kept, else the average of its
    /// weights where one is kept, else its last.
    pub(super) network: Network,
    /// How the training went.
    pub(super) report: TrainingReport,
}

/// Trains from `state` to the end with a progress bar, and writes `weights.safetensors`.
pub(super) fn to_the_end(
    config: &RunConfig,
    data: &DataSplits<Box<dyn Images>>,
    devices: &Devices,
    run: &RunDir,
    state: &mut TrainingState,
    stop: &Stop,
) -> Result<Trained, Error> {
    let device = &devices.first;
    let fit = Fit::new(config, data, device)?.with_replicas(devices.replicas.clone());
    let mut bar = TrainingBar::new(&fit.length(), state.progress.step);
    let trained = fit.run(state, run, stop, &mut bar);
    bar.finish();
    trained?;
    let network = match config.validation.keep_best && run.best_path().exists() {
        true => checkpoint::load_network(&run.best_path(), device)?.1,
        false => state.judged().clone(),
    };
    let path = run.weights_path();
    let bytes = weights::encode_network(&config.model, &network).map_err(Error::weights(&path))?;
    files::write_atomically(&path, &bytes)?;
    let planned_steps = fit.length().steps();
    Ok(Trained { network, report: TrainingReport { complete: true, planned_steps, progress: state.progress.clone() } })
}

/// What a run says that overfitted catastrophically.
pub(super) fn alarm(step: u64) -> String {
    format!(
        "warning: catastrophic overfitting was seen at step {step}: exits withstand FGSM but not PGD (metrics.jsonl, \
         event \"probe\"); train with more attack steps, n-fgsm or a smaller epsilon"
    )
}

/// `mnist` for both the preset and `some/where/mnist.toml`.
fn short_name(config: &str) -> String {
    Path::new(config).file_stem().map_or_else(|| "run".to_string(), |stem| stem.to_string_lossy().into_owned())
}

fn print_plan(plan: &Plan, json: bool, out: &mut Output) -> Result<(), Error> {
    if json {
        let text = serde_json::to_string_pretty(plan);
        return out.line(&text.map_err(|error| Error::Config(format!("plan cannot be written as JSON: {error}")))?);
    }
    out.line(&format!(
        "steps       {} ({} epochs of {}, batches of {})",
        plan.steps, plan.epochs, plan.steps_per_epoch, plan.batch_size
    ))?;
    let passes = plan.passes_per_image;
    out.line(&format!("per image   {} forward and {} backward passes each epoch", passes.forward, passes.backward))?;
    out.line(&format!("network     {} parameters", plan.parameters))?;
    out.line(&format!(
        "time        about {} of training on this device, from one step on a few images",
        human(Duration::from_secs_f64(plan.estimated_seconds))
    ))?;
    match plan.estimated_bytes {
        Some(bytes) => out.line(&format!("memory      about {} MB", bytes / 1_000_000)),
        None => out.line("memory      not known on this system"),
    }
}
