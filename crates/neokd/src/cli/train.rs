//! `neokd train`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use neokd_attack::Objective;
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::TrainingState;
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::dry_run::{Plan, human};

use super::progress::{TrainingBar, watched};
use super::{DataFlag, DeviceFlag, Output};
use crate::device::{DeviceChoice, Devices};
use crate::session::{self, Session, Subject, Trained, Trial};

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
    /// Go on with the run in this directory from its last checkpoint: to the same bits, if configuration, device or devices,
    /// processor and version are the same
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
    let data = session::load(&config, &|| args.data.folder())?;
    if args.dry_run {
        return print_plan(&Plan::make(&config, &data, &devices.first)?, args.json, out);
    }
    let session = Session { config: &config, data: &data, devices: &devices };
    let (run, mut state) = match existing {
        Some(run) => {
            let state = session.go_on(&run)?;
            (run, state)
        }
        None => {
            let fresh = || RunDir::fresh(Path::new("runs"), &short_name(&args.config));
            session.start(&args.out.clone().unwrap_or_else(fresh))?
        }
    };
    // Before anything is said: another process may be training it.
    drop(run.occupy()?);
    if !args.json {
        if let Some(warning) = config.threat.warning() {
            out.line(&format!("note: {warning}"))?;
        }
        for changed in &state.progress.changed {
            out.line(&format!("note: {changed}; an uninterrupted run may have ended elsewhere"))?;
        }
        out.line(&format!("training on {}, run directory {}", devices.names, run.folder().display()))?;
    }
    let Trained { network, training } = with_bar(&session, &run, &mut state, &Stop::on_signal()?)?;
    let trial = Trial::of(&config, &[Objective::Average, Objective::MaxAverage]);
    let (report, _) =
        session.evaluate(&network, &trial, Subject::Run(Some(&training)), &mut |evaluation| watched(evaluation))?;
    session.deliver(&run, &network, &trial, &report)?;
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

/// Trains to the end with a progress bar.
pub(super) fn with_bar(
    session: &Session<'_>,
    run: &RunDir,
    state: &mut TrainingState,
    stop: &Stop,
) -> Result<Trained, Error> {
    let mut bar = TrainingBar::new(&session.length(), state.progress.step);
    session.train(run, state, stop, &mut bar)
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
