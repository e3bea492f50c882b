//! Ctrl-C saves, says how to go on, and what goes on ends where an uninterrupted run ends.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{TINY, assert_failure, assert_success, neokd};

const LONGER: &[&str] = &["--set", "training.steps_per_epoch=40", "--set", "training.epochs=1"];

#[test]
fn ctrl_c_saves_and_a_resumed_run_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let command = |out: &Path| {
        let mut command = neokd();
        command.args(["train", "--device", "cpu", "--out"]).arg(out).args(TINY).args(LONGER);
        command
    };
    assert_success(&command(&whole).output().unwrap());

    let child = command(&broken).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&broken.join("metrics.jsonl"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let interrupted = child.wait_with_output().unwrap();
    if interrupted.status.success() {
        eprintln!("SKIPPED: the run was over before the signal came");
        return;
    }
    assert_failure(&interrupted, 130, &["interrupted after step", "--resume"]);
    assert!(broken.join("checkpoints/last.safetensors").exists());

    assert_success(&neokd().args(["train", "--resume"]).arg(&broken).output().unwrap());
    for file in ["weights.safetensors", "metrics.jsonl"] {
        assert_eq!(fs::read(whole.join(file)).unwrap(), fs::read(broken.join(file)).unwrap(), "{file}");
    }
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}
