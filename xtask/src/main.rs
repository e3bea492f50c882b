//! Developer tasks of the workspace: `cargo xtask <command>`.
//!
//! This crate checks the repository and drives cargo. Nothing that neokd ships depends on it.
//!
//! **Architecture invariant:** it depends on no crate of the workspace and on no tensor library, so
//! that `cargo xtask tidy` answers in seconds on a fresh clone.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool: what it prints is its result")]

mod ci;
mod features;
mod process;
mod tidy;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask <command>

  ci                    every check of the project, in order; stops at the first failure
  tidy                  test the repository itself: layout, architecture, text
  features [NAME...]    type-check neokd with each backend: ndarray wgpu vulkan cuda
  bench [ARGS...]       run the benchmark 'steps' of neokd
  help                  print this text

exit codes: 0 all well, 1 a check failed, 2 the command line is wrong; else that of the failed cargo";

const USAGE_ERROR: u8 = 2;

#[derive(Debug, PartialEq)]
enum Task {
    Ci,
    Tidy,
    Features(Vec<&'static str>),
    Bench(Vec<String>),
    Help,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let task = match parse(&args) {
        Ok(task) => task,
        Err(message) => {
            eprintln!("error: {message}\n\n{HELP}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    match run(task) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was typed, as a task; the error says what is wrong with it.
fn parse(args: &[String]) -> Result<Task, String> {
    let Some((command, rest)) = args.split_first() else {
        return Err("no command given".to_owned());
    };
    let alone = |task: Task| match rest.first() {
        None => Ok(task),
        Some(extra) => Err(format!("`{command}` takes no arguments, but got `{extra}`")),
    };
    match command.as_str() {
        "ci" => alone(Task::Ci),
        "tidy" => alone(Task::Tidy),
        "features" => features::named(rest).map(Task::Features),
        "bench" => Ok(Task::Bench(rest.to_vec())),
        "help" | "--help" | "-h" => alone(Task::Help),
        _ => Err(format!("unknown command `{command}`")),
    }
}

/// Runs the task in the workspace root; returns the exit code.
fn run(task: Task) -> anyhow::Result<u8> {
    let root = workspace_root();
    match task {
        Task::Ci => ci::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Features(names) => features::run(&root, &names),
        Task::Bench(args) => bench(&root, &args),
        Task::Help => {
            println!("{HELP}");
            Ok(0)
        }
    }
}

fn bench(root: &std::path::Path, args: &[String]) -> anyhow::Result<u8> {
    let mut cargo = process::cargo(root);
    cargo.args(["bench", "--package", "neokd", "--bench", "steps", "--"]);
    process::timed("bench", cargo.args(args))
}

/// The folder above this crate. Cargo names the crate's folder at run time, so that a clone that was
/// moved together with its build still finds itself.
fn workspace_root() -> PathBuf {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest_dir);
    root.pop();
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Task, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args)
    }

    #[test]
    fn each_command_is_understood() {
        assert_eq!(typed("ci"), Ok(Task::Ci));
        assert_eq!(typed("tidy"), Ok(Task::Tidy));
        assert_eq!(typed("--help"), Ok(Task::Help));
        assert_eq!(typed("features"), Ok(Task::Features(features::ALL.to_vec())));
        assert_eq!(typed("features vulkan"), Ok(Task::Features(vec!["vulkan"])));
        assert_eq!(typed("bench --quick pgd"), Ok(Task::Bench(vec!["--quick".to_owned(), "pgd".to_owned()])));
    }

    #[test]
    fn a_wrong_command_line_is_named() {
        for (line, named) in
            [("", "no command"), ("tydi", "`tydi`"), ("tidy now", "`now`"), ("features metal", "`metal`")]
        {
            let message = typed(line).err().unwrap_or_default();
            assert!(message.contains(named), "{line:?} gave {message:?}");
        }
    }
}
