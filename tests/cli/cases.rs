//! Files as they occur in public: the table of outcomes.
//!
//! The files are in `$NEOKD_CASES`, or in `shared/cases` beside the repository; where they are not, the tables are
//! skipped. Each kind is also made in the tests of the crate that reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::command::{assert_failure, assert_success, neokd, stdout, tensors};

fn cases() -> Option<PathBuf> {
    let given = std::env::var_os("NEOKD_CASES").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/cases"));
    let found = given.into_iter().chain(beside()).find(|folder| folder.join("plain.pth").is_file());
    if found.is_none() {
        eprintln!("files as they occur: SKIPPED, no shared/cases beside the repository and no NEOKD_CASES");
    }
    found
}

fn convert(cases: &Path, file: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = neokd();
    command.args(["convert", "--verbose", "--from"]).arg(cases.join(file));
    command.arg("--model").arg(cases.join("model.toml")).arg("--out").arg(out).args(more).output().unwrap()
}

/// File, options, and what the program says about it.
const WEIGHTS: [(&str, &[&str], &str); 10] = [
    ("key-model_state.pth", &[], "weights under key: model_state"),
    ("key-model_state.pth", &["--key", "model_state"], "weights under key: model_state"),
    ("only-ema.pth", &[], "weights under key: ema"),
    ("prefix-orig_mod.pth", &[], "taken off every name: _orig_mod."),
    ("prefix-1.pth", &[], "taken off every name: 1."),
    ("prefix-model.pth", &[], "taken off every name: model."),
    ("shared-storage.pth", &[], "left out, second names of the same tensors: main."),
    ("shared-storage.pth", &["--key", "main"], "taken off every name: main."),
    ("holds-a-path.pth", &[], "left out, not weights: path"),
    ("holds-a-date.pth", &[], "left out, not weights: date"),
];

#[test]
fn weights_are_found_wherever_they_are_kept() {
    let Some(cases) = cases() else { return };
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.safetensors");
    assert_success(&convert(&cases, "plain.pth", &plain, &[]));
    for (row, (file, options, says)) in WEIGHTS.into_iter().enumerate() {
        let out = folder.path().join(format!("{row}.safetensors"));
        let output = convert(&cases, file, &out, options);
        assert_success(&output);
        assert!(stdout(&output).contains(says), "{file}: {}", stdout(&output));
        // The average has other values.
        let is_same = tensors(&out) == tensors(&plain);
        assert_eq!(is_same, file != "only-ema.pth", "{file} against plain.pth");
    }
    let out = folder.path().join("none.safetensors");
    assert_failure(&convert(&cases, "only-ema.pth", &out, &["--key", "average"]), 4, &["--key average", "ema (152"]);
}

#[test]
fn weights_of_a_diverged_run_are_taken_only_if_asked() {
    let Some(cases) = cases() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (file, parts) in
        [("one-nan.pth", ["1 NaN of", "--allow-non-finite"]), ("negative-variance.pth", ["negative of", "running_var"])]
    {
        let out = folder.path().join(file);
        assert_failure(&convert(&cases, file, &out, &[]), 4, &[&[file], &parts[..]].concat());
        assert!(!out.exists());
        assert_success(&convert(&cases, file, &out, &["--allow-non-finite"]));
    }
}

#[test]
fn broken_pictures_are_refused_and_numpy_files_are_read() {
    let Some(cases) = cases() else { return };
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    assert_success(&convert(&cases, "plain.pth", &weights, &[]));
    let predict = |what: &Path| {
        let mut command = neokd();
        command.args(["predict", "--policy", "fixed:0", "--weights"]).arg(&weights);
        let is_data = what.is_dir() || what.extension().is_some_and(|end| end == "npz");
        command.arg("--data-dir").arg(folder.path());
        if is_data { command.arg("--data").arg(what) } else { command.arg(what) }.output().unwrap()
    };
    assert_success(&predict(&cases.join("whole.jpg")));
    for file in ["trunc1000.jpg", "truncated_then_eoi.jpg"] {
        assert_failure(&predict(&cases.join(file)), 3, &[file, "cut short"]);
        let tree = folder.path().join(file.replace('.', "-"));
        for class in 0..10 {
            for part in ["train", "test"] {
                let class = tree.join(part).join(class.to_string());
                fs::create_dir_all(&class).unwrap();
                fs::copy(cases.join("whole.jpg"), class.join("a.jpg")).unwrap();
                fs::copy(cases.join("whole.jpg"), class.join("b.jpg")).unwrap();
            }
        }
        assert_success(&predict(&tree));
        fs::copy(cases.join(file), tree.join("train/3/c.jpg")).unwrap();
        assert_failure(&predict(&tree), 3, &["train/3/c.jpg", "cannot be decoded"]);
    }
    let answers = predict(&cases.join("images.npz"));
    assert_success(&answers);
    assert!(stdout(&answers).contains("20 images"), "{}", stdout(&answers));
    let mut attack = neokd();
    attack.args(["attack", "--attack", "fgsm", "--epsilon", "0.01", "--images", "4", "--weights"]).arg(&weights);
    assert_success(&attack.arg("--data").arg(cases.join("images.npz")).output().unwrap());
}
