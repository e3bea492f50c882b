//! The command line: what was typed, then what is done. Every command prints through `output::Output`, so
//! that a closed pipe ends the program quietly.

mod attack;
mod calibrate;
mod compare;
mod config;
mod convert;
mod data;
mod devices;
mod evaluate;
mod init;
mod logits;
mod merge;
mod model;
mod output;
mod predict;
mod progress;
mod report;
mod runs;
mod smoke;
mod train;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use neokd_attack::Norm;
use neokd_evaluate::Error;
use neokd_evaluate::error::EXIT_CODES;
use output::Output;

use crate::device::DeviceChoice;
use crate::threads;

/// Robust multi-exit networks: train, attack, evaluate.
#[derive(Debug, Parser)]
#[command(name = "neokd", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network against an attack, then print its accuracy per exit, clean and attacked
    Train(train::Args),
    /// Score a run or a weights file, clean and attacked
    Evaluate(evaluate::Args),
    /// Attack the images of a data set or file, and say whether the result is to be believed
    Attack(attack::Args),
    /// Put the journals of all shards of an attack or an evaluation together
    Merge(merge::Args),
    /// Train and score several methods under the same conditions, over seeds, and print one table
    Compare(compare::Args),
    /// Show runs as a page, Markdown, CSV or charts; several become a comparison
    Report(report::Args),
    /// List the runs in a folder with their main figures
    Runs(runs::Args),
    /// Find confidence thresholds for a budget on validation images
    Calibrate(calibrate::Args),
    /// Print multiply-adds and parameters per exit
    Cost(model::CostArgs),
    /// Turn weights of the original PyTorch code into safetensors, or the other way
    Convert(convert::Args),
    /// Write the logits of every exit on a data set or a safetensors file
    Logits(logits::Args),
    /// Classify pictures, leaving early under a policy
    Predict(predict::Args),
    /// Look at networks
    #[command(subcommand)]
    Model(model::Action),
    /// Run every stage on small data; for continuous integration, at most 60 s and 1 GB
    Smoke(smoke::Args),
    /// Show which backends are compiled in and which devices are present
    Devices(devices::Args),
    /// List, import and verify data sets
    #[command(subcommand)]
    Data(data::Action),
    /// Write a configuration file, with a comment on every value, to begin with
    Init(init::Args),
    /// Show the configurations that are compiled in
    #[command(subcommand)]
    Config(config::Action),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where to compute; shared by several commands.
#[derive(Debug, clap::Args)]
struct DeviceFlag {
    /// auto, cpu, ndarray, wgpu[:I], vulkan[:I] or cuda[:I]; auto takes a GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
}

fn norm(text: &str) -> Result<Norm, String> {
    match text {
        "linf" => Ok(Norm::Linf),
        "l2" => Ok(Norm::L2),
        _ => Err(format!("norm {text:?} is neither linf nor l2")),
    }
}

/// Where imported data sets are; shared by several commands.
#[derive(Debug, clap::Args)]
struct DataFlag {
    /// Folder of imported data sets [default: $NEOKD_DATA, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataFlag {
    fn folder(&self) -> Result<PathBuf, Error> {
        self.data_dir.clone().or_else(neokd_datasets::default_data_dir).ok_or_else(|| {
            Error::Config("no folder for data sets: set NEOKD_DATA or HOME, or give --data-dir DIR".to_string())
        })
    }
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    threads::compute_here_too();
    let result = run(cli);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::ClosedPipe) {
                // There is nobody left to tell if this fails too.
                let _ = writeln!(std::io::stderr(), "error: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    let mut out = Output::stdout();
    match cli.command {
        Command::Train(args) => train::run(args, &mut out),
        Command::Evaluate(args) => evaluate::run(args, &mut out),
        Command::Attack(args) => attack::run(args, &mut out),
        Command::Merge(args) => merge::run(args, &mut out),
        Command::Compare(args) => compare::run(args, &mut out),
        Command::Report(args) => report::run(args, &mut out),
        Command::Runs(args) => runs::run(args, &mut out),
        Command::Calibrate(args) => calibrate::run(args, &mut out),
        Command::Cost(args) => model::cost(args, &mut out),
        Command::Convert(args) => convert::run(args, &mut out),
        Command::Logits(args) => logits::run(args, &mut out),
        Command::Predict(args) => predict::run(args, &mut out),
        Command::Model(action) => model::show(action, &mut out),
        Command::Smoke(args) => smoke::run(args, &mut out),
        Command::Devices(args) => devices::run(args, &mut out),
        Command::Data(action) => data::run(action, &mut out),
        Command::Init(args) => init::run(args, &mut out),
        Command::Config(action) => config::run(action, &mut out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "neokd", &mut script);
            out.text(&String::from_utf8_lossy(&script))
        }
    }
}
