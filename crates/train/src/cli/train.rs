//! `neokd train`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use neokd_datasets::{DataSplits, TreeOptions};
use neokd_model::weights;

use super::progress::TrainingBar;
use super::{DataFlag, DeviceFlag, Output, evaluate};
use crate::checkpoint::TrainingState;
use crate::fit::Fit;
use crate::plan::{Plan, human};
use crate::report::run::Run;
use crate::report::{TrainingReport, card};
use crate::run_dir::RunDir;
use crate::stop::Stop;
use crate::{Error, RunConfig, files};

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
    let (device, device_name) = crate::device::open(args.device.device)?;
    let data = load(&config, &args.data)?;
    if args.dry_run {
        return print_plan(&Plan::make(&config, &data, &device)?, args.json, out);
    }

    let (run, mut state) = match existing {
        Some(run) => {
            let state = load_state(&config, &run, &device)?;
            (run, state)
        }
        None => {
            let folder =
                args.out.clone().unwrap_or_else(|| RunDir::fresh(Path::new("runs"), &short_name(&args.config)));
            (RunDir::create(&folder, &config)?, TrainingState::start(&config, &device))
        }
    };
    if !args.json {
        out.line(&format!("training on {device_name}, run directory {}", run.folder().display()))?;
    }
    let fit = Fit::new(&config, &data, &device)?;
    let mut bar = TrainingBar::new(&fit.length(), state.progress.step);
    let trained = fit.run(&mut state, &run, &Stop::on_signal()?, &mut bar);
    bar.finish();
    trained?;
    save_weights(&config, &run, &state)?;

    let training =
        TrainingReport { complete: true, planned_steps: fit.length().steps(), progress: state.progress.clone() };
    let setting = evaluate::Setting {
        config: &config,
        data: &data,
        device: &device,
        device_name: &device_name,
        training: Some(&training),
    };
    let report = evaluate::score(&setting, &state.model, &run)?;
    files::write_atomically(&run.report_path(), report.to_json()?.as_bytes())?;
    card::write(&Run::read(run.folder())?)?;
    if args.json {
        return out.line(&report.to_json()?);
    }
    out.line(&crate::report::render(&report))?;
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
pub(super) fn load(config: &RunConfig, flag: &DataFlag) -> Result<DataSplits, Error> {
    let data = match &config.data.path {
        Some(tree) => neokd_datasets::load_tree(tree, &flag.folder()?, &TreeOptions::new(config.model.input_shape())),
        None if config.dataset()?.is_embedded() => neokd_datasets::load(&config.data.name, Path::new("")),
        None => neokd_datasets::load(&config.data.name, &flag.folder()?),
    }?;
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

fn load_state(config: &RunConfig, run: &RunDir, device: &Device) -> Result<TrainingState, Error> {
    let path = run.checkpoint_path();
    match path.exists() {
        true => TrainingState::load(config, &path, device),
        // Interrupted before the first checkpoint: the beginning is where it stands.
        false => Ok(TrainingState::start(config, device)),
    }
}

fn save_weights(config: &RunConfig, run: &RunDir, state: &TrainingState) -> Result<(), Error> {
    let path = run.weights_path();
    let bytes = weights::encode_network(&config.model, &state.model).map_err(Error::weights(&path))?;
    files::write_atomically(&path, &bytes)
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
