//! `neokd evaluate`: everything that one evaluation finds, counted again from its adversarial images by another command.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::attack::{journal_lines, weights, without_seconds};
use crate::command::{assert_failure, assert_success, neokd, stdout, train};
use crate::schema;

fn evaluate(source: &Path, more: &[&str]) -> std::process::Output {
    // A run directory has a configuration of its own, a file outside one needs to be told.
    let arguments = ["evaluate", "--device", "cpu", "--json", "--steps", "2", "--epsilon", "0.1", "--config", "mnist"];
    neokd().args(arguments).arg(source).args(more).output().unwrap()
}

fn json(output: &std::process::Output) -> Value {
    assert_success(output);
    serde_json::from_str(&stdout(output)).unwrap()
}

#[test]
fn weights_alone_borrow_no_training_and_another_evaluation_leaves_the_images_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let plain = neokd().args(["evaluate", "--images", "2", "--steps", "1"]).arg(&weights).output().unwrap();
    assert_failure(&plain, 2, &["weights alone", "--config"]);
    let report = json(&evaluate(&weights, &["--images", "2"]));
    assert!(report["training"].is_null());
    assert!(report["config"]["training"].is_null() && report["config"]["validation"].is_null());
    assert_eq!(report["config"]["threat"]["epsilon"], 0.1);

    let run = folder.path().join("run");
    assert_success(&train(&run, &[]));
    assert!(json(&evaluate(&run, &["--images", "2"]))["origin"].is_null());
    let examples = || fs::read(run.join("examples.safetensors")).unwrap();
    let before = examples();
    let other = run.join("report-0.1.json");
    json(&evaluate(&run, &["--images", "2", "--out", other.to_str().unwrap()]));
    assert_eq!(examples(), before);
    json(&evaluate(&run, &["--images", "2", "--out", run.join("report.json").to_str().unwrap()]));
    assert_ne!(examples(), before);
}

#[test]
fn weights_say_where_they_come_from_and_every_report_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let (run, report) = (folder.path().join("run"), folder.path().join("attack.json"));
    assert_success(&train(&run, &["--seed", "7", "--set", "training.loss={ kind = \"ard\" }"]));
    let moved = folder.path().join("moved.safetensors");
    fs::copy(run.join("weights.safetensors"), &moved).unwrap();
    let attack = |weights: &Path, more: &[&str]| {
        let mut command = neokd();
        command.args([
            "attack",
            "--attack",
            "fgsm",
            "--epsilon",
            "0.1",
            "--images",
            "4",
            "--data",
            "mnist",
            "--weights",
        ]);
        command.arg(weights).args(more).output().unwrap()
    };
    let by = "trained by ard on mnist, seed 7, 4 steps";
    for weights in [&moved, &run.join("checkpoints/last.safetensors"), &run.join("weights.safetensors")] {
        let plain = attack(weights, &[]);
        assert_success(&plain);
        assert!(stdout(&plain).contains(by), "{}", stdout(&plain));
        let found = json(&evaluate(weights, &["--images", "2"]));
        assert_eq!(found["origin"]["how"], "trained");
        assert_eq!(found["origin"]["config"]["training"]["loss"]["kind"], "ard");
        assert_eq!(found["weights"][0], weights.to_str().unwrap());
    }
    let digest = json(&attack(&moved, &["--json"]))["origin"]["training_digest"].as_str().map(str::len);
    assert_eq!(digest, Some(64));

    // What `neokd attack` prints is a report like any other, of converted weights too.
    let converted = attack(&weights(folder.path()), &["--json"]);
    assert_eq!(json(&converted)["origin"]["how"], "converted");
    for (output, says) in [(converted, "converted from weights.safetensors"), (attack(&moved, &["--json"]), by)] {
        fs::write(&report, stdout(&output)).unwrap();
        let (page, text) = (folder.path().join("page.html"), folder.path().join("page.md"));
        let mut command = neokd();
        command.arg("report").arg(&report).arg("--out").arg(&page).arg("--markdown").arg(&text);
        assert_success(&command.output().unwrap());
        for file in [page, text] {
            assert!(fs::read_to_string(&file).unwrap().contains(says), "{says}: {}", file.display());
            fs::remove_file(file).unwrap();
        }
    }
}

fn counts(shares: &Value) -> Vec<u64> {
    shares.as_array().unwrap().iter().map(|share| share["count"].as_u64().unwrap()).collect()
}

/// Probabilities of every exit, image by image, from `neokd logits` and a softmax of this test's own.
fn answers(weights: &Path, data: &Path, images: usize, out: &Path) -> Vec<Vec<Vec<f64>>> {
    let _ = fs::remove_file(out);
    let mut logits = neokd();
    logits.args(["logits", "--device", "cpu", "--images", &images.to_string(), "--weights"]).arg(weights);
    assert_success(&logits.arg("--data").arg(data).arg("--out").arg(out).output().unwrap());
    let bytes = fs::read(out).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let exit = |exit: usize| {
        let tensor = file.tensor(&format!("logits.{exit}")).unwrap();
        let values: Vec<f64> =
            tensor.data().chunks(4).map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect();
        let softmax = |row: &[f64]| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|value| (value - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        };
        values.chunks(tensor.shape()[1]).map(softmax).collect()
    };
    (0..3).map(exit).collect()
}

fn largest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

/// Expected calibration error over 15 bins, straight from its definition.
fn calibration_error(exit: &[Vec<f64>], labels: &[usize]) -> f64 {
    let gap = |bin: usize| {
        let inside = |sure: f64| sure > bin as f64 / 15.0 && sure <= (bin + 1) as f64 / 15.0;
        let images = exit.iter().zip(labels).map(|(row, label)| (row[largest(row)], largest(row) == *label));
        let members: Vec<(f64, bool)> = images.filter(|(sure, _)| inside(*sure)).collect();
        let right = members.iter().filter(|(_, right)| *right).count() as f64;
        (right - members.iter().map(|(sure, _)| sure).sum::<f64>()).abs()
    };
    (0..15).map(gap).sum::<f64>() / labels.len() as f64
}

/// Images that thresholds on the confidence answer correctly, and how many leave at each exit.
fn leave(exits: &[Vec<Vec<f64>>], labels: &[usize], thresholds: &Value) -> (Vec<bool>, Vec<u64>) {
    let mut left = vec![0; exits.len()];
    let answer = |(image, label): (usize, &usize)| {
        let sure = |exit: &usize| {
            let row = &exits[*exit][image];
            thresholds[*exit].as_f64().is_some_and(|threshold| row[largest(row)] as f32 >= threshold as f32)
        };
        let exit = (0..exits.len() - 1).find(sure).unwrap_or(exits.len() - 1);
        left[exit] += 1;
        largest(&exits[exit][image]) == *label
    };
    let right = labels.iter().enumerate().map(answer).collect();
    (right, left)
}

#[test]
fn every_number_is_counted_again_from_the_saved_images_by_another_command() {
    const IMAGES: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let (weights, file) = (weights(folder.path()), folder.path().join("attacked.safetensors"));
    let save = ["--broad", "--images", "30", "--save-adversarial", file.to_str().unwrap()];
    let report = json(&evaluate(&weights, &save));
    assert_failure(&evaluate(&weights, &save), 2, &["attacked.safetensors", "--save-adversarial"]);

    let bytes = fs::read(&file).unwrap();
    let saved = SafeTensors::deserialize(&bytes).unwrap();
    let labels: Vec<usize> = (saved.tensor("labels").unwrap().data().chunks(8))
        .map(|word| i64::from_le_bytes(word.try_into().unwrap()) as usize)
        .collect();
    let (alone, out) = (folder.path().join("alone.safetensors"), folder.path().join("logits.safetensors"));
    let clean = answers(&weights, Path::new("mnist"), IMAGES, &out);
    let deployed = &report["policies"][report["deployed"].as_u64().unwrap() as usize];
    let thresholds = &deployed["policy"]["rule"]["confidence"];
    let known: Vec<bool> =
        (0..IMAGES).map(|image| clean.iter().all(|exit| largest(&exit[image]) == labels[image])).collect();

    let recount = |found: &[Vec<Vec<f64>>], shares: &Value, calibration: &Value, policies: &Value| {
        let right =
            |exit: &Vec<Vec<f64>>| exit.iter().zip(&labels).filter(|(row, label)| largest(row) == **label).count();
        let again: Vec<u64> = found.iter().map(|exit| right(exit) as u64).collect();
        assert_eq!(counts(shares), again);
        for (exit, calibration) in found.iter().zip(calibration.as_array().unwrap()) {
            let error = calibration_error(exit, &labels);
            assert!((calibration["error"].as_f64().unwrap() - error).abs() < 1e-6, "{calibration} {error}");
        }
        let policy = policies.as_array().unwrap().iter().find(|found| found["policy"] == deployed["policy"]).unwrap();
        let (right, left) = leave(found, &labels, thresholds);
        let correct = right.iter().filter(|right| **right).count() as u64;
        assert_eq!(policy["accuracy"]["count"], correct);
        assert_eq!(policy["left"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>(), left);
        let spent: f64 = (left.iter().zip(report["costs"].as_array().unwrap()))
            .map(|(images, cost)| *images as f64 * cost["multiply_adds"].as_f64().unwrap())
            .sum();
        assert!((policy["multiply_adds"].as_f64().unwrap() - spent / IMAGES as f64).abs() < 1e-6);
        right
    };
    let mut robust = recount(&clean, &report["clean"]["exits"], &report["calibration"], &report["policies"]);
    let attacks = report["attacks"].as_array().unwrap();
    assert_eq!(attacks.len(), 7);
    for (run, attack) in attacks.iter().enumerate() {
        let tensors: HashMap<&str, TensorView<'_>> = HashMap::from([
            ("images", saved.tensor(&format!("images.{run}")).unwrap()),
            ("labels", saved.tensor("labels").unwrap()),
        ]);
        fs::write(&alone, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let found = answers(&weights, &alone, 0, &out);
        let right = recount(&found, &attack["exits"], &attack["calibration"], &attack["policies"]);
        robust.iter_mut().zip(right).for_each(|(robust, right)| *robust &= right);
        let fooled = found.iter().map(|exit| {
            let wrong = (0..IMAGES).filter(|&image| known[image] && largest(&exit[image]) != labels[image]);
            wrong.count() as u64
        });
        assert_eq!(counts(&attack["fooled"]), fooled.collect::<Vec<u64>>());
        let written = saved.tensor(&format!("right.{run}")).unwrap();
        assert_eq!(written.dtype(), Dtype::U8);
        let right =
            |exit: usize| written.data().iter().skip(exit).step_by(3).map(|right| u64::from(*right)).sum::<u64>();
        assert_eq!(counts(&attack["exits"]), (0..3).map(right).collect::<Vec<u64>>());
    }
    assert_eq!(deployed["robust"]["count"], robust.iter().filter(|robust| **robust).count() as u64);
}

#[test]
fn a_broad_evaluation_attacks_the_deployed_system_and_its_cost() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&evaluate(&weights(folder.path()), &["--broad", "--images", "10"]));
    assert_eq!(schema::check(&report), [""; 0]);
    let attacks = report["attacks"].as_array().unwrap();
    let objectives: Vec<&str> = attacks.iter().map(|attack| attack["objective"].as_str().unwrap()).collect();
    assert_eq!(objectives, ["average", "max-average", "single:0", "single:1", "single:2", "policy", "slow"]);
    // Budgets without and with ensembling, deployed at the uniform allocation without.
    let policies = report["policies"].as_array().unwrap();
    let together = policies.iter().filter(|policy| policy["policy"]["ensemble"] == true).count();
    assert_eq!((policies.len(), together, &report["deployed"]), (78, 39, &Value::from(19)));
    let deployed = &policies[19];
    for attack in attacks {
        let found = &attack["policies"][19];
        assert_eq!(found["policy"], deployed["policy"]);
        assert!(deployed["robust"]["count"].as_u64() <= found["accuracy"]["count"].as_u64());
    }
    let cost = |policy: &Value| policy["multiply_adds"].as_f64().unwrap();
    assert!(cost(&attacks[6]["policies"][19]) >= cost(deployed), "a slow-down saves nothing");
    assert!(attacks[6]["policies"][19]["efficacy"].as_f64() <= deployed["efficacy"].as_f64());
}

#[test]
fn a_full_evaluation_goes_on_from_half_a_journal_and_its_report_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_success(&train(&run, &["--set", "evaluation.batch_size=2"]));
    let (out, journal) = (run.join("report.json"), run.join("autoattack.jsonl"));
    let full = |seed: &str| {
        evaluate(&run, &["--full", "--images", "4", "--checks", "2", "--seed", seed, "--out", out.to_str().unwrap()])
    };
    let timeless = |mut report: Value| {
        without_seconds(&mut report);
        report
    };
    let whole = json(&full("1"));
    assert_eq!(schema::check(&whole), [""; 0]);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&out).unwrap()).unwrap(), whole);
    let lines = fs::read_to_string(&journal).unwrap();
    // A header, nine runs on two batches, and the verdicts of two objectives, three exits and the policy.
    let found = journal_lines(&journal);
    assert_eq!(found.len(), 1 + 9 * 2 + 6);
    let cut: usize = lines.split_inclusive('\n').take(4).map(str::len).sum();
    fs::write(&journal, &lines[..cut + 20]).unwrap();
    assert_eq!(timeless(json(&full("1"))), timeless(whole.clone()));
    assert_eq!(journal_lines(&journal), found);
    assert_failure(&full("2"), 2, &["autoattack.jsonl", "seed is 1 there and 2 here"]);
    fs::write(&journal, "some notes of mine\n").unwrap();
    assert_failure(&full("1"), 2, &["autoattack.jsonl", "is no journal"]);
    let images = folder.path().join("images.safetensors");
    let saving = ["--full", "--images", "4", "--save-adversarial", images.to_str().unwrap()];
    assert_failure(&evaluate(&run, &saving), 2, &["is no journal"]);
    assert!(!images.exists(), "a wrong journal is refused before anything is attacked");
    let kept = timeless(serde_json::from_slice(&fs::read(&out).unwrap()).unwrap());
    assert_eq!(kept, timeless(whole.clone()), "a refused evaluation leaves the report as it was");

    let added: Vec<&Value> = whole["attacks"].as_array().unwrap().iter().skip(7).collect();
    assert_eq!(added.len(), 2);
    for (attack, objective) in added.iter().zip(["average", "max-average"]) {
        assert_eq!((&attack["search"], &attack["objective"]), (&"autoattack".into(), &objective.into()));
        assert!(attack["verdict"]["level"].is_string() && attack["members"].as_array().unwrap().len() == 4);
        assert!(attack["any_exit"]["count"].as_u64() <= attack["exits"][0]["count"].as_u64());
        assert!(
            objective == "average"
                || attack["policies"][0]["robust"]["count"].as_u64()
                    <= attack["policies"][0]["accuracy"]["count"].as_u64()
        );
    }
    let page = folder.path().join("page.html");
    assert_success(&neokd().arg("report").arg(&run).arg("--out").arg(&page).output().unwrap());
    let page = fs::read_to_string(page).unwrap();
    for part in [
        "under autoattack max-average",
        "Each exit under the attack on it alone",
        "Accuracy for a budget",
        "exits together",
        "Where images leave",
        "Calibration of each exit",
        "Transfer between exits",
        "Efficacy is the area",
        "slowdown slow",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn an_evaluation_in_shards_is_the_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let of = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        let journal = of(name);
        let fixed = ["--images", "10", "--batch-size", "3", "--broad", "--journal", journal.to_str().unwrap()];
        evaluate(&weights, &[&fixed[..], more].concat())
    };
    let mut whole = json(&run("whole", &[]));
    for (name, shard) in [("one", "1/2"), ("two", "2/2")] {
        assert_success(&run(name, &["--shard", shard]));
    }
    let merged = neokd().arg("merge").arg(of("two")).arg(of("one")).arg("--out").arg(of("merged")).output().unwrap();
    assert_success(&merged);
    let mut found = json(&run("merged", &[]));
    [&mut whole, &mut found].into_iter().for_each(without_seconds);
    assert_eq!(found, whole);
    assert_failure(&evaluate(&weights, &["--shard", "1/2"]), 2, &["--journal"]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    assert_failure(&evaluate(&weights, &["--objective", "policy"]), 2, &["--policy", "--broad"]);
    assert_failure(&evaluate(&weights, &["--attack", "pdg"]), 2, &["pdg", "autoattack"]);
    assert_failure(&evaluate(&weights, &["--ensemble"]), 2, &["--policy"]);
}
