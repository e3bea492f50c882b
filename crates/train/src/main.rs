//! The `neokd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    neokd_train::cli::main()
}
