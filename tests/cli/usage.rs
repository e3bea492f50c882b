//! What works.

use std::fs;

use serde_json::Value;

use crate::command::{TINY, assert_failure, assert_success, neokd, run, stderr, stdout, train};

#[test]
fn a_run_directory_holds_everything_and_can_be_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let trained = train(&out, &[]);
    assert_success(&trained);
    for part in ["exit", "clean", "average", "max-average", "95 %", "4 mnist test images", "report.json"] {
        assert!(stdout(&trained).contains(part), "{part}: {}", stdout(&trained));
    }
    assert_eq!(stderr(&trained), "", "no progress where standard error is no terminal");

    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["schema"], "neokd.report/1");
    assert_eq!(report["n"], 4);
    assert_eq!(report["attacks"].as_array().unwrap().len(), 2);
    for attack in report["attacks"].as_array().unwrap() {
        for exit in attack["exits"].as_array().unwrap() {
            let [low, value, high] = ["low", "value", "high"].map(|key| exit[key].as_f64().unwrap());
            assert!(low <= value && value <= high && exit["n"] == 4);
        }
    }
    assert_eq!(report["data"]["provenance"]["trust"], "embedded");
    assert_eq!(report["training"]["complete"], true);
    // Four steps of four images, each one attack step, a clean and an adversarial pass.
    assert_eq!(report["training"]["progress"]["passes"]["backward"], 4 * 4 * 3);

    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| events.iter().filter(|record| record["event"] == event).count();
    assert_eq!((count("step"), count("epoch"), count("validation")), (4, 2, 1));
    let names: Vec<&Value> = events[0]["loss"].as_array().unwrap().iter().map(|term| &term["name"]).collect();
    assert_eq!(names, ["ce_clean", "ce_adversarial", "nkd", "eokd"]);

    let scored = |source: &str, more: &[&str]| {
        let arguments = ["evaluate", source, "--images", "4", "--steps", "1", "--step-size", "0.03", "--json"];
        let output = neokd().args(arguments).args(more).output().unwrap();
        assert_success(&output);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    let run = scored(out.to_str().unwrap(), &[]);
    let weights = scored(out.join("weights.safetensors").to_str().unwrap(), &["--epsilon", "0.3"]);
    assert_eq!(run["clean"], weights["clean"]);
    assert_eq!(run["attacks"][1]["exits"], weights["attacks"][1]["exits"]);
    let single = scored(out.to_str().unwrap(), &["--objective", "single:2", "--epsilon", "8/255", "--norm", "l2"]);
    assert_eq!(single["attacks"][0]["objective"], "single:2");
    assert_eq!(single["attacks"][0]["norm"], "l2");
    assert!((single["attacks"][0]["epsilon"].as_f64().unwrap() - 8.0 / 255.0).abs() < 1e-12);
}

#[test]
fn the_resolved_configuration_of_a_run_is_a_configuration_for_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    assert_success(&train(&first, &["--seed", "5"]));
    let config = first.join("config.toml");
    let again = neokd().args(["train", "--config"]).arg(&config).arg("--out").arg(&second).output().unwrap();
    assert_success(&again);
    for file in ["metrics.jsonl", "weights.safetensors", "config.toml"] {
        assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(second.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn a_configuration_of_ones_own_begins_with_a_copy_or_says_only_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| folder.path().join(name);
    let resolved = |name: &str| {
        let shown = neokd().args(["config", "show", "--resolved"]).arg(name).output().unwrap();
        assert_success(&shown);
        stdout(&shown)
    };
    let init = || neokd().args(["init", "mnist", "--out"]).arg(of("copy.toml")).output().unwrap();
    assert_success(&init());
    assert_failure(&init(), 2, &["copy.toml", "exists already"]);
    assert!(fs::read_to_string(of("copy.toml")).unwrap().contains("# "), "comments come along");
    assert_eq!(resolved(of("copy.toml").to_str().unwrap()), resolved("mnist"));

    let write = |name: &str, text: &str| fs::write(of(name), text).unwrap();
    write("mine.toml", "extends = \"mnist-quick\"\n[training]\nepochs = 7\n[training.loss]\nkind = \"ard\"\n");
    write("further.toml", "extends = \"mine.toml\"\nseed = 5\n");
    let further: toml::Table = resolved(of("further.toml").to_str().unwrap()).parse().unwrap();
    let quick: toml::Table = resolved("mnist-quick").parse().unwrap();
    assert_eq!((&further["seed"], &further["training"]["epochs"]), (&5.into(), &7.into()));
    assert_eq!(further["training"]["loss"]["kind"], "ard".into());
    assert_eq!(further["training"]["schedule"], quick["training"]["schedule"]);
    assert_eq!(further["threat"], quick["threat"]);

    let load = |name: &str| neokd().args(["config", "show"]).arg(of(name)).output().unwrap();
    write("mine.toml", "extends = \"further.toml\"\n");
    assert_failure(&load("further.toml"), 2, &["leads back to itself"]);
    write("mine.toml", "extends = \"mnits\"\n");
    assert_failure(&load("mine.toml"), 2, &["mine.toml", "extends", "did you mean mnist"]);
    write("mine.toml", "extends = 3\n");
    assert_failure(&load("mine.toml"), 2, &["mine.toml", "extends = 3"]);
}

#[test]
fn costs_and_tables_are_had_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_success(&train(&out, &[]));
    let cost = |model: &str| stdout(&neokd().args(["cost", "--model", model]).output().unwrap());
    assert!(cost("mnist").contains("1039786"), "{}", cost("mnist"));
    assert_eq!(cost("mnist"), cost(out.to_str().unwrap()));
    let tables = neokd().arg("report").arg(&out).output().unwrap();
    assert_success(&tables);
    assert!(stdout(&tables).contains("| exit |"), "{}", stdout(&tables));
}

#[test]
fn resuming_a_finished_run_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_success(&train(&out, &[]));
    let read = || (fs::read(out.join("weights.safetensors")).unwrap(), fs::read(out.join("metrics.jsonl")).unwrap());
    let before = read();
    assert_success(&neokd().args(["train", "--resume"]).arg(&out).output().unwrap());
    assert_eq!(before, read());
}

#[test]
fn a_network_trains_on_a_folder_of_images_per_class() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("shapes");
    for (part, count) in [("train", 40), ("val", 8), ("test", 8)] {
        for (class, level) in [("dark", 30), ("light", 200)] {
            let place = tree.join(part).join(class);
            fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let pixels = vec![level + number as u8; 32 * 28];
                image::save_buffer(place.join(format!("{number}.png")), &pixels, 32, 28, image::ColorType::L8).unwrap();
            }
        }
    }
    let out = folder.path().join("run");
    let path = format!("data.path={:?}", tree.display().to_string());
    let library = folder.path().join("library");
    let library = ["--data-dir", library.to_str().unwrap()];
    let data = ["--set", &path, "--set", "data.name=shapes"].into_iter().chain(library);
    let without_classes: Vec<&str> = data.collect();
    let arguments = [&without_classes[..], &["--set", "model.classes=2"]].concat();
    assert_success(&train(&out, &arguments));
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["data"]["provenance"]["trust"], "unverified");
    assert_failure(&train(&folder.path().join("other"), &without_classes), 2, &["10 classes", "2 classes"]);
}

#[test]
fn training_on_two_devices_names_both_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    // With one thread to compute on, two parts of a batch still do not wait for each other.
    for threads in ["1", "2"] {
        let path = folder.path().join(threads);
        let mut command = neokd();
        command.args(["train", "--devices", "cpu,cpu", "--out"]).arg(&path).args(TINY);
        assert_success(&command.env("RAYON_NUM_THREADS", threads).output().unwrap());
        let report: Value = serde_json::from_slice(&fs::read(path.join("report.json")).unwrap()).unwrap();
        assert_eq!(report["device"], "cpu (flex) + cpu (flex)");
    }
    assert_failure(&run(&["train", "--devices", "cpu,tpu"]), 2, &["tpu", "none of auto, cpu"]);
    assert_failure(&run(&["train", "--devices", "cpu,cpu", "--device", "cpu"]), 2, &["--devices", "--device"]);
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let plan = train(&out, &["--dry-run", "--json"]);
    assert_success(&plan);
    assert!(!out.exists());
    let plan: Value = serde_json::from_str(&stdout(&plan)).unwrap();
    assert_eq!((&plan["steps"], &plan["parameters"]), (&4.into(), &836_846.into()));
    assert_eq!(plan["passes_per_image"]["backward"], 3);
    assert!(plan["estimated_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let help = stdout(&run(&["--help"]));
    for part in ["train", "evaluate", "smoke", "devices", "data", "config", "completions", "130  interrupted"] {
        assert!(help.contains(part), "{part}");
    }
    assert!(stdout(&run(&["completions", "bash"])).contains("_neokd"));
}

#[test]
fn devices_data_and_configurations_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(stdout(&run(&["devices"])).contains("flex"));
    let listed = neokd().args(["data", "list", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert_success(&listed);
    assert!(stdout(&listed).contains("mnist") && stdout(&listed).contains("CC-BY-SA-3.0"));
    let verified = neokd().args(["data", "verify", "mnist", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert!(stdout(&verified).contains("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"));
    assert!(stdout(&run(&["config", "list"])).contains("mnist-quick"));
    assert!(stdout(&run(&["config", "show", "mnist"])).contains("[code]"));
    for name in [
        "mnist-quick",
        "mnist-half-hour",
        "mnist",
        "cifar10",
        "cifar100-quick",
        "cifar100",
        "tiny-imagenet",
        "imagenet",
    ] {
        assert_success(&run(&["config", "show", name, "--resolved"]));
    }
    let changed = stdout(&run(&["config", "show", "mnist", "--set", "training.loss.kind=adversarial-training"]));
    assert!(changed.contains("adversarial-training") && !changed.contains("alpha"), "{changed}");
}

#[test]
fn the_smoke_test_passes_on_this_machine() {
    let output = run(&["smoke", "--device", "cpu"]);
    assert_success(&output);
    assert!(stdout(&output).contains("all stages behaved"), "{}", stdout(&output));
}
