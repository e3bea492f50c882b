//! `neokd init`.

use std::path::PathBuf;

use neokd_evaluate::{Error, files};
use neokd_train::RunConfig;
use neokd_train::config::preset;

use super::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration to begin with; neokd config list shows the names
    #[arg(default_value = "mnist-quick", value_name = "NAME")]
    name: String,
    /// The file to write; it must not exist
    #[arg(long, default_value = "neokd.toml", value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    files::refuse_existing("--out", &args.out)?;
    let text = match preset(&args.name) {
        Some(preset) => preset.text.to_string(),
        None => RunConfig::load(&args.name, &[])?.to_toml()?,
    };
    files::write_atomically(&args.out, text.as_bytes())?;
    let file = args.out.display();
    out.line(&format!("{file}: a copy of {}, to be changed; neokd train --config {file} runs it", args.name))
}
