//! `neokd runs`.

use std::path::PathBuf;

use neokd_evaluate::Error;
use neokd_report::listing;

use super::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to look in and below
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    if !args.folder.is_dir() {
        return Err(Error::Config(format!(
            "{}: no such folder; give the folder that holds run directories, neokd train makes ./runs",
            args.folder.display()
        )));
    }
    let lines = listing::list(&args.folder)?;
    if args.json {
        let text = serde_json::to_string_pretty(&lines);
        return out.line(&text.map_err(|error| Error::Config(format!("runs cannot be written as JSON: {error}")))?);
    }
    match lines.is_empty() {
        true => out.line(&format!("no runs in {} or below", args.folder.display())),
        false => out.line(&listing::table(&lines, &args.folder)),
    }
}
