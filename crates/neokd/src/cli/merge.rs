//! `neokd merge`.

use std::path::PathBuf;

use neokd_evaluate::{Error, merge};

use super::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The journals of all shards, in any order
    #[arg(required = true, value_name = "JOURNAL")]
    journals: Vec<PathBuf>,
    /// The journal of the whole evaluation; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    merge::merge(&args.journals, &args.out)?;
    let whole = args.out.display();
    out.line(&format!("{whole}: complete; the shards' command with --journal {whole} and without --shard reports it"))
}
