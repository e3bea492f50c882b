//! Weights from elsewhere, what they cost, and leaving early.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{assert_failure, assert_success, neokd, run, stdout};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/small-cnn").join(file)
}

/// The golden network, converted.
fn converted(folder: &Path) -> PathBuf {
    let out = folder.join("weights.safetensors");
    let output = neokd()
        .args(["convert", "--from"])
        .arg(golden("weights.safetensors"))
        .arg("--model")
        .arg(golden("model.toml"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_success(&output);
    assert!(stdout(&output).contains("28 tensors, every one accounted for"), "{}", stdout(&output));
    out
}

/// A grey picture in the simplest of formats: a filled square of the given side on black.
fn picture(path: &Path, size: usize, side: usize) {
    let mut bytes = format!("P5 {size} {size} 255\n").into_bytes();
    let inside = |at: usize| at >= (size - side) / 2 && at < (size + side) / 2;
    bytes.extend((0..size * size).map(|at| if inside(at / size) && inside(at % size) { 255 } else { 0 }));
    fs::write(path, bytes).unwrap();
}

#[test]
fn weights_go_to_our_names_and_back_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let ours = converted(folder.path());
    let theirs = folder.path().join("exported.safetensors");
    let export = ["convert", "--export", "pytorch-names", "--from"];
    let arguments = neokd().args(export).arg(&ours).arg("--out").arg(&theirs).output().unwrap();
    assert_success(&arguments);
    let again = folder.path().join("again.safetensors");
    let back =
        neokd().args(["convert", "--from"]).arg(&theirs).arg("--model").arg(&ours).arg("--out").arg(&again).output();
    assert_success(&back.unwrap());
    assert!(tensors(&ours) == tensors(&again));
    let refused =
        neokd().args(["convert", "--from"]).arg(&theirs).arg("--model").arg(&ours).arg("--out").arg(&again).output();
    assert_failure(&refused.unwrap(), 2, &["again.safetensors", "exists already"]);
}

#[test]
fn logits_equal_the_original_codes_for_converted_and_for_original_weights() {
    let folder = tempfile::tempdir().unwrap();
    let converted = converted(folder.path());
    let expected = tensors(&golden("io.safetensors"));
    let data = golden("io.safetensors");
    let logits = |weights: &Path, model: bool, name: &str| {
        let out = folder.path().join(name);
        let mut command = neokd();
        command.args(["logits", "--batch-size", "3", "--weights"]).arg(weights).arg("--data").arg(&data);
        command.arg("--out").arg(&out).arg("--data-dir").arg(folder.path());
        if model {
            command.arg("--model").arg(golden("model.toml"));
        }
        assert_success(&command.output().unwrap());
        tensors(&out)
    };
    for found in
        [logits(&converted, false, "a.safetensors"), logits(&golden("weights.safetensors"), true, "b.safetensors")]
    {
        for exit in 0..3 {
            let name = format!("logits.{exit}");
            assert_eq!(found[&name].len(), 80);
            let close = found[&name].iter().zip(&expected[&name]).all(|(our, their)| (our - their).abs() < 1e-4);
            assert!(close, "{name}");
        }
    }
}

/// The 32-bit floats of a safetensors file.
fn tensors(path: &Path) -> HashMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = file.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32);
    let decode = |data: &[u8]| data.chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    floats.map(|(name, view)| (name.to_string(), decode(view.data()))).collect()
}

#[test]
fn weights_of_another_network_are_refused_with_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let model = folder.path().join("model.toml");
    fs::write(&model, "kind = \"small-cnn\"\nclasses = 7\n").unwrap();
    let convert = |from: &Path, model: &Path| {
        neokd().args(["convert", "--from"]).arg(from).arg("--model").arg(model).arg("--out").arg(&out).output().unwrap()
    };
    assert_failure(
        &convert(&golden("weights.safetensors"), &model),
        4,
        &["fc3.weight", "[10, 200] instead of [7, 200]"],
    );
    let noise = folder.path().join("noise.pth");
    fs::write(&noise, b"not a checkpoint at all").unwrap();
    assert_failure(&convert(&noise, &golden("model.toml")), 4, &["noise.pth"]);
    fs::write(&model, "kind = \"small-cnn\"\nclases = 7\n").unwrap();
    assert_failure(
        &convert(&golden("weights.safetensors"), &model),
        2,
        &["model.toml", "clases", "did you mean `classes`"],
    );
    assert!(!out.exists());
}

#[test]
fn logits_say_why_weights_do_not_fit_the_model_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = (converted(folder.path()), folder.path().join("model.toml"));
    let out = folder.path().join("logits.safetensors");
    let logits = |weights: &Path| {
        let mut command = neokd();
        command.args(["logits", "--images", "2", "--weights"]).arg(weights).arg("--model").arg(&model);
        command.arg("--data").arg(golden("io.safetensors")).arg("--data-dir").arg(folder.path());
        command.arg("--out").arg(&out).output().unwrap()
    };
    fs::write(&model, "kind = \"small-cnn\"\nclasses = 7\n").unwrap();
    let parts = ["model.toml", "weights.safetensors", "classes is 7 there and 10", "leave --model out"];
    assert_failure(&logits(&weights), 2, &parts);

    fs::copy(golden("model.toml"), &model).unwrap();
    let bytes = fs::read(&weights).unwrap();
    let damaged = folder.path().join("damaged.safetensors");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&damaged, flipped).unwrap();
    assert_failure(&logits(&damaged), 4, &["damaged.safetensors", "checksum"]);
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    assert_failure(&logits(&damaged), 4, &["damaged.safetensors", "not a complete safetensors file"]);
    assert!(!out.exists());

    // The exported file has the model in its header, too, and the original code's names.
    let exported = folder.path().join("exported.safetensors");
    let mut export = neokd();
    export.args(["convert", "--export", "pytorch-names", "--from"]).arg(&weights).arg("--out").arg(&exported);
    assert_success(&export.output().unwrap());
    assert_success(&logits(&exported));
}

#[test]
fn what_a_conversion_leaves_out_is_listed_in_short_or_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(golden("weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let zeros = [0; 8];
    let more = (0..9).map(|number| {
        let counter = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![], &zeros).unwrap();
        (format!("bn{number}.num_batches_tracked"), counter)
    });
    let with_counters = safetensors::serialize(file.tensors().into_iter().chain(more), None).unwrap();
    let from = folder.path().join("with-counters.safetensors");
    fs::write(&from, with_counters).unwrap();
    let convert = |out: &str, more: &[&str]| {
        let mut command = neokd();
        command.args(["convert", "--from"]).arg(&from).arg("--model").arg(golden("model.toml")).args(more);
        let output = command.arg("--out").arg(folder.path().join(out)).output().unwrap();
        assert_success(&output);
        stdout(&output)
    };
    let short = convert("short.safetensors", &[]);
    assert!(short.contains("bn2.num_batches_tracked and 6 more (--verbose names them)"), "{short}");
    assert!(!short.contains("bn3"), "{short}");
    let full = convert("full.safetensors", &["--verbose"]);
    assert!(full.contains("bn8.num_batches_tracked") && !full.contains("more"), "{full}");
}

#[test]
fn costs_are_printed_for_a_model_file_and_for_weights() {
    let folder = tempfile::tempdir().unwrap();
    let weights = converted(folder.path());
    for file in [golden("model.toml"), weights] {
        let output = neokd().args(["cost", "--json", "--model"]).arg(&file).output().unwrap();
        assert_success(&output);
        let costs: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(costs["exits"][2]["weight_multiply_adds"], 11_135_152);
        assert_eq!(costs["exits"][2]["parameters"], 836_846);
        let shown = neokd().args(["model", "show"]).arg(&file).output().unwrap();
        assert!(stdout(&shown).contains("exit1.conv.weight"), "{}", stdout(&shown));
    }
    assert_failure(&run(&["cost", "--model", "nothing.toml"]), 6, &["nothing.toml"]);
}

#[test]
fn pictures_are_classified_and_leave_where_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let weights = converted(folder.path());
    let pictures = folder.path().join("pictures");
    fs::create_dir_all(pictures.join("deeper")).unwrap();
    picture(&pictures.join("a.pnm"), 28, 12);
    picture(&pictures.join("b.pnm"), 40, 20);
    picture(&pictures.join("deeper/c.pnm"), 28, 4);
    let predict = |policy: &str, batch: &str| -> Vec<Value> {
        let mut command = neokd();
        command.args(["predict", "--json", "--policy", policy, "--batch-size", batch, "--weights"]).arg(&weights);
        let output = command.arg(&pictures).output().unwrap();
        assert_success(&output);
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (policy, exit) in [("fixed:0", 0), ("fixed:2", 2), ("confidence:0", 0), ("confidence:1.1", 2), ("entropy:0", 2)]
    {
        let answers = predict(policy, "2");
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| answer["exit"] == exit), "{policy}: {answers:?}");
    }
    let labels = |answers: &[Value]| answers.iter().map(|answer| answer["label"].clone()).collect::<Vec<_>>();
    assert_eq!(labels(&predict("fixed:1", "1")), labels(&predict("fixed:1", "3")));

    let text = neokd().args(["predict", "--weights"]).arg(&weights).arg(&pictures).output().unwrap();
    assert!(stdout(&text).contains("images/s"), "{}", stdout(&text));
    let broken = folder.path().join("broken.png");
    fs::write(&broken, "no picture").unwrap();
    let predict = |arguments: &[&str], file: &Path| {
        neokd().args(["predict", "--weights"]).arg(&weights).args(arguments).arg(file).output().unwrap()
    };
    assert_failure(&predict(&[], &broken), 3, &["broken.png", "cannot be decoded"]);
    assert_failure(&predict(&["--policy", "fixed:3"], &pictures), 2, &["fixed:3", "3 exits"]);
    assert_failure(&predict(&["--policy", "luck:1"], &pictures), 2, &["luck", "confidence:T"]);
    assert_failure(&predict(&[], &folder.path().join("absent.png")), 6, &["absent.png"]);
}

#[test]
fn thresholds_come_from_validation_images_and_serve_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, budget) = (converted(folder.path()), folder.path().join("budget.json"));
    let output = neokd().args(["calibrate", "--weights"]).arg(&weights).arg("--out").arg(&budget).output().unwrap();
    assert_success(&output);
    let file: Value = serde_json::from_slice(&fs::read(&budget).unwrap()).unwrap();
    assert_eq!((&file["n"], &file["schema"]), (&5000.into(), &"neokd.budget/1".into()));
    let budgets = file["budgets"].as_array().unwrap();
    assert_eq!(budgets.len(), 39);
    let costs: Vec<f64> = budgets.iter().map(|budget| budget["multiply_adds"].as_f64().unwrap()).collect();
    assert!(costs.windows(2).all(|pair| pair[0] <= pair[1] * 1.001), "{costs:?}");

    let policy = format!("budget:{}", budget.display());
    let arguments = [
        "evaluate",
        "--config",
        "mnist",
        "--images",
        "20",
        "--steps",
        "1",
        "--objective",
        "average",
        "--json",
        "--policy",
        &policy,
    ];
    let scored = neokd().args(arguments).arg(&weights).output().unwrap();
    assert_success(&scored);
    let report: Value = serde_json::from_str(&stdout(&scored)).unwrap();
    assert_eq!(report["policies"].as_array().unwrap().len(), 39);
    let left: u64 = report["policies"][0]["left"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(left, 20);

    fs::write(&budget, "{\"schema\": \"other/9\"}").unwrap();
    assert_failure(&neokd().args(arguments).arg(&weights).output().unwrap(), 2, &["budget.json", "neokd calibrate"]);
}

#[test]
fn a_data_set_is_given_by_name_or_folder_wherever_images_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let weights = converted(folder.path());
    let command = |name: &str, more: &[&str]| {
        let mut command = neokd();
        command.args([name, "--weights"]).arg(&weights).args(more).args(["--data-dir"]).arg(folder.path());
        command.output().unwrap()
    };
    let predicted = command("predict", &["--data", "mnist", "--images", "30", "--policy", "fixed:2", "--json"]);
    assert_success(&predicted);
    let lines = stdout(&predicted);
    let answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((answers.len(), &answers[29]["image"], &answers[0]["data"]), (30, &29.into(), &"mnist test".into()));
    let correct = answers.iter().filter(|answer| answer["label"] == answer["true_label"]).count();

    // The same images through logits and through evaluate.
    let out = folder.path().join("logits.safetensors");
    let more = ["--data", "mnist", "--images", "30", "--out", out.to_str().unwrap()];
    assert_success(&command("logits", &more));
    let logits = &tensors(&out)["logits.2"];
    let largest = |row: &[f32]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let labels: Vec<usize> = logits.chunks(10).map(largest).collect();
    assert!(answers.iter().zip(labels).all(|(answer, label)| answer["label"] == label));
    let summary = command("predict", &["--data", "mnist", "--images", "30", "--policy", "fixed:2"]);
    assert!(stdout(&summary).contains(&format!("accuracy {:.2} [", 100.0 * correct as f64 / 30.0)));
    assert!(stdout(&summary).contains("(n 30)") && stdout(&summary).contains("images/s"), "{}", stdout(&summary));

    let tree = folder.path().join("digits");
    for (part, count) in [("train", 20), ("test", 3)] {
        for class in 0..10 {
            let place = tree.join(part).join(class.to_string());
            fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let pixels = image::GrayImage::from_pixel(30, 28, image::Luma([class * 20 + number]));
                pixels.save(place.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    let tree = tree.to_str().unwrap();
    let predicted = command("predict", &["--data", tree, "--json"]);
    assert_success(&predicted);
    assert_eq!(stdout(&predicted).lines().count(), 30);
    let budget = folder.path().join("budget.json");
    assert_success(&command("calibrate", &["--data", tree, "--out", budget.to_str().unwrap()]));
    let file: Value = serde_json::from_slice(&fs::read(&budget).unwrap()).unwrap();
    assert_eq!((&file["n"], &file["data"]), (&20.into(), &tree.into()));

    for name in ["predict", "calibrate", "logits"] {
        let never = folder.path().join("never.safetensors");
        let out: &[&str] = if name == "predict" { &[] } else { &["--out", never.to_str().unwrap()] };
        let output = command(name, &[&["--data", "cifar100"], out].concat());
        assert_failure(&output, 3, &["cifar100", "cifar-100-binary.tar.gz"]);
        let output = command(name, &[&["--data", "mnits"], out].concat());
        assert_failure(&output, 2, &["mnits", "fashion-mnist"]);
    }
    assert_eq!(command("predict", &["--data", "mnist", "a.png"]).status.code(), Some(2));
    assert_eq!(command("predict", &[]).status.code(), Some(2));
}
