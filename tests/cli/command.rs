//! Runs the binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use neokd_model::weights::{self, TensorMap};

/// Training so small that it takes about a second: two epochs of two steps.
pub(crate) const TINY: &[&str] = &[
    "--set",
    "training.epochs=2",
    "--set",
    "training.batch_size=4",
    "--set",
    "training.steps_per_epoch=2",
    "--set",
    "training.attack.steps=1",
    "--set",
    "validation.images=4",
    "--set",
    "evaluation.images=4",
    "--set",
    "evaluation.attack.steps=1",
];

pub(crate) fn neokd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neokd"));
    command.stdin(Stdio::null()).env_remove("NEOKD_DATA");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    neokd().args(arguments).output().unwrap()
}

/// `neokd train` on the CPU, tiny, into `folder`, with more arguments.
pub(crate) fn train(folder: &Path, more: &[&str]) -> Output {
    neokd().args(["train", "--device", "cpu", "--out"]).arg(folder).args(TINY).args(more).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{:?}\n{}\n{}", output.status, stdout(output), stderr(output));
}

/// The tensors of a weights file, wherever they come from.
pub(crate) fn tensors(file: &Path) -> TensorMap {
    weights::decode(&std::fs::read(file).unwrap()).unwrap().0
}

/// One message of one line, no panic, the documented code, and every given part in the message.
pub(crate) fn assert_failure(output: &Output, code: i32, parts: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
