//! The `neokd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    neokd::cli::main()
}
