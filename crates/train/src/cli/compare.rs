//! `neokd compare`.

use std::path::{Path, PathBuf};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use neokd_datasets::{DataSplits, Images};

use super::{DataFlag, DeviceFlag, Output, evaluate, train};
use crate::compare::{Comparison, Method, Runs, Spread, is_enough, targets};
use crate::device::Devices;
use crate::report::run::Run;
use crate::report::{Report, card};
use crate::run_dir::RunDir;
use crate::stop::Stop;
use crate::{Error, RunConfig, files};

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
    // Every configuration is checked before the first run starts.
    let planned: Vec<(Method, Vec<RunConfig>)> = methods
        .iter()
        .map(|method| {
            let configs = (1..=args.seeds).map(|seed| method.configure(&args.config, &args.set, seed));
            Ok((*method, configs.collect::<Result<_, Error>>()?))
        })
        .collect::<Result<_, Error>>()?;
    let Some(first) = planned.first().and_then(|(_, configs)| configs.first()) else {
        return Err(Error::Config("--methods: give at least one".to_string()));
    };
    let devices = Devices::open(&[args.device.device])?;
    let data = train::load(first, &args.data)?;
    let bench =
        Bench { args: &args, data, devices, stop: Stop::on_signal()?, total: planned.len() as u64 * args.seeds };

    let mut all = Vec::new();
    let mut number = 0;
    for (method, configs) in &planned {
        let mut reports = Vec::new();
        for config in configs {
            number += 1;
            let folder = format!("{}-{}", method.name, config.seed);
            let report = bench.carry_out(method, config, &args.out.join(&folder), number, out)?;
            reports.push((config.seed, folder, report));
        }
        all.push(Runs { method: *method, reports });
    }
    let comparison = Comparison::new(&all);
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
    data: DataSplits<Box<dyn Images>>,
    devices: Devices,
    stop: Stop,
    total: u64,
}

impl Bench<'_> {
    /// Brings one run to its end: skips it, goes on with it or starts it, and scores it.
    fn carry_out(
        &self,
        method: &Method,
        config: &RunConfig,
        folder: &Path,
        number: u64,
        out: &mut Output,
    ) -> Result<Report, Error> {
        let mut say = |what: &str| match self.args.json {
            true => Ok(()),
            false => out.line(&format!("[{number}/{}] {}, seed {}: {what}", self.total, method.name, config.seed)),
        };
        let existing = existing(folder, config)?;
        if let Some(report) = existing.as_ref().and_then(|run| finished(run, config)) {
            say("done already")?;
            return Ok(report);
        }
        let (run, mut state) = match existing {
            Some(run) => {
                let state = train::load_state(config, &run, &self.devices.first)?;
                (run, state)
            }
            None => train::fresh(config, folder, &self.devices.first)?,
        };
        match state.progress.step {
            0 => say("training")?,
            step => say(&format!("training goes on after step {step}"))?,
        }
        let trained = match train::to_the_end(config, &self.data, &self.devices, &run, &mut state, &self.stop) {
            Err(error @ Error::Interrupted { .. }) => {
                say("interrupted and saved; the same command again goes on from here")?;
                return Err(error);
            }
            trained => trained?,
        };
        if let Some(step) = state.progress.alarm {
            say(&train::alarm(step))?;
        }
        say("evaluating")?;
        let setting = evaluate::Setting {
            config,
            data: &self.data,
            device: &self.devices.first,
            device_name: &self.devices.names,
            training: Some(&trained.report),
        };
        let targets = targets(config.model.exits());
        let report = evaluate::score_targets(&setting, &trained.network, &targets, &[])?;
        evaluate::save_examples(&setting, &trained.network, &targets, &report, run.folder())?;
        files::write_atomically(&run.report_path(), report.to_json()?.as_bytes())?;
        card::write(&Run::read(run.folder())?)?;
        Ok(report)
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

/// The report of a run that is done and scored under all attacks of a comparison.
fn finished(run: &RunDir, config: &RunConfig) -> Option<Report> {
    let report: Report = serde_json::from_slice(&files::read(&run.report_path()).ok()?).ok()?;
    is_enough(&report, config.model.exits()).then_some(report)
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
            cells.extend(measure.exits.iter().chain([&measure.mean]).map(percent));
            table.add_row(cells);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "In %, {} seed{} of each method, {} {} test images: mean and standard deviation over seeds\n\
         own: each exit under the attack on itself; transfer: success at an exit of attacks on the others, lower is \
         better\n{table}\n{}",
        comparison.seeds.len(),
        if comparison.seeds.len() == 1 { "" } else { "s" },
        comparison.n,
        config.data.name,
        verdicts(comparison)
    )
}

fn percent(spread: &Spread) -> String {
    match spread.deviation {
        Some(deviation) => format!("{:.2} ±{:.2}", 100.0 * spread.mean, 100.0 * deviation),
        None => format!("{:.2}", 100.0 * spread.mean),
    }
}

fn verdicts(comparison: &Comparison) -> String {
    if comparison.seeds.len() < 2 {
        return "one seed has no spread: nothing can be said about differences; give --seeds 3".to_string();
    }
    let names = comparison
        .methods
        .first()
        .map_or_else(Vec::new, |method| method.measures.iter().map(|each| &each.name).collect());
    let lines = names.into_iter().map(|name| {
        let of_measure = comparison.differences.iter().filter(|each| each.measure == *name);
        let larger = of_measure.filter(|each| each.larger_than_spread == Some(true)).map(|each| {
            let points = 100.0 * each.difference;
            format!("{} > {} by {points:.2}", each.higher, each.lower)
        });
        let larger = larger.collect::<Vec<_>>().join(", ");
        format!("  {name}: {}", if larger.is_empty() { "none" } else { &larger })
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("differences of means over exits that are larger than the spread of two single runs\n{lines}")
}
