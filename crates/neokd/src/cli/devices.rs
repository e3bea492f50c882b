//! `neokd devices`.

use neokd_evaluate::Error;

use super::{DeviceFlag, Output};
use crate::device::{backends, open_untested};
use crate::self_test;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Hold small computations on --device against the CPU's: operations, attacks, a training step of each backbone
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    device: DeviceFlag,
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    if args.check {
        let (device, name) = open_untested(args.device.device)?;
        let (cpu, _) = open_untested(crate::device::DeviceChoice::Cpu)?;
        out.line(&format!("device: {name}"))?;
        let count = self_test::run(&device, &cpu, &mut |finding| {
            let state = if finding.passed { "ok   " } else { "WRONG" };
            out.line(&format!("{state}  {}: {}", finding.name, finding.describe()))
        })?;
        return out.line(&format!("{count} checks passed: this device computes what the CPU computes"));
    }
    for backend in backends() {
        let state = match (backend.compiled, backend.devices.is_empty()) {
            (false, _) => format!("not compiled in; build with --features {}", backend.name),
            (true, true) => "compiled in, no device or driver found".to_string(),
            (true, false) => backend.devices.join(", "),
        };
        out.line(&format!("{:8} {state}", backend.name))?;
    }
    Ok(())
}
