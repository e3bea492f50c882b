//! Images that stay in their files: the same numbers as from memory, and what goes wrong with files.

use std::fs;
use std::path::{Path, PathBuf};

use neokd_datasets::{DataSplits, Images, Storage, TreeOptions, open_tree};
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_model::weights;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::TrainingState;
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::{Fit, Silent};
use serde_json::Value;

use crate::command::{TINY, assert_failure, assert_success, neokd, stdout, tensors};

/// Two classes of grey gradients, no two alike and few of the network's size, some as JPEG.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("gradients");
    for (part, count) in [("train", 24), ("val", 6), ("test", 6)] {
        for (class, slope) in [("across", 1), ("down", 0)] {
            let place = tree.join(part).join(class);
            fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let (width, height) = (28 + number % 3 * 9, 28 + number % 4 * 5);
                let at = |x: u32, y: u32| (x * slope + y * (1 - slope)) * 5 + 3 * number;
                let image = image::GrayImage::from_fn(width, height, |x, y| image::Luma([(at(x, y) % 256) as u8]));
                let ending = if number % 5 == 0 { "jpg" } else { "png" };
                image.save(place.join(format!("{number:02}.{ending}"))).unwrap();
            }
        }
    }
    tree
}

fn open(tree: &Path, library: &Path, storage: Storage, resize: Option<usize>) -> DataSplits<Box<dyn Images>> {
    let mut options = TreeOptions::new([1, 28, 28]);
    options.storage = storage;
    options.resize = resize;
    open_tree(tree, library, &options).unwrap()
}

fn config(augmentation: &str) -> RunConfig {
    let text = r#"
        model = { kind = "small-cnn", classes = 2 }
        data = { name = "gradients", path = "gradients" }
        threat = { epsilon = 0.1 }
        [training]
        epochs = 2
        batch_size = 10
        attack = { kind = "pgd", objective = "average", steps = 1, step_size = 0.05 }
        loss = { kind = "neo-kd" }
        optimizer = { kind = "sgd" }
        schedule = { kind = "cosine", rate = 0.01 }
        [validation]
        every_steps = 3
        images = 8
        [evaluation]
        attack = { kind = "fgsm" }
    "#;
    RunConfig::parse("test", text, &[format!("data.augmentation={augmentation}")]).unwrap()
}

/// Trains in `folder`, from where it stands; weights and metrics.
fn train(
    config: &RunConfig,
    data: &DataSplits<Box<dyn Images>>,
    folder: &Path,
    stop: &Stop,
) -> Option<(Vec<u8>, String)> {
    let device = burn::tensor::Device::flex();
    let (run, mut state) = match folder.join("config.toml").exists() {
        true => {
            let (run, _) = RunDir::open(folder).unwrap();
            let state = TrainingState::load(config, &run.checkpoint_path(), &device).unwrap();
            (run, state)
        }
        false => (RunDir::create(folder, config).unwrap(), TrainingState::start(config, &device)),
    };
    match Fit::new(config, data, &device).unwrap().run(&mut state, &run, stop, &mut Silent) {
        Err(Error::Interrupted { .. }) => None,
        other => {
            other.unwrap();
            let weights = weights::encode_network(&config.model, &state.model).unwrap();
            Some((weights, fs::read_to_string(run.metrics_path()).unwrap()))
        }
    }
}

#[test]
fn training_from_files_and_from_memory_give_the_same_bits_also_when_resumed_mid_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, library) = (tree(folder.path()), folder.path().join("library"));
    let in_memory = open(&tree, &library, Storage::Memory, Some(32));
    let in_files = open(&tree, &library, Storage::Stream, Some(32));
    let run = |name: &str| folder.path().join(name);
    let plain = config("{ kind = \"none\" }");
    let expected = train(&plain, &in_memory, &run("plain-memory"), &Stop::default()).unwrap();
    assert!(train(&plain, &in_files, &run("plain-files"), &Stop::default()).unwrap() == expected);

    let config = config("{ kind = \"random-resized-crop\" }");
    let expected = train(&config, &in_memory, &run("memory"), &Stop::default()).unwrap();
    // Three of the four steps of an epoch from one, the others from the other.
    for (name, first, second) in [("first", &in_files, &in_memory), ("second", &in_memory, &in_files)] {
        assert!(train(&config, first, &run(name), &Stop::after_step(3)).is_none());
        assert!(train(&config, second, &run(name), &Stop::default()).unwrap() == expected, "{name}");
    }
}

/// `neokd train` and what it is told about a tree.
fn command(tree: &Path, library: &Path, out: &Path, more: &[&str]) -> std::process::Command {
    let mut command = neokd();
    command.args(["train", "--device", "cpu", "--json"]).args(TINY).args(["--set", "model.classes=2"]);
    command.arg("--set").arg(format!("data.path={:?}", tree.display().to_string())).arg("--data-dir").arg(library);
    command.args(["--set", "data.name=gradients"]).args(more).arg("--out").arg(out);
    command
}

#[test]
fn the_command_streams_when_told_to_and_reports_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, library) = (tree(folder.path()), folder.path().join("library"));
    let run = |name: &str, storage: &str| {
        let out = folder.path().join(name);
        let storage = format!("data.storage={storage}");
        let output = command(&tree, &library, &out, &["--set", &storage]).output().unwrap();
        assert_success(&output);
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        (tensors(&out.join("weights.safetensors")), report)
    };
    let (streamed, in_files) = run("streamed", "stream");
    assert!(!library.exists(), "nothing is decoded to a cache");
    let (held, in_memory) = run("held", "auto");
    assert!(streamed == held);
    assert_eq!(in_files["clean"], in_memory["clean"]);
    let [mut in_files, mut in_memory] = [in_files, in_memory];
    [&mut in_files, &mut in_memory].into_iter().for_each(crate::attack::without_seconds);
    assert_eq!(in_files["attacks"], in_memory["attacks"]);
    assert_eq!(in_files["data"]["provenance"]["files"][0]["name"], "image files by path and size");
    assert_eq!(in_memory["data"]["provenance"]["files"][0]["name"], "image files by path, size and SHA-256");
    // A run is evaluated again from what its configuration says.
    let mut again = neokd();
    again.args(["evaluate", "--json"]).arg(folder.path().join("streamed")).arg("--data-dir").arg(&library);
    let again = again.output().unwrap();
    assert_success(&again);
    let mut again: Value = serde_json::from_str(&stdout(&again)).unwrap();
    crate::attack::without_seconds(&mut again);
    assert_eq!(again["attacks"], in_files["attacks"]);
}

#[test]
fn a_damaged_file_or_an_impossible_wish_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, library) = (tree(folder.path()), folder.path().join("library"));
    let train = |more: &[&str]| {
        let out = folder.path().join("run");
        let output = command(&tree, &library, &out, more).output().unwrap();
        fs::remove_dir_all(out).ok();
        output
    };
    let from_file = "data.augmentation={ kind = \"random-resized-crop\", from_file = true }";
    assert_success(&train(&["--set", from_file]));
    assert_failure(&train(&["--set", from_file, "--set", "data.storage=memory"]), 2, &["data.storage", "from_file"]);
    assert_failure(&train(&["--set", "data.resize=20"]), 3, &["20", "28"]);
    assert_failure(&train(&["--set", "data.storage=disk"]), 2, &["data.storage", "disk", "stream"]);
    let without_files = neokd().args(["train", "--set", from_file]).output().unwrap();
    assert_failure(&without_files, 2, &["from_file", "mnist", "data.path"]);

    let damaged = tree.join("test/down/03.png");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let all = ["--set", "data.storage=stream", "--set", "evaluation.images=0"];
    assert_failure(&train(&all), 3, &["gradients", "test/down/03.png", "cannot be decoded"]);
    for number in 0..24 {
        for ending in ["png", "jpg"] {
            let path = tree.join(format!("train/down/{number:02}.{ending}"));
            if path.exists() {
                fs::write(path, "no image").unwrap();
            }
        }
    }
    assert_failure(&train(&all), 3, &["train/down/", "cannot be decoded", "replace it"]);
}

#[test]
fn the_imagenet_recipe_plans_a_run_on_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, library) = (tree(folder.path()), folder.path().join("library"));
    let path = format!("data.path={:?}", tree.display().to_string());
    let plan = |more: &[&str]| {
        let mut command = neokd();
        command.args(["train", "--config", "imagenet", "--dry-run", "--json", "--device", "cpu", "--data-dir"]);
        // Less than the recipe in every way that does not change what is planned with.
        command.arg(&library).args(["--set", "training.attack.steps=1", "--set", "training.attack.objective=average"]);
        command.args(["--set", "model.channels=4", "--set", "model.growth=4", "--set", "training.batch_size=4"]);
        command.args(more).output().unwrap()
    };
    let output = plan(&["--set", &path, "--set", "model.classes=2"]);
    assert_success(&output);
    let plan_found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&plan_found["epochs"], &plan_found["steps_per_epoch"]), (&90.into(), &12.into()));
    assert!(!library.exists());
    assert_failure(&plan(&[]), 2, &["data.name", "imagenet", "data.path=FOLDER"]);
    assert_failure(&plan(&["--set", &path]), 2, &["1000 classes", "2 classes"]);
}
