//! `neokd report`.

use std::path::{Path, PathBuf};

use neokd_evaluate::{Error, files};
use neokd_report::comparison::Comparison;
use neokd_report::figures::{self, Figure};
use neokd_report::gather::read_all;
use neokd_report::run::Run;
use neokd_report::{card, chart, compare, csv, html, markdown, tensorboard};

use super::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directories, folders that hold some, or report.json files; several runs become a comparison. Without any flag the
    /// tables are printed as Markdown
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Write a page: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write every accuracy with its interval as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write each chart into this folder as SVG
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Write the scalars of each run's metrics.jsonl as TensorBoard event files, a folder a run, into this folder
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Write model-card.md beside the weights of each run again
    #[arg(long)]
    model_card: bool,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let files = [&args.out, &args.markdown, &args.csv, &args.charts, &args.tensorboard];
    if let Some(page) = args.out.as_deref().filter(|path| !is_page(path)) {
        return Err(Error::Config(format!(
            "--out {}: a page is HTML; name it .html (a browser prints it to PDF), or say --markdown or --csv",
            page.display()
        )));
    }
    let runs = read_all(&args.runs)?;
    if files.iter().all(|file| file.is_none()) && !args.model_card {
        return out.text(&markdown::text(&runs));
    }
    for run in &runs {
        run.notes.iter().try_for_each(|note| out.line(&format!("note: {}: {note}", run.name)))?;
    }
    for (path, text) in
        [(&args.out, html::page as fn(&[Run]) -> String), (&args.markdown, markdown::text), (&args.csv, csv::text)]
    {
        if let Some(path) = path {
            let text = text(&runs);
            files::write_atomically(path, text.as_bytes())?;
            out.line(&format!("{}: {} kB", path.display(), text.len().div_ceil(1000)))?;
        }
    }
    if let Some(folder) = &args.charts {
        let count = write_charts(&runs, folder)?;
        out.line(&format!("{}: {count} charts", folder.display()))?;
    }
    if let Some(folder) = &args.tensorboard {
        for run in &runs {
            let path = tensorboard::write(run, &file_name(&run.name), folder)?;
            out.line(&path.display().to_string())?;
        }
    }
    if args.model_card {
        runs.iter().try_for_each(card::write)?;
    }
    Ok(())
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"))
}

fn write_charts(runs: &[Run], folder: &Path) -> Result<usize, Error> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut named: Vec<(String, Figure)> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let prefix = if runs.len() > 1 { format!("{:02}-{}-", index + 1, file_name(&run.name)) } else { String::new() };
        named.extend(figures::of_run(run).into_iter().map(|figure| (format!("{prefix}{}", figure.name), figure)));
    }
    if runs.len() > 1 {
        let methods = figures::of_methods(&compare::Comparison::of(runs));
        let together = figures::of_comparison(&Comparison::of(runs)).into_iter().chain(methods);
        named.extend(together.map(|figure| (format!("comparison-{}", file_name(&figure.name)), figure)));
    }
    for (name, figure) in &named {
        let path = folder.join(format!("{name}.svg"));
        files::write_atomically(&path, chart::standalone(&figure.svg).as_bytes())?;
    }
    Ok(named.len())
}

/// A run's name as part of a file name.
fn file_name(name: &str) -> String {
    let safe = |character: char| if character.is_alphanumeric() || "-_.".contains(character) { character } else { '-' };
    name.chars().map(safe).collect()
}
