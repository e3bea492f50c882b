//! `neokd smoke`.

use std::time::Instant;

use neokd_evaluate::Error;

use super::{DeviceFlag, Output};
use crate::device::Devices;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    let started = Instant::now();
    let devices = Devices::open(&[args.device.device])?;
    out.line(&format!("device: {}", devices.names))?;
    let folder = tempfile::tempdir().map_err(Error::io("create a folder in", &std::env::temp_dir()))?;
    crate::smoke::run(&devices, folder.path(), &mut |stage, finding| out.line(&format!("ok  {stage}: {finding}")))?;
    let memory = neokd_train::training::dry_run::resident()
        .map(|bytes| format!(", at most {} MB", bytes / 1_000_000))
        .unwrap_or_default();
    out.line(&format!("all stages behaved: {:.1} s{memory}", started.elapsed().as_secs_f64()))
}
