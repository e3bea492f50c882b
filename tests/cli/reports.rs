//! `neokd report` and `neokd runs`: what the pages hold, and what becomes of bad input.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::{Value, json};

use crate::command::{assert_failure, assert_success, neokd, run, stdout, train};

/// A finished tiny run, made once.
fn finished() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        assert_success(&train(&folder.path().join("tiny"), &[]));
        folder
    });
    Box::leak(folder.path().join("tiny").into_boxed_path())
}

/// A copy of the tiny run without its checkpoint, to be spoiled.
fn copy(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(finished()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn change(run: &Path, change: impl FnOnce(&mut Value)) {
    let path = run.join("report.json");
    let mut report = read(&path);
    change(&mut report);
    fs::write(&path, report.to_string()).unwrap();
}

/// The page about some runs.
fn page(runs: &[&Path], out: &Path) -> String {
    let output = neokd().arg("report").args(runs).arg("--out").arg(out).output().unwrap();
    assert_success(&output);
    fs::read_to_string(out).unwrap()
}

/// Every element is closed, in order, and nothing is fetched from anywhere.
fn assert_sound(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("unfinished tag <{tag}"));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order");
        } else if !tag.ends_with('/') && !["!doctype", "meta", "img", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "left open");
    for word in ["http:", "https:", "<script", "<link", "url(", "@import", "NaN", "inf\""] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("src=\"").count(), page.matches("src=\"data:image/png;base64,").count());
}

/// `97.40`, `[97.10, 97.70]` of every share in a report.
fn shares(value: &Value, found: &mut Vec<(String, String)>) {
    if let Some(share) = value.get("low") {
        let percent = |value: &Value| format!("{:.2}", 100.0 * value.as_f64().unwrap());
        let ends = format!("[{}, {}]", percent(share), percent(&value["high"]));
        found.push((percent(&value["value"]), ends));
    } else if let Some(items) = value.as_array() {
        items.iter().for_each(|item| shares(item, found));
    } else if let Some(object) = value.as_object() {
        // How attacks carry over is shown as matrices, without intervals.
        let shown = object.iter().filter(|(key, _)| !["fooled", "transfer"].contains(&key.as_str()));
        shown.for_each(|(_, item)| shares(item, found));
    }
}

#[test]
fn a_run_becomes_one_page_with_every_number_of_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let whole = page(&[finished()], &folder.path().join("report.html"));
    assert_sound(&whole);
    let mut expected = Vec::new();
    let report = read(&finished().join("report.json"));
    shares(&report, &mut expected);
    // Clean and under two attacks, each exit alone under max-average, all exits under both, and the worst case.
    assert_eq!(expected.len(), 3 + 2 * 3 + 3 + 2 + 7);
    for (value, ends) in &expected {
        assert!(whole.contains(&format!("<td>{value}<small>{ends}</small></td>")), "{value} {ends}");
    }
    for part in ["prefers-color-scheme: dark", "Accuracy of each exit", "Loss terms", "Validation, attacked", "eokd"] {
        assert!(whole.contains(part), "{part}");
    }
    // Four images, each clean, magnified difference and attacked.
    assert_eq!(whole.matches("<img ").count(), 12);
    assert!(whole.contains("magnified 1.7 times"));

    let files = ["report.md", "report.csv", "charts"].map(|name| folder.path().join(name));
    let mut command = neokd();
    command.arg("report").arg(finished()).arg("--markdown").arg(&files[0]).arg("--csv").arg(&files[1]);
    assert_success(&command.arg("--charts").arg(&files[2]).output().unwrap());
    let [markdown, table] = [&files[0], &files[1]].map(|file| fs::read_to_string(file).unwrap());
    assert!(expected.iter().all(|(value, ends)| markdown.contains(&format!("{value} {ends}"))), "{markdown}");
    // A comma inside quotes parts no fields.
    let fields = |line: &str| -> Vec<String> {
        let parts = line.split('"').enumerate();
        let masked = parts.map(|(at, part)| if at % 2 == 1 { part.replace(',', ";") } else { part.to_string() });
        masked.collect::<String>().split(',').map(str::to_string).collect()
    };
    let rows: Vec<Vec<String>> = table.lines().map(fields).collect();
    assert!(rows.len() == 1 + expected.len() && rows.iter().all(|row| row.len() == 18), "{table}");
    let value: f64 = rows[4][15].parse().unwrap();
    assert_eq!(Some(value), report["attacks"][0]["exits"][0]["value"].as_f64());
    for name in ["exits", "loss", "validation-clean", "validation-robust"] {
        let chart = fs::read_to_string(files[2].join(format!("{name}.svg"))).unwrap();
        assert!(
            chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>") && chart.contains("<style>"),
            "{name}"
        );
    }
}

/// Number and interval of every figure with an interval: `value`, `[low, high]`, in per cent.
fn intervals(text: &str, opening: &str) -> Vec<(String, String)> {
    let mut parts = text.split(opening);
    let mut before = parts.next().unwrap();
    let mut found = Vec::new();
    for part in parts {
        let value = before.rsplit(['>', ' ', '|']).next().unwrap();
        if let Some((ends, _)) = part.split_once(']').filter(|_| value.parse::<f64>().is_ok()) {
            found.push((value.to_string(), format!("[{ends}]")));
        }
        before = part;
    }
    found
}

#[test]
fn no_number_with_an_interval_is_anywhere_but_in_the_json() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("broad.json");
    let scored = ["evaluate", "--device", "cpu", "--broad", "--images", "4", "--steps", "1", "--out"];
    assert_success(&neokd().args(scored).arg(&report).arg(finished()).output().unwrap());
    let [page, markdown, table] = ["page.html", "tables.md", "table.csv"].map(|name| folder.path().join(name));
    let mut command = neokd();
    command
        .arg("report")
        .arg(&report)
        .arg("--out")
        .arg(&page)
        .arg("--markdown")
        .arg(&markdown)
        .arg("--csv")
        .arg(&table);
    assert_success(&command.output().unwrap());
    let report = read(&report);

    let mut known = Vec::new();
    shares(&report, &mut known);
    let accuracies = std::iter::once(&report["clean"]).chain(report["attacks"].as_array().unwrap());
    for accuracy in accuracies {
        let exits = accuracy["exits"].as_array().unwrap();
        let mean = |key: &str| exits.iter().map(|exit| exit[key].as_f64().unwrap()).sum::<f64>() / exits.len() as f64;
        let percent = |value: f64| format!("{:.2}", 100.0 * value);
        known.push((percent(mean("value")), format!("[{}, {}]", percent(mean("low")), percent(mean("high")))));
    }
    for (file, opening, least) in [(&page, "<small>[", 40), (&markdown, " [", 30)] {
        let found = intervals(&fs::read_to_string(file).unwrap(), opening);
        assert!(found.len() >= least, "{}", found.len());
        for figure in found {
            assert!(known.contains(&figure), "{figure:?} of {} is not in the JSON", file.display());
        }
    }

    // What is deployed is the system: its own accuracy comes before the mean of its exits.
    for (file, exits) in [(&page, "<span class=\"name\">clean"), (&markdown, "| exit |")] {
        let text = fs::read_to_string(file).unwrap();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        let system = [at("deployed system, clean"), at("deployed system under policy"), at("policy-robust")];
        assert!(system.is_sorted() && system[2] < at(exits), "{system:?}");
    }

    // The CSV has every share of the JSON, digit by digit, but those of transfer.
    let mut expected = Vec::new();
    exact(&report, &mut expected);
    let text = fs::read_to_string(table).unwrap();
    let last_five = |line: &str| {
        let fields: Vec<f64> = line.rsplit(',').take(5).map(|field| field.parse().unwrap()).collect();
        [fields[4], fields[3], fields[2], fields[1], fields[0]]
    };
    let mut written: Vec<[f64; 5]> = text.lines().skip(1).map(last_five).collect();
    for list in [&mut expected, &mut written] {
        list.sort_by(|a, b| a.partial_cmp(b).unwrap());
    }
    assert_eq!(written, expected);
}

/// Count, n, value and ends of every share of a report that is not about transfer.
fn exact(value: &Value, found: &mut Vec<[f64; 5]>) {
    if value.get("low").is_some() {
        found.push(["count", "n", "value", "low", "high"].map(|key| value[key].as_f64().unwrap()));
    } else if let Some(items) = value.as_array() {
        items.iter().for_each(|item| exact(item, found));
    } else if let Some(object) = value.as_object() {
        let told = object.iter().filter(|(key, _)| !["fooled", "transfer"].contains(&key.as_str()));
        told.for_each(|(_, item)| exact(item, found));
    }
}

#[test]
fn scalars_become_event_files_for_tensorboard() {
    let folder = tempfile::tempdir().unwrap();
    let board = folder.path().join("board");
    let report = |source: &Path| neokd().arg("report").arg(source).arg("--tensorboard").arg(&board).output().unwrap();
    assert_success(&report(finished()));
    let bytes = fs::read(board.join("tiny/events.out.tfevents.0.neokd")).unwrap();
    // A record is a length, a checksum, the content and a checksum.
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        records.push(&rest[12..12 + length]);
        rest = &rest[16 + length..];
    }
    let log = fs::read_to_string(finished().join("metrics.jsonl")).unwrap();
    assert_eq!(records.len(), 1 + log.lines().count());
    let holds = |record: &[u8], tag: &str| record.windows(tag.len()).any(|part| part == tag.as_bytes());
    for tag in
        ["loss/total", "loss/nkd/exit 0", "validation/clean/exit 2", "validation/robust/exit 0", "epoch/eokd/exit 1"]
    {
        assert!(records.iter().any(|record| holds(record, tag)), "{tag}");
    }
    assert_failure(&report(&finished().join("report.json")), 5, &["metrics.jsonl", "neokd train"]);
}

#[test]
fn what_a_report_may_hold_beside_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("<b>R&D");
    copy(&run);
    change(&run, |report| {
        report["attacks"][1]["verdict"] = json!({"level": "fail", "reasons": [
            {"check": "zero-gradient", "level": "fail", "value": 0.9, "text": "<i>steps</i> do not help"}]});
        report["attacks"][0]["verdict"] = json!({"level": "pass", "reasons": []});
        let share = json!({"count": 1, "n": 8, "value": 0.125, "low": 0.0, "high": 0.5});
        let rows = vec![vec![share; 3]; 3];
        report["attacks"][1]["transfer"] = json!({"rows": rows, "measure": "images that the exit gets wrong"});
        report["data"]["provenance"]["trust"] = json!("unverified");
        for exit in 0..3 {
            let mut single = report["attacks"][0].clone();
            single["objective"] = json!(format!("single:{exit}"));
            single["fooled"] = json!(vec![json!({"count": 1, "n": 3, "value": 1.0 / 3.0, "low": 0.1, "high": 0.8}); 3]);
            report["attacks"].as_array_mut().unwrap().push(single);
        }
    });
    let weaker = run.join("report-weaker.json");
    fs::copy(run.join("report.json"), &weaker).unwrap();
    let mut further = read(&weaker);
    for attack in further["attacks"].as_array_mut().unwrap() {
        attack["epsilon"] = json!(0.1);
    }
    fs::write(&weaker, further.to_string()).unwrap();
    let scored = ["evaluate", "--images", "4", "--steps", "1", "--policy", "confidence:0.5"];
    let policy = folder.path().join("policy.json");
    let weights = run.join("weights.safetensors");
    assert_success(&neokd().args(scored).arg(&weights).arg("--out").arg(&policy).output().unwrap());

    let whole = page(&[&run], &folder.path().join("one.html"));
    assert_sound(&whole);
    for part in [
        "<h1>&lt;b&gt;R&amp;D</h1>",
        "Fail: these numbers",
        "max-average: &lt;i&gt;steps&lt;/i&gt; do not help",
        "12.5",
        ">33.3<",
        "<th>single:2 <span",
        "images that the exit gets wrong",
        "digests are not the published ones",
        "Robust accuracy against epsilon",
    ] {
        assert!(whole.contains(part), "{part}");
    }
    let (judged, numbers) = (whole.find("class=\"verdict").unwrap(), whole.find("class=\"stats").unwrap());
    assert!(judged < numbers, "the verdict comes first");

    let both = page(&[&run, &policy], &folder.path().join("two.html"));
    assert_sound(&both);
    assert!(both.contains("Comparison of 2 runs") && both.contains("Where images leave"));
    let markdown = folder.path().join("two.md");
    let output = neokd().arg("report").args([&run, &policy]).arg("--markdown").arg(&markdown).output();
    assert_success(&output.unwrap());
    assert!(fs::read_to_string(markdown).unwrap().contains("| &lt;b&gt;R&amp;D |"));
}

#[test]
fn a_run_in_progress_or_damaged_shows_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&run);
    for file in ["report.json", "weights.safetensors", "examples.safetensors", "model-card.md"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    let log = run.join("metrics.jsonl");
    let lines = fs::read(&log).unwrap();
    fs::write(&log, [&lines[..], b"{\"event\":\"step\",\"st\xff"].concat()).unwrap();
    let out = folder.path().join("page.html");
    let unfinished = page(&[&run], &out);
    assert_sound(&unfinished);
    for part in ["after 4 steps", "--resume", "not complete", "Loss terms", "Validation, clean", "4 of 4 steps"] {
        assert!(unfinished.contains(part), "{part}");
    }
    assert!(!unfinished.contains("<img "));
    let beside = page(&[&run, finished()], &out);
    assert!(beside.contains("No test results yet: run."));

    fs::write(run.join("examples.safetensors"), "no tensors").unwrap();
    fs::write(&log, "").unwrap();
    let spoiled = page(&[&run], &out);
    assert!(spoiled.contains("No example images") && spoiled.contains("neokd evaluate RUN writes it again"));
    fs::remove_file(&log).unwrap();
    assert!(page(&[&run], &out).contains("no metrics.jsonl"));
}

#[test]
fn what_is_no_run_and_what_another_version_wrote_is_refused_with_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let (spoiled, empty) = (folder.path().join("run"), folder.path().join("empty"));
    copy(&spoiled);
    fs::create_dir(&empty).unwrap();
    let out = folder.path().join("page.html");
    let report = |source: &Path| neokd().arg("report").arg(source).arg("--out").arg(&out).output().unwrap();
    assert_failure(&report(&empty), 5, &["empty", "config.toml", "neokd train"]);
    assert_failure(&report(&folder.path().join("absent")), 5, &["absent", "no such file"]);
    assert_failure(&run(&["report", "runs/x", "--out", "page.pdf"]), 2, &["--out page.pdf", ".html", "--markdown"]);

    let path = spoiled.join("report.json");
    let good = fs::read(&path).unwrap();
    change(&spoiled, |report| report["schema"] = json!("neokd.report/7"));
    assert_failure(&report(&spoiled), 5, &["report.json", "neokd.report/7", "neokd.report/1", "neokd evaluate"]);
    change(&spoiled, |report| report["schema"] = json!("something else"));
    assert_failure(&report(&spoiled), 5, &["report.json", "no report"]);
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert_failure(&report(&spoiled), 5, &["report.json", "not a complete report"]);
    fs::write(&path, &good).unwrap();
    change(&spoiled, |report| report["clean"]["mean"] = json!("high"));
    assert_failure(&report(&spoiled), 5, &["report.json", "clean.mean"]);
    assert!(!out.exists(), "a refused report writes nothing");
    let card = neokd().args(["report", "--model-card"]).arg(&path).output().unwrap();
    assert_failure(&card, 5, &["report.json"]);
}

#[test]
fn weights_get_a_card_and_examples_that_say_which_attack() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&run);
    let card = fs::read_to_string(run.join("model-card.md")).unwrap();
    let digest = neokd_datasets::sha256_hex(&fs::read(run.join("weights.safetensors")).unwrap());
    for part in [digest.as_str(), "mnist (embedded)", "| exit |", "n = 4", "upper bound", "neo-kd"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    fs::remove_file(run.join("model-card.md")).unwrap();
    assert_success(&neokd().args(["report", "--model-card"]).arg(&run).output().unwrap());
    let again = fs::read_to_string(run.join("model-card.md")).unwrap();
    assert_eq!(again, card.replace("# tiny", "# run"));

    let bytes = fs::read(run.join("examples.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("adversarial").unwrap().shape(), [4, 1, 28, 28]);
    assert_eq!(file.tensor("logits_adversarial.2").unwrap().shape(), [4, 10]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["neokd.examples"]).unwrap();
    assert_eq!((&about["schema"], &about["epsilon"]), (&json!("neokd.examples/1"), &json!(0.3)));
    let report = read(&run.join("report.json"));
    let means: Vec<f64> = (0..2).map(|index| report["attacks"][index]["mean"].as_f64().unwrap()).collect();
    let strongest = if means[1] < means[0] { 1 } else { 0 };
    assert_eq!(about["objective"], report["attacks"][strongest]["objective"]);

    // The examples are images of the evaluation: their answers are the counts of the report.
    let floats = |name: &str| -> Vec<f32> {
        let words =
            file.tensor(name).unwrap().data().chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        words.collect()
    };
    let labels = floats("labels");
    for exit in 0..3 {
        let logits = floats(&format!("logits_adversarial.{exit}"));
        let right = (0..4).filter(|image| {
            let row = &logits[image * 10..image * 10 + 10];
            let best = (0..10).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            best as f32 == labels[*image]
        });
        assert_eq!(json!(right.count()), report["attacks"][strongest]["exits"][exit]["count"]);
    }
}

#[test]
fn runs_are_listed_with_their_state_and_figures() {
    let folder = tempfile::tempdir().unwrap();
    copy(&folder.path().join("done"));
    copy(&folder.path().join("deeper/and/started"));
    copy(&folder.path().join("other"));
    for file in ["report.json", "weights.safetensors"] {
        fs::remove_file(folder.path().join("deeper/and/started").join(file)).unwrap();
    }
    change(&folder.path().join("other"), |report| report["schema"] = json!("neokd.report/9"));
    fs::create_dir(folder.path().join("no run")).unwrap();
    let list = |more: &[&str]| neokd().arg("runs").arg(folder.path()).args(more).output().unwrap();
    let output = list(&["--json"]);
    assert_success(&output);
    let lines: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let report = read(&finished().join("report.json"));
    assert_eq!(lines.as_array().unwrap().len(), 3);
    assert_eq!(lines[0]["state"], "4 of 4 steps");
    assert_eq!((&lines[1]["state"], &lines[1]["clean"]), (&json!("complete"), &report["clean"]["mean"]));
    assert_eq!(lines[1]["attacks"][1]["mean"], report["attacks"][1]["mean"]);
    assert_eq!((&lines[1]["method"], &lines[1]["n"]), (&json!("neo-kd"), &json!(4)));
    assert!(lines[2]["state"].as_str().unwrap().contains("neokd.report/9"), "{lines}");
    let table = stdout(&list(&[]));
    for part in ["deeper/and/started", "complete", "max-average", "unreadable"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_failure(&run(&["runs", "no/such/folder"]), 2, &["no/such/folder"]);
    let empty = neokd().arg("runs").arg(folder.path().join("no run")).output().unwrap();
    assert!(stdout(&empty).contains("no runs in"));
}

/// A run with 1000 steps, 50 looks at validation images and 39 budgets under two attacks.
fn large_run(folder: &Path, method: &str, seed: u64) {
    let run = folder.join(format!("{method}-{seed}"));
    fs::create_dir_all(&run).unwrap();
    let mut report = read(&finished().join("report.json"));
    report["seed"] = json!(seed);
    report["config"]["seed"] = json!(seed);
    let share = report["clean"]["exits"][0].clone();
    let policy = |index: usize| {
        json!({"policy": {"rule": {"confidence": [0.5, null]}, "ensemble": false}, "accuracy": share,
               "multiply_adds": 1e6 * index as f64, "left": [index, 40 - index, 4]})
    };
    let policies: Vec<Value> = (0..39).map(policy).collect();
    report["policies"] = json!(policies);
    for attack in report["attacks"].as_array_mut().unwrap() {
        attack["policies"] = json!(policies);
    }
    fs::write(run.join("report.json"), report.to_string()).unwrap();
    fs::copy(finished().join("config.toml"), run.join("config.toml")).unwrap();
    fs::copy(finished().join("examples.safetensors"), run.join("examples.safetensors")).unwrap();
    let mut log = String::new();
    for step in 1..=1000_u32 {
        let loss = 3.0 / f64::from(step).sqrt();
        let terms =
            ["ce_clean", "ce_adversarial", "nkd", "eokd"].map(|name| json!({"name": name, "exits": vec![loss; 3]}));
        let step_line = json!({"event": "step", "step": step, "epoch": 0, "rate": 0.1, "total": loss, "loss": terms});
        log.push_str(&format!("{step_line}\n"));
        if step % 20 == 0 {
            let look =
                json!({"event": "validation", "step": step, "clean": vec![&share; 3], "robust": vec![&share; 3]});
            log.push_str(&format!("{look}\n"));
        }
    }
    fs::write(run.join("metrics.jsonl"), log).unwrap();
}

#[test]
fn a_comparison_of_fifty_runs_is_small() {
    let folder = tempfile::tempdir().unwrap();
    for (method, seed) in (0..50).map(|run| (format!("method-{}", run / 5), run % 5)) {
        large_run(folder.path(), &method, seed);
    }
    fs::write(folder.path().join("compare.json"), "{}").unwrap();
    let out = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let whole = page(&[folder.path()], &out.path().join("report.html"));
    eprintln!("page of 50 runs: {} kB in {:.2} s", whole.len() / 1000, started.elapsed().as_secs_f64());
    assert_sound(&whole);
    assert!(whole.len() < 5_000_000, "{} bytes", whole.len());
    for part in ["Comparison of 50 runs", "10 methods", "Methods over their seeds", "method-9-4"] {
        assert!(whole.contains(part), "{part}");
    }
}
