//! What does not work: one message with the cure, the documented exit code, nothing overwritten.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{assert_failure, assert_success, neokd, run, stderr, train};

#[test]
fn a_bad_configuration_names_the_key_the_value_and_the_cure() {
    let cases: &[(&str, &[&str])] = &[
        ("threat.epsilom=0.1", &["threat", "epsilom", "did you mean `epsilon`"]),
        ("trainin.epochs=1", &["trainin", "did you mean `training`"]),
        ("training.epochs=many", &["training.epochs", "many"]),
        ("training.attack.steps=0", &["training.attack.steps = 0", "at least 1"]),
        ("training.attack.step_size=-1", &["training.attack.step_size = -1"]),
        ("threat.epsilon=-0.1", &["threat.epsilon = -0.1", "0 or larger"]),
        ("threat.epsilon=nan", &["threat.epsilon = NaN"]),
        ("threat.epsilon=8/0", &["threat.epsilon", "divides by zero"]),
        ("threat.epsilon=8", &["threat.epsilon", "did you mean 8/255?"]),
        ("threat.norm=l1", &["threat.norm", "l1", "linf"]),
        ("training.attack.objective=single:3", &["single:3", "3 exits", "0 to 2"]),
        ("training.attack.objective=worst", &["worst", "max-average"]),
        ("training.attack.kind=pdg", &["pdg", "did you mean `pgd`"]),
        ("training.loss.gamma=[1.0]", &["training.loss.gamma", "1 values", "3 exits"]),
        ("training.loss.alpha=-1", &["training.loss.alpha = -1"]),
        ("training.loss.teacher={ kind = \"exit\", exit = 9 }", &["training.loss.teacher.exit = 9"]),
        ("training.batch_size=0", &["training.batch_size = 0"]),
        ("training.schedule.rate=0", &["training.schedule.rate = 0"]),
        ("training.optimizer={ kind = \"sgd\", momentum = 1.0 }", &["training.optimizer.momentum = 1"]),
        ("model.kind=resnet", &["resnet", "small-cnn"]),
        ("model.classes=7", &["7 classes", "10 classes", "data.name"]),
        ("model.dropout=1", &["model.dropout = 1"]),
        ("model.normalization=cifar10", &["normalization", "3", "1 channels"]),
        ("data.augmentation={ kind = \"pad-crop-flip\", pad = 40 }", &["data.augmentation", "pad", "40"]),
        ("lr=0.1", &["unknown field `lr`", "did you mean `training.schedule.rate`"]),
        ("epochs=3", &["did you mean `training.epochs`"]),
        ("training.epsilon=0.1", &["did you mean `threat.epsilon`"]),
        ("training", &["key=value"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (set, parts) in cases {
        assert_failure(&train(&out, &["--set", set]), 2, parts);
        assert!(!out.exists(), "{set} left something behind");
    }
}

#[test]
fn configurations_and_sources_that_are_not_there_are_named() {
    assert_failure(&run(&["train", "--config", "mnits"]), 2, &["mnits", "did you mean mnist"]);
    assert_failure(&run(&["evaluate", "no-such-run"]), 2, &["no-such-run"]);
    let folder = tempfile::tempdir().unwrap();
    assert_failure(&run(&["evaluate", folder.path().to_str().unwrap()]), 5, &["config.toml is missing"]);
    assert_failure(&run(&["train", "--resume", folder.path().to_str().unwrap()]), 5, &["config.toml is missing"]);
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "seed = = 1").unwrap();
    assert_failure(&run(&["train", "--config", broken.to_str().unwrap()]), 2, &["broken.toml", "line 1"]);
    fs::write(&broken, [0xff, 0xfe]).unwrap();
    assert_failure(&run(&["train", "--config", broken.to_str().unwrap()]), 2, &["not UTF-8"]);
    let usage = run(&["train", "--nonsense"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(stderr(&usage).contains("--nonsense"));
}

#[test]
fn a_device_that_is_not_compiled_in_is_named_with_its_feature() {
    if cfg!(feature = "cuda") {
        eprintln!("SKIPPED: this build has cuda");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = ["train", "--device", "cuda:0", "--out", out.to_str().unwrap()];
    assert_failure(&run(&arguments), 7, &["cuda", "--features cuda"]);
    assert!(!out.exists());
    assert_eq!(run(&["train", "--device", "tpu"]).status.code(), Some(2));
}

#[test]
fn a_directory_that_holds_another_run_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_success(&train(&out, &[]));
    let before = snapshot(&out);
    assert_failure(&train(&out, &["--seed", "9"]), 5, &["holds another run", "--resume"]);
    assert_eq!(before, snapshot(&out));
    let other = folder.path().join("notes");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "precious").unwrap();
    assert_failure(&train(&other, &[]), 5, &["is not empty"]);
    assert_eq!(fs::read(other.join("thesis.tex")).unwrap(), b"precious");
}

fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_success(&train(&out, &[]));
    let checkpoint = out.join("checkpoints/last.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    let resume = || neokd().args(["train", "--resume"]).arg(&out).output().unwrap();
    let evaluate = || neokd().args(["evaluate", "--images", "1", "--steps", "1"]).arg(&out).output().unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut foreign_run = folder.path().join("foreign");
    assert_success(&train(&foreign_run, &["--set", "model.dropout=0.25"]));
    foreign_run.push("checkpoints/last.safetensors");
    let cases: [(Vec<u8>, &str); 5] = [
        (good[..good.len() / 3].to_vec(), "not a complete safetensors file"),
        (Vec::new(), "not a complete safetensors file"),
        (flipped, "checksum"),
        (b"PK\x03\x04 something else entirely".to_vec(), "not a complete safetensors file"),
        (fs::read(&foreign_run).unwrap(), "another network"),
    ];
    for (bytes, part) in cases {
        fs::write(&checkpoint, &bytes).unwrap();
        assert_failure(&resume(), 4, &["last.safetensors", part]);
        assert_failure(&evaluate(), 4, &["last.safetensors", part]);
        assert_eq!(fs::read(&checkpoint).unwrap(), bytes, "a refused checkpoint is left as it is");
    }
    fs::copy(out.join("weights.safetensors"), &checkpoint).unwrap();
    assert_failure(&resume(), 4, &["no training state"]);
}

#[test]
fn damaged_data_are_refused_at_import_and_later() {
    let folder = tempfile::tempdir().unwrap();
    let (library, source) = (folder.path().join("library"), folder.path().join("source"));
    fs::create_dir_all(&source).unwrap();
    let import = |more: &[&str]| {
        let mut command = neokd();
        command.args(["data", "import", "fashion-mnist"]).arg(&source).arg("--data-dir").arg(&library).args(more);
        command.output().unwrap()
    };
    assert_failure(&import(&[]), 3, &["train-images"]);
    let names =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    for name in names {
        fs::write(source.join(name), [0, 0, 8, 3, 0x80, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28]).unwrap();
    }
    assert_failure(&import(&[]), 3, &["train-images-idx3-ubyte"]);
    assert_failure(&import(&["--accept-unverified"]), 3, &["train-images-idx3-ubyte"]);
    assert!(!library.join("fashion-mnist").exists());
    let absent = neokd()
        .args(["train", "--set", "data.name=fashion-mnist", "--data-dir"])
        .arg(&library)
        .arg("--out")
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    assert_failure(&absent, 3, &["fashion-mnist", "import"]);
    assert_failure(&run(&["data", "verify", "mnits"]), 3, &["mnits", "mnist"]);
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let mut child =
        neokd().args(["config", "show", "mnist"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    // The pipe may close before or after the text went through.
    assert!(matches!(output.status.code(), Some(0 | 141)), "{:?}", output.status);
    assert_eq!(stderr(&output), "");
    let closed = Command::new("sh")
        .args(["-c", "{ sleep 0.3; \"$0\" completions bash; echo code $? >&2; } | true", env!("CARGO_BIN_EXE_neokd")])
        .output()
        .unwrap();
    assert_eq!(stderr(&closed).trim(), "code 141");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported_and_the_last_checkpoint_kept() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=9m", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a small file system cannot be mounted here");
        return;
    }
    // With plain SGD a checkpoint is 3.3 MB: the first fits, as does its replacement; then the disk is filled.
    let sgd = ["--set", "training.optimizer={ kind = \"sgd\", momentum = 0.0 }"];
    let out = disk.join("run");
    let first = train(&out, &sgd);
    let checkpoint = out.join("checkpoints/last.safetensors");
    let before = fs::read(&checkpoint);
    let filled = fs::write(disk.join("filler"), vec![0; 9_000_000]);
    let second = train(&disk.join("second"), &sgd);
    let after = fs::read(&checkpoint);
    let unmounted = Command::new("umount").arg(&disk).status();
    assert_success(&first);
    assert!(filled.is_err(), "the disk was meant to be full");
    assert_failure(&second, 6, &["No space left", "free some space"]);
    assert_eq!(before.unwrap(), after.unwrap());
    assert!(unmounted.unwrap().success());
}
