//! Ctrl-C saves, says how to go on, and what goes on ends where an uninterrupted run ends.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::attack::weights;
use crate::command::{TINY, assert_failure, assert_success, neokd, stderr, stdout, train};

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
    let second = neokd().args(["train", "--resume"]).arg(&broken).output().unwrap();
    // On a fast machine the first may be over by then, and the second finds the run finished.
    if !second.status.success() {
        assert_failure(&second, 5, &[".lock", &format!("process {}", child.id())]);
    }
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

#[test]
fn a_resumed_run_says_what_was_changed_since_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_success(&train(&run, &[]));
    let resume = || neokd().args(["train", "--resume"]).arg(&run).output().unwrap();
    let untouched = resume();
    assert_success(&untouched);
    assert!(!stdout(&untouched).contains("note:"), "{}", stdout(&untouched));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("seed = 1\n"), "{config}");
    fs::write(run.join("config.toml"), config.replace("seed = 1\n", "seed = 2\n")).unwrap();
    let changed = resume();
    assert_success(&changed);
    assert!(stdout(&changed).contains("note: seed was 1, is 2, from step 4 on"), "{}", stdout(&changed));
    let mut attack = neokd();
    attack.args(["attack", "--attack", "fgsm", "--epsilon", "0.1", "--images", "2", "--data", "mnist", "--weights"]);
    let attacked = attack.arg(run.join("weights.safetensors")).output().unwrap();
    assert!(stdout(&attacked).contains("changed on the way: seed was 1, is 2"), "{}", stdout(&attacked));
}

#[test]
fn what_a_killed_start_left_behind_is_no_obstacle_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join(".writing-a1b2c3"), "half a conf").unwrap();
    assert_success(&train(&run, &[]));
    fs::write(run.join("checkpoints/.writing-d4e5f6"), "half a checkpoint").unwrap();
    assert_success(&neokd().args(["train", "--resume"]).arg(&run).output().unwrap());
    let left =
        |folder: &Path| fs::read_dir(folder).unwrap().flatten().filter(|entry| is_half(&entry.file_name())).count();
    assert_eq!((left(&run), left(&run.join("checkpoints"))), (0, 0));

    let other = folder.path().join("other");
    fs::create_dir_all(other.join("notes")).unwrap();
    assert_failure(&train(&other, &[]), 5, &["is not empty", "notes"]);
}

fn is_half(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".writing-")
}

#[test]
fn without_a_terminal_a_line_says_now_and_then_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let attack = |seconds: &str| {
        let mut command = neokd();
        command.args(["attack", "--data", "mnist", "--epsilon", "0.3", "--attack", "pgd", "--steps", "400"]);
        command.args(["--images", "30", "--batch-size", "2", "--checks", "0", "--weights"]).arg(&weights);
        command.env("NEOKD_PROGRESS_SECONDS", seconds).output().unwrap()
    };
    let said = attack("1");
    assert_success(&said);
    assert!(stderr(&said).contains(" of 30 images attacked"), "{}", stderr(&said));
    assert_eq!(stderr(&attack("0")), "");
}

#[test]
fn a_journal_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, journal) = (weights(folder.path()), folder.path().join("attack.jsonl"));
    let attack = || {
        let mut command = neokd();
        command.args(["attack", "--data", "mnist", "--epsilon", "0.3", "--attack", "pgd", "--steps", "4000"]);
        command.args(["--images", "20", "--batch-size", "1", "--device", "cpu", "--weights"]).arg(&weights);
        command.arg("--journal").arg(&journal);
        command
    };
    let mut first = attack().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&journal);
    let second = attack().output();
    let _ = first.kill();
    first.wait().unwrap();
    assert_failure(&second.unwrap(), 5, &[".attack.jsonl.lock", &format!("process {}", first.id())]);
    let mut third = attack().args(["--json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(third.try_wait().unwrap(), None, "the lock of a killed process is taken over");
    third.kill().unwrap();
    third.wait().unwrap();
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}
