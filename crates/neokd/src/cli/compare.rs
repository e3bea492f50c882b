//! `neokd compare`.

use std::path::{Path, PathBuf};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use neokd_evaluate::stop::Stop;
use neokd_evaluate::{Error, files};
use neokd_report::compare::{Comparison, MEASURES, Spread, is_enough, targets};
use neokd_report::run::Run;
use neokd_train::RunConfig;
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::methods::Method;

use super::progress::watched;
use super::{DataFlag, DeviceFlag, Output, train};
use crate::device::Devices;
use crate::session::{self, Data, Session, Subject, Trained, Trial};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a configuration (see neokd config list) or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "mnist-quick")]
    config: String,
    /// Methods: at, skd, ard, lw, neo-kd, nkd, eokd, trades, mart, pgd-te, trades-te
    #[arg(long, value_delimiter = ',', default_value = "at,skd,ard,lw,neo-kd")]
    methods: Vec<String>,
    /// Runs of each method, with the seeds 1, 2, ...
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Change a value for all methods (--set training.epochs=3) or for one (--set ard:training.loss.lambda=2);
    /// repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Directory of the comparison; each run is a run directory METHOD-SEED in it. Given again, what is
    /// done is skipped and what is half done goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the comparison as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlag,
    #[command(flatten)]
    data: DataFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let methods = args.methods.iter().map(|name| Method::find(name)).collect::<Result<Vec<_>, _>>()?;
    // Every configuration is checked before the first run starts. The methods are complete for one seed before
    // the next begins, so what an interrupted comparison has can be compared.
    let of_seed = |seed| methods.iter().map(move |method| (method, seed));
    let configured = |(method, seed): (&Method, u64)| Ok((*method, method.configure(&args.config, &args.set, seed)?));
    let planned: Vec<(Method, RunConfig)> =
        (1..=args.seeds).flat_map(of_seed).map(configured).collect::<Result<_, Error>>()?;
    let Some((_, first)) = planned.first() else {
        return Err(Error::Config("--methods: give at least one".to_string()));
    };
    let devices = Devices::open(&[args.device.device])?;
    let data = session::load(first, &|| args.data.folder())?;
    let bench = Bench { args: &args, data, devices, stop: Stop::on_signal()?, total: planned.len() };

    let mut runs = Vec::new();
    for (method, config) in &planned {
        let folder = args.out.join(format!("{}-{}", method.name, config.seed));
        runs.push(bench.carry_out(method, config, &folder, runs.len() + 1, out)?);
    }
    let comparison = Comparison::of(&runs);
    let json = serde_json::to_string_pretty(&comparison)
        .map_err(|error| Error::Config(format!("comparison cannot be written as JSON: {error}")))?;
    files::write_atomically(&args.out.join("compare.json"), json.as_bytes())?;
    if args.json {
        return out.line(&json);
    }
    out.line(&render(&comparison, first))
}

/// What all runs of a comparison share.
struct Bench<'a> {
    args: &'a Args,
    data: Data,
    devices: Devices,
    stop: Stop,
    total: usize,
}

impl Bench<'_> {
    /// Brings one run to its end: skips it, goes on with it or starts it, and scores it.
    fn carry_out(
        &self,
        method: &Method,
        config: &RunConfig,
        folder: &Path,
        number: usize,
        out: &mut Output,
    ) -> Result<Run, Error> {
        let mut say = |what: &str| match self.args.json {
            true => Ok(()),
            false => out.line(&format!("[{number}/{}] {}, seed {}: {what}", self.total, method.name, config.seed)),
        };
        let session = Session { config, data: &self.data, devices: &self.devices };
        let (run, mut state) = match existing(folder, config)? {
            Some(run) => {
                if let Some(run) = finished(&run) {
                    say("done already")?;
                    return Ok(run);
                }
                let state = session.go_on(&run)?;
                (run, state)
            }
            None => session.start(folder)?,
        };
        match state.progress.step {
            0 => say("training")?,
            step => say(&format!("training goes on after step {step}"))?,
        }
        let Trained { network, training } = match train::with_bar(&session, &run, &mut state, &self.stop) {
            Err(error @ Error::Interrupted { .. }) => {
                say("interrupted and saved; the same command again goes on from here")?;
                return Err(error);
            }
            trained => trained?,
        };
        if let Some(step) = training.progress.alarm {
            say(&train::alarm(step))?;
        }
        say("evaluating")?;
        let trial = Trial::of(config, &targets(config.model.exits()));
        let (report, _) =
            session.evaluate(&network, &trial, Subject::Run(Some(&training)), &mut |evaluation| watched(evaluation))?;
        session.deliver(&run, &network, &trial, &report)?;
        Run::read(run.folder())
    }
}

/// The run that a folder holds, if it holds one; it must be of this configuration.
fn existing(folder: &Path, config: &RunConfig) -> Result<Option<RunDir>, Error> {
    if !folder.exists() {
        return Ok(None);
    }
    let (run, found) = RunDir::open(folder)?;
    match found == *config {
        true => Ok(Some(run)),
        false => Err(Error::RunDir {
            folder: folder.to_path_buf(),
            why: "holds a run of another configuration; choose another --out, or the --config and --set of before"
                .to_string(),
        }),
    }
}

/// A run that is done and scored under all attacks of a comparison.
fn finished(run: &RunDir) -> Option<Run> {
    Run::read(run.folder()).ok().filter(|run| run.report.as_ref().is_some_and(is_enough))
}

/// Rows: a measure and a method; columns: the exits and their mean; below, what is larger than the
/// spread.
fn render(comparison: &Comparison, config: &RunConfig) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let exits = config.model.exits();
    let mut header = vec![String::new(), "method".to_string()];
    header.extend((0..exits).map(|exit| format!("exit {exit}")));
    header.push("mean".to_string());
    table.set_header(header);
    let measures = comparison.methods.first().map_or(0, |method| method.measures.len());
    for at in 0..measures {
        for (row, method) in comparison.methods.iter().enumerate() {
            let measure = &method.measures[at];
            let title = if row == 0 { measure.name.clone() } else { String::new() };
            let mut cells = vec![title, method.method.clone()];
            cells.extend(measure.exits.iter().chain([&measure.mean]).map(Spread::percent));
            table.add_row(cells);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let findings = comparison.findings().into_iter().map(|(name, sentence)| format!("\n  {name}: {sentence}"));
    format!(
        "In %, {} seed{} of each method, {} {} test images: mean and standard deviation over seeds\n{MEASURES}\n{table}\n\
         {}{}",
        comparison.seeds.len(),
        if comparison.seeds.len() == 1 { "" } else { "s" },
        comparison.n,
        config.data.name,
        comparison.about_findings(),
        findings.collect::<String>()
    )
}
