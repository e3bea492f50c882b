//! Starting cargo, and saying how long it took.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context;

/// The cargo that started this program, to be run in the workspace root.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs the command, prints its name and time, and returns its exit code (1 if a signal ended it).
///
/// # Errors
/// If the command cannot be started.
pub(crate) fn timed(name: &str, command: &mut Command) -> anyhow::Result<u8> {
    println!("== {name}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{name}: cannot start {command:?}"))?;
    let code = status.code().map_or(1, |code| u8::try_from(code).unwrap_or(1));
    report(name, code, start);
    Ok(code)
}

/// Prints the closing line of a step that began at `start`.
pub(crate) fn report(name: &str, code: u8, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    if code == 0 {
        println!("== {name}: ok in {seconds:.1} s");
    } else {
        println!("== {name}: FAILED (exit code {code}) after {seconds:.1} s");
    }
}
