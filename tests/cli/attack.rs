//! `neokd attack`: what it prints and writes, and that an interrupted evaluation ends with the same bits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neokd_attack::Search;
use serde_json::Value;

use crate::command::{assert_failure, assert_success, neokd, stdout};

/// The golden network, converted.
pub(crate) fn weights(folder: &Path) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/small-cnn");
    let out = folder.join("weights.safetensors");
    let mut convert = neokd();
    convert.args(["convert", "--from"]).arg(golden.join("weights.safetensors")).arg("--model");
    assert_success(&convert.arg(golden.join("model.toml")).arg("--out").arg(&out).output().unwrap());
    out
}

fn attack(weights: &Path, arguments: &[&str]) -> Command {
    let mut command = neokd();
    command.args(["attack", "--device", "cpu", "--data", "mnist", "--weights"]).arg(weights).args(arguments);
    command
}

/// The report without its wall times.
fn json(output: &Output) -> Value {
    assert_success(output);
    let mut report: Value = serde_json::from_str(&stdout(output)).unwrap();
    without_seconds(&mut report);
    report
}

pub(crate) fn without_seconds(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("seconds");
            fields.values_mut().for_each(without_seconds);
        }
        Value::Array(values) => values.iter_mut().for_each(without_seconds),
        _ => {}
    }
}

/// The lines of a journal without their wall times.
pub(crate) fn journal_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(without_seconds);
    lines
}

/// Counts per exit.
fn counts(shares: &Value) -> Vec<u64> {
    shares.as_array().unwrap().iter().map(|share| share["count"].as_u64().unwrap()).collect()
}

/// Per exit, how many images of a file `neokd predict` answers correctly.
fn recount(weights: &Path, images: &Path, exit: usize) -> u64 {
    let mut predict = neokd();
    predict.args(["predict", "--device", "cpu", "--json", "--policy", &format!("fixed:{exit}"), "--weights"]);
    let output = predict.arg(weights).arg("--data").arg(images).output().unwrap();
    assert_success(&output);
    let text = stdout(&output);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["label"] == line["true_label"]).count() as u64
}

const SET: &[&str] = &[
    "--attack",
    "fgsm",
    "pgd",
    "apgd-ce",
    "apgd-dlr",
    "apgd-margin",
    "apgd-t",
    "cw",
    "fab-t",
    "deepfool",
    "square",
    "slowdown",
    "autoattack",
    "--objective",
    "max-average",
    "--objective",
    "average",
    "--objective",
    "single:1",
    "--objective",
    "policy",
    "--policy",
    "confidence:0.4",
    "--epsilon",
    "0.05",
    "--steps",
    "3",
    "--queries",
    "5",
    "--targets",
    "2",
    "--images",
    "5",
    "--checks",
    "0",
];

#[test]
fn every_attack_on_every_objective_is_at_least_as_robust_as_the_worst_case() {
    let folder = tempfile::tempdir().unwrap();
    let output = attack(&weights(folder.path()), SET).arg("--json").output().unwrap();
    let report = json(&output);
    assert_eq!(crate::schema::check(&serde_json::from_str(&stdout(&output)).unwrap()), [""; 0]);
    assert_eq!((&report["schema"], &report["n"]), (&"neokd.report/1".into(), &5.into()));
    let runs = report["attacks"].as_array().unwrap();
    let radius = &report["worst"][0];
    // All searches and AutoAttack on four objectives, but slow-down, which has an objective of its own.
    assert_eq!(runs.len(), (Search::KINDS.len() - 1 + 1) * 4 + 1);
    let worst = counts(&radius["exits"]);
    for run in runs {
        let what = format!("{} {}", run["search"], run["objective"]);
        let exits = counts(&run["exits"]);
        assert!(exits.iter().zip(&worst).all(|(run, worst)| worst <= run), "{what}");
        assert!(exits.iter().all(|exit| run["any_exit"]["count"].as_u64().unwrap() <= *exit), "{what}");
        let own: Vec<bool> = run["own"].as_array().unwrap().iter().map(|own| !own.is_null()).collect();
        let expected = match run["objective"].as_str().unwrap() {
            "max-average" => [true; 3],
            "single:1" => [false, true, false],
            _ => [false; 3],
        };
        assert_eq!(own, expected, "{what}");
        assert_eq!(run["transfer"].is_object(), run["objective"] == "max-average", "{what}");
        let policy = &run["policies"][0];
        assert!(policy["accuracy"]["count"].as_u64() >= radius["deployed"]["count"].as_u64(), "{what}");
        assert_eq!(policy["robust"].is_object(), run["objective"] == "max-average", "{what}");
        assert!(
            run["objective"] != "max-average"
                || policy["robust"]["count"].as_u64() >= radius["deployed"]["count"].as_u64()
        );
        assert_eq!(run["members"].is_array(), run["search"] == "autoattack", "{what}");
        assert!(run["passes"]["forward"].as_u64().unwrap() > 0 && run["audit"]["largest"].as_f64().unwrap() < 0.050_01);
    }
}

#[test]
fn the_table_has_the_worst_case_and_a_verdict_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--attack", "pgd", "--epsilon", "0.1", "4/255", "--steps", "2", "--images", "4", "--checks", "4"];
    let output = attack(&weights(folder.path()), &arguments).output().unwrap();
    assert_success(&output);
    let text = stdout(&output);
    for part in
        ["epsilon 4/255", "epsilon 0.1", "own exit", "worst case", "every exit is right", "transfer of max-average"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("verdict for max-average: ").count(), 2, "{text}");
    assert!(text.find("epsilon 4/255") < text.find("epsilon 0.1"), "{text}");
}

#[test]
fn a_larger_radius_never_raises_the_worst_case() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--attack",
        "fgsm",
        "pgd",
        "--epsilon",
        "0.3",
        "--epsilon",
        "0",
        "--epsilon",
        "0.1",
        "--steps",
        "2",
        "--images",
        "20",
        "--checks",
        "0",
        "--json",
    ];
    let report = json(&attack(&weights(folder.path()), &arguments).output().unwrap());
    let radii = report["worst"].as_array().unwrap();
    let epsilons: Vec<f64> = radii.iter().map(|radius| radius["epsilon"].as_f64().unwrap()).collect();
    assert_eq!(epsilons, [0.0, 0.1, 0.3]);
    let worst: Vec<Vec<u64>> = radii.iter().map(|radius| counts(&radius["exits"])).collect();
    assert_eq!(worst[0], counts(&report["clean"]["exits"]));
    assert!(
        worst.windows(2).all(|pair| pair[0].iter().zip(&pair[1]).all(|(small, large)| large <= small)),
        "{worst:?}"
    );
}

#[test]
fn written_images_give_the_reported_numbers_when_they_are_looked_at_again() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, file) = (weights(folder.path()), folder.path().join("attacked.safetensors"));
    let arguments =
        ["--attack", "pgd", "--epsilon", "0.1", "--steps", "3", "--images", "30", "--checks", "0", "--json"];
    let report = json(&attack(&weights, &arguments).arg("--out").arg(&file).output().unwrap());
    let reported = counts(&report["attacks"][0]["exits"]);
    let recounted: Vec<u64> = (0..3).map(|exit| recount(&weights, &file, exit)).collect();
    assert_eq!(reported, recounted);
    let again = attack(&weights, &arguments).arg("--out").arg(&file).output().unwrap();
    assert_failure(&again, 2, &["attacked.safetensors", "exists already"]);
}

#[test]
fn batches_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let arguments = [
        "--attack",
        "pgd",
        "autoattack",
        "--epsilon",
        "0.05",
        "--steps",
        "3",
        "--queries",
        "10",
        "--targets",
        "2",
        "--images",
        "7",
        "--checks",
        "3",
        "--json",
        "--batch-size",
    ];
    let run = |size: &str| {
        let file = folder.path().join(format!("{size}.safetensors"));
        let output = attack(&weights, &arguments).arg(size).arg("--out").arg(&file).output().unwrap();
        (json(&output), fs::read(file).unwrap())
    };
    let whole = run("7");
    assert_eq!(run("1"), whole);
    assert_eq!(run("3"), whole);
}

#[test]
fn shards_merged_in_any_order_give_the_report_of_one_process_and_what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let of = |name: &str| folder.path().join(name);
    let arguments =
        ["--attack", "pgd", "autoattack", "--epsilon", "0.1", "--steps", "3", "--queries", "20", "--images", "22"];
    let run = |journal: &Path, more: &[&str]| {
        let mut command = attack(&weights, &arguments);
        command.args(["--batch-size", "4", "--checks", "4", "--json", "--journal"]).arg(journal).args(more);
        command.output().unwrap()
    };
    let merge = |parts: &[&str], out: &str| {
        neokd().arg("merge").args(parts.iter().map(|part| of(part))).arg("--out").arg(of(out)).output().unwrap()
    };
    let whole = json(&run(&of("whole"), &[]));
    for number in 1..=3 {
        let shard = format!("{number}/3");
        let part = run(&of(&format!("part{number}")), &["--shard", &shard]);
        assert_success(&part);
        assert_eq!(stdout(&part), "");
    }
    assert_success(&merge(&["part3", "part1", "part2"], "merged"));
    // Journals hold times, so the merged one is compared by what is reported of it; nothing is attacked again.
    assert_eq!(json(&run(&of("merged"), &[])), whole);

    assert_failure(&merge(&["part1", "part2", "part3"], "merged"), 2, &["merged", "exists already"]);
    assert_failure(&merge(&["part1", "part3"], "x"), 2, &["without a journal: shard 2/3"]);
    assert_failure(&merge(&["part1", "part2", "part3", "part2"], "x"), 2, &["is shard 2/3", "name each once"]);
    assert_failure(&merge(&["whole"], "x"), 2, &["whole", "needs no merging"]);
    assert_failure(&run(&of("part1"), &[]), 2, &["holds shard \"1/3\" alone", "neokd merge"]);
    assert_failure(&run(&of("part1"), &["--shard", "2/3"]), 2, &["shard", "1/3", "2/3"]);
    assert_failure(&run(&of("y"), &["--shard", "4/3"]), 2, &["4/3", "I from 1 to N"]);
    assert_success(&run(&of("other"), &["--shard", "2/3", "--seed", "5"]));
    assert_failure(&merge(&["part1", "other", "part3"], "x"), 2, &["other", "is not of the evaluation"]);
    // Cut short within its last line, as a killed shard leaves it; its command goes on and merging works.
    let text = fs::read_to_string(of("part2")).unwrap();
    fs::write(of("part2"), &text[..text.len() - 9]).unwrap();
    assert_failure(&merge(&["part1", "part2", "part3"], "x"), 2, &["part2", "shard 2/3 is not finished", "1 results"]);
    assert_success(&run(&of("part2"), &["--shard", "2/3"]));
    assert_success(&merge(&["part1", "part2", "part3"], "again"));
    assert_eq!(json(&run(&of("again"), &[])), whole);
    // Lines that were edited: of another shard, twice and not alike, of no result, a header that claims too much.
    let part1 = fs::read_to_string(of("part1")).unwrap();
    let line = part1.lines().nth(1).unwrap();
    let edits: [(&str, String, &[&str]); 4] = [
        ("foreign", format!("{part1}{}\n", line.replace("\"batch\":0", "\"batch\":1")), &["batch 1"]),
        ("twice", format!("{part1}{}\n", line.replace("\"seconds\":", "\"seconds\":1")), &["another result"]),
        ("bare", part1.clone() + "{\"batch\":0,\"run\":0}\n", &["is damaged"]),
        ("huge", part1.replacen("\"1/3\"", "\"1/3000000000000\"", 1), &["which shard 1/3000000000000 has not"]),
    ];
    for (name, text, says) in edits {
        fs::write(of(name), text).unwrap();
        assert_failure(&merge(&["part2", name, "part3"], "x"), 2, &[&[name], says].concat());
    }
    assert!(!of("x").exists());

    // A result that cannot be is an error, not another number and not a panic.
    let merged = fs::read_to_string(of("merged")).unwrap();
    for (from, to) in [("\"right\":[\"", "\"right\":[\"1"), ("\"confidence\":[", "\"confidence\":[\"\",")] {
        fs::write(of("edited"), merged.replacen(from, to, 1)).unwrap();
        assert_failure(&run(&of("edited"), &[]), 2, &["edited", "batch 0, run 0", "was changed"]);
    }
    fs::create_dir(of("folder")).unwrap();
    assert_failure(&run(&of("folder"), &[]), 2, &["folder", "no regular file"]);
}

#[test]
fn an_interrupted_evaluation_goes_on_with_the_same_bits_and_refuses_another_ones_journal() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let run = |name: &str, journal: &Path, seed: &str| {
        let file = folder.path().join(name);
        let arguments = [
            "--attack",
            "autoattack",
            "fgsm",
            "--objective",
            "max-average",
            "--objective",
            "policy",
            "--policy",
            "confidence:0.5",
            "--epsilon",
            "0.05",
            "--steps",
            "3",
            "--queries",
            "10",
            "--targets",
            "2",
            "--images",
            "7",
            "--batch-size",
            "3",
            "--checks",
            "3",
            "--json",
            "--seed",
            seed,
            "--journal",
        ];
        let output = attack(&weights, &arguments).arg(journal).arg("--out").arg(&file).output().unwrap();
        (output, file)
    };
    let journal = folder.path().join("whole.journal");
    let (output, file) = run("whole.safetensors", &journal, "5");
    let (report, images, lines) = (json(&output), fs::read(file).unwrap(), fs::read_to_string(&journal).unwrap());
    let expected = journal_lines(&journal);
    // A header, four runs on three batches, and two verdicts.
    assert_eq!(expected.len(), 15);
    for kept in [0, 1, 5, 12, 13, 14] {
        let cut: usize = lines.split_inclusive('\n').take(kept).map(str::len).sum();
        let half = lines[cut..].find('\n').unwrap() / 2;
        let path = folder.path().join(format!("{kept}.journal"));
        fs::write(&path, &lines[..cut + half]).unwrap();
        let (output, file) = run(&format!("{kept}.safetensors"), &path, "5");
        assert_eq!(json(&output), report, "{kept}");
        assert_eq!(fs::read(file).unwrap(), images, "{kept}");
        assert_eq!(journal_lines(&path), expected, "{kept}");
        // What was there stays as it was, times included.
        assert!(fs::read_to_string(&path).unwrap().starts_with(&lines[..cut]), "{kept}");
    }
    let (other, file) = run("other.safetensors", &journal, "6");
    assert_failure(&other, 2, &["whole.journal", "belongs to another evaluation", "seed is 5 there and 6 here"]);
    assert!(!file.exists());
    assert_eq!(fs::read_to_string(&journal).unwrap(), lines);
    fs::write(&journal, lines.replace("attack-journal/4", "attack-journal/1")).unwrap();
    let (old, _) = run("old.safetensors", &journal, "5");
    assert_failure(&old, 2, &["whole.journal", "another version", "attack-journal/1", "name another file"]);
    fs::write(&journal, "some notes of mine\n").unwrap();
    let (foreign, _) = run("foreign.safetensors", &journal, "5");
    assert_failure(&foreign, 2, &["whole.journal", "is no journal"]);
}

#[test]
fn fab_reports_how_far_the_nearest_adversarial_of_every_image_is() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, file) = (weights(folder.path()), folder.path().join("attacked.safetensors"));
    let arguments =
        ["--attack", "fab-t", "pgd", "--epsilon", "0.05", "--steps", "5", "--targets", "3", "--images", "12"];
    let command = || {
        let mut command = attack(&weights, &arguments);
        command.args(["--checks", "0", "--batch-size", "5"]);
        command
    };
    let output = command().arg("--out").arg(&file).arg("--json").output().unwrap();
    assert_success(&output);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let runs = report["attacks"].as_array().unwrap();
    assert!(runs.iter().all(|run| run["seconds"].as_f64().unwrap() > 0.0));
    assert!(runs[1]["distances"].is_null());
    let distances = runs[0]["distances"].as_array().unwrap();
    assert_eq!(distances.len(), 3);
    for (exit, of_exit) in distances.iter().enumerate() {
        assert_eq!(of_exit["objective"], format!("single:{exit}"));
        let images: Vec<Option<f64>> = of_exit["images"].as_array().unwrap().iter().map(Value::as_f64).collect();
        let within = images.iter().filter(|distance| distance.is_some_and(|distance| distance <= 0.05)).count();
        // An image is withstood exactly where its nearest adversarial is farther away than epsilon.
        assert_eq!(runs[0]["own"][exit]["count"].as_u64().unwrap() as usize, 12 - within, "exit {exit}");
        let clean = images.iter().filter(|distance| **distance != Some(0.0)).count();
        assert_eq!(of_exit["found"]["n"].as_u64().unwrap() as usize, clean);
        let sizes: Vec<f64> = of_exit["quantiles"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert!(sizes.is_sorted() && sizes.iter().all(|size| *size > 0.0), "{sizes:?}");
    }
    let bytes = fs::read(&file).unwrap();
    assert!(
        bytes.windows(11).any(|name| name == b"distances.0") && !bytes.windows(11).any(|name| name == b"distances.1")
    );
    let text = stdout(&command().output().unwrap());
    for part in ["seconds", "size of the smallest adversarial perturbation", "  single:2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn images_of_another_network_are_shown_to_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let name = format!("transfer-from:{}", weights.display());
    let arguments =
        ["--attack", "pgd", &name, "--epsilon", "0.1", "--steps", "3", "--images", "10", "--checks", "0", "--json"];
    let report = json(&attack(&weights, &arguments).output().unwrap());
    let runs = report["attacks"].as_array().unwrap();
    // From the network itself it is the same attack; its parts are aimed at nobody's exits here.
    assert_eq!(runs[0]["exits"], runs[1]["exits"]);
    assert!(runs[1]["own"].as_array().unwrap().iter().all(Value::is_null));
    let missing = attack(&weights, &["--attack", "transfer-from:nowhere", "--epsilon", "0.1"]).output().unwrap();
    assert_failure(&missing, 6, &["nowhere"]);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    for (arguments, parts) in [
        (&["--attack", "pdg", "--epsilon", "0.1"][..], &["pdg", "fab-t", "transfer-from:WEIGHTS"][..]),
        (&["--attack", "pgd", "--epsilon", "-1"][..], &["epsilon"][..]),
        (&["--attack", "pgd", "--epsilon", "0.1", "--steps", "0"][..], &["pgd", "steps = 0"][..]),
        (&["--attack", "autoattack", "--epsilon", "0.1", "--targets", "0"][..], &["autoattack", "at least 1"][..]),
        (&["--attack", "pgd", "--epsilon", "0.1", "--objective", "policy"][..], &["--policy", "confidence:0.9"][..]),
        (&["--attack", "pgd", "--epsilon", "0.1", "--objective", "single:3"][..], &["single:3", "3 exits"][..]),
    ] {
        assert_failure(&attack(&weights, arguments).output().unwrap(), 2, parts);
    }
}
