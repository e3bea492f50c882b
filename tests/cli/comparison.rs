//! Every loss by its name, and several of them side by side.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::command::{TINY, assert_failure, assert_success, neokd, stdout, train};

fn compare(folder: &Path, methods: &str, more: &[&str]) -> Output {
    let arguments = ["compare", "--device", "cpu", "--seeds", "2", "--methods", methods, "--out"];
    neokd().args(arguments).arg(folder).args(TINY).args(more).output().unwrap()
}

#[test]
fn a_comparison_is_a_table_a_file_and_ordinary_runs_and_is_not_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("comparison");
    // A run that is trained, but not yet scored under every attack of a comparison; its loss has NEO-KD's weight.
    let ard = ["--set", "training.loss.kind=ard", "--set", "training.loss_weight=18.0", "--seed", "1"];
    assert_success(&train(&out.join("ard-1"), &ard));
    let first = compare(&out, "at,ard", &[]);
    assert_success(&first);
    for part in ["[1/4] at, seed 1: training", "[2/4] ard, seed 1: training goes on after step 4", "max-average", "±"]
    {
        assert!(stdout(&first).contains(part), "{part}: {}", stdout(&first));
    }
    let file = out.join("compare.json");
    let written = fs::read(&file).unwrap();
    let result: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!((&result["schema"], &result["n"]), (&"neokd.compare/1".into(), &4.into()));
    for method in result["methods"].as_array().unwrap() {
        let names: Vec<&str> =
            method["measures"].as_array().unwrap().iter().map(|measure| measure["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["clean", "max-average", "average", "own", "transfer"]);
        assert_eq!(method["transfer_matrix"].as_array().unwrap().len(), 3);
        assert_eq!(method["runs"].as_array().unwrap().len(), 2);
    }
    assert_eq!(result["differences"].as_array().unwrap().len(), 5);
    assert!(out.join("at-2/report.json").exists() && out.join("at-2/weights.safetensors").exists());

    let second = compare(&out, "at,ard", &[]);
    assert_success(&second);
    assert_eq!(stdout(&second).matches("done already").count(), 4);
    assert_eq!(fs::read(&file).unwrap(), written);
    assert_shown(&result, &out, folder.path());

    let other = compare(&out, "at,ard", &["--set", "training.epochs=1"]);
    assert_failure(&other, 5, &["at-1", "another configuration", "--out"]);
}

/// Every number of a comparison is in the report on its folder; a run that does not belong to it is named.
fn assert_shown(comparison: &Value, runs: &Path, folder: &Path) {
    let (page, markdown) = (folder.join("report.html"), folder.join("report.md"));
    let report = |more: Option<&Path>| {
        let mut command = neokd();
        command.arg("report").arg(runs).args(more).arg("--out").arg(&page).arg("--markdown").arg(&markdown);
        assert_success(&command.output().unwrap());
        [&page, &markdown].map(|file| fs::read_to_string(file).unwrap())
    };
    let [page, markdown] = report(None);
    let percent = |value: &Value| format!("{:.2}", 100.0 * value.as_f64().unwrap());
    for method in comparison["methods"].as_array().unwrap() {
        let (name, runs) = (method["method"].as_str().unwrap(), method["runs"].as_array().unwrap().len());
        for measure in method["measures"].as_array().unwrap() {
            let spreads = measure["exits"].as_array().unwrap().iter().chain([&measure["mean"]]);
            let spreads: Vec<[String; 2]> =
                spreads.map(|each| [percent(&each["mean"]), percent(&each["deviation"])]).collect();
            let cells: String =
                spreads.iter().map(|[mean, spread]| format!("<td>{mean}<small>±{spread}</small></td>")).collect();
            assert!(page.contains(&format!("{name}</td><td>{runs}</td>{cells}</tr>")), "{cells}");
            let cells: Vec<String> = spreads.iter().map(|[mean, spread]| format!("{mean} ±{spread}")).collect();
            let line = format!("| {} | {name} | {runs} | {} |", measure["name"].as_str().unwrap(), cells.join(" | "));
            assert!(markdown.contains(&line), "{line}: {markdown}");
        }
        for (exit, row) in method["transfer_matrix"].as_array().unwrap().iter().enumerate() {
            let row = row.as_array().unwrap();
            let cells: Vec<String> = row.iter().map(percent).collect();
            assert!(markdown.contains(&format!("| {name} | exit {exit} | {} |", cells.join(" | "))), "{cells:?}");
            for (other, share) in cells.iter().enumerate() {
                let hint = format!("attacked exit {exit}, answering exit {other}: {share} %");
                assert!(page.contains(&hint), "{hint}");
            }
        }
    }
    for difference in comparison["differences"].as_array().unwrap() {
        let of = |key: &str| difference[key].as_str().unwrap();
        let larger = if difference["larger_than_spread"].as_bool().unwrap() { "yes" } else { "no" };
        let row = format!(
            "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{larger}</td></tr>",
            of("measure"),
            of("higher"),
            of("lower"),
            percent(&difference["difference"]),
            percent(&difference["spread"])
        );
        assert!(page.contains(&row), "{row}");
    }
    let beside = folder.join("beside");
    assert_success(&train(&beside, &[]));
    let [page, markdown] = report(Some(&beside));
    for text in [page, markdown] {
        assert!(text.contains("Not in this table") && text.contains("or unfinished: beside."));
    }
}

#[test]
fn a_method_that_is_not_there_is_named_beside_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    assert_failure(&compare(folder.path(), "at,adr", &[]), 2, &["adr", "skd, ard, lw, neo-kd"]);
}

#[test]
fn every_loss_can_be_named_and_its_terms_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, terms) in [
        ("adversarial-training", &["ce_clean", "ce_adversarial"][..]),
        ("skd", &["ce_clean", "ce_adversarial", "skd_clean", "skd_adversarial"]),
        ("lw", &["ce_clean", "ce_adversarial", "head_weights"]),
        ("trades", &["ce_clean", "kl"]),
        ("mart", &["bce_adversarial", "kl_misclassified"]),
        ("pgd-te", &["ce_adversarial", "ensemble"]),
        ("trades-te", &["ce_clean", "kl", "ensemble"]),
    ] {
        let out = folder.path().join(kind);
        assert_success(&train(&out, &["--set", &format!("training.loss.kind={kind}")]));
        let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let step: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        let logged = step["loss"].as_array().unwrap();
        let names: Vec<&str> = logged.iter().map(|term| term["name"].as_str().unwrap()).collect();
        assert_eq!(names, terms);
        assert!(logged.iter().all(|term| term["exits"].as_array().unwrap().len() == 3));
    }
}

#[test]
fn options_that_do_not_go_together_are_refused_before_anything_starts() {
    for (set, parts) in [
        ("validation.patience=2", &["validation.patience = 2", "keep_best"][..]),
        ("training.label_smoothing=1.0", &["training.label_smoothing = 1"]),
        ("training.ema.decay=2.0", &["training.ema.decay = 2"]),
        ("training.awp.gamma=0.0", &["training.awp.gamma = 0"]),
        ("training.loss.temperature=-1.0", &["training.loss.temperature = -1"]),
        ("training.loss.partition.redrawn=weekly", &["weekly", "visit"]),
        ("validation.probe.steps=0", &["validation.probe.steps = 0", "never"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        assert_failure(&train(&folder.path().join("run"), &["--set", set]), 2, parts);
    }
}
