//! `neokd report`.

use std::path::PathBuf;

use super::Output;
use crate::report::html;
use crate::report::run::read_all;
use crate::{Error, files};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directories, or report.json files; several become a comparison
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Write a page: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let runs = read_all(&args.runs)?;
    for run in &runs {
        run.notes.iter().try_for_each(|note| out.line(&format!("note: {}: {note}", run.name)))?;
    }
    let page = html::page(&runs);
    files::write_atomically(&args.out, page.as_bytes())?;
    out.line(&format!("{}: {} kB", args.out.display(), page.len().div_ceil(1000)))
}
