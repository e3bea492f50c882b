//! Every check of the project in one command, for a developer's machine.
//!
//! The build and its tests come before clippy and the docs: a failing test is the news one waits for.
//! `.ci/run` runs the same steps on the CI machine, in another order and with time limits.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{features, process, tidy};

/// No feature check starts later than this after the start: a cold one takes up to a quarter hour.
const FEATURES_START_UNTIL: Duration = Duration::from_secs(40 * 60);

/// Runs the steps in order; returns the exit code of the first that fails, or 0.
pub(crate) fn run(root: &Path) -> anyhow::Result<u8> {
    let start = Instant::now();

    println!("== tidy");
    let code = tidy::run(root)?;
    process::report("tidy", code, start);
    if code != 0 {
        return Ok(code);
    }

    for (name, mut command) in cargo_steps(root) {
        let code = process::timed(name, &mut command)?;
        if code != 0 {
            return Ok(code);
        }
    }

    for name in features::ALL {
        if start.elapsed() > FEATURES_START_UNTIL {
            println!("== feature {name} skipped: no time");
            continue;
        }
        let code = features::check(root, name)?;
        if code != 0 {
            return Ok(code);
        }
    }

    process::report("ci", 0, start);
    Ok(0)
}

/// Clippy and the docs use the release profile too: they share its build scripts and macros.
fn cargo_steps(root: &Path) -> [(&'static str, Command); 4] {
    let cargo = |args: &str| {
        let mut command = process::cargo(root);
        command.args(args.split_whitespace());
        command
    };
    let mut doc = cargo("doc --workspace --no-deps --release");
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    [
        ("fmt", cargo("fmt --all --check")),
        ("test", cargo("test --release --workspace")),
        ("clippy", cargo("clippy --workspace --all-targets --release -- -D warnings")),
        ("doc", doc),
    ]
}
