//! `report.html`: one file that asks for nothing else, with what was found first and how it was found
//! below.

mod pictures;
mod tables;

use std::fmt::Write as _;
use std::time::Duration;

use neokd_attack::Level;
use neokd_evaluate::interval::Share;
use neokd_train::training::dry_run::human;

use crate::chart::{self, escape, number};
use crate::compare;
use crate::comparison::{Comparison, Mean, groups};
use crate::figures::{self, Figure, Topic};
use crate::report::{AttackReport, Report};
use crate::run::Run;

const OVER_SEEDS: &str = "Methods over their seeds";
const TRANSFER: &str = "What an attack on one exit does to the others.";
/// What to say of runs that a comparison of methods does not hold.
pub(super) const LEFT_OUT: &str = "Not in this table, for want of an attack that the others have, or unfinished";
/// More runs than this, and their example images are left to reports of their own.
const RUNS_WITH_PICTURES: usize = 4;

/// The page about one run, or about several side by side.
pub fn page(runs: &[Run]) -> String {
    let (title, body) = match runs {
        [run] => (run.name.clone(), single(run)),
        runs => (format!("Comparison of {} runs", runs.len()), several(runs)),
    };
    let version = neokd_evaluate::VERSION;
    let title = escape(&title);
    // The policy makes the browser keep the promise that nothing is fetched.
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{}{}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}\
         <p class=\"foot\">Made by neokd {version}. Accuracies are shares of test images with their 95 % interval \
         (Wilson). The test split chose nothing: thresholds and stopping read training and validation images \
         only. Accuracy under an attack is an upper bound: a stronger attack may find more.</p>\n\
         </main>\n</body>\n</html>\n",
        include_str!("html/page.css"),
        chart::CSS,
    )
}

fn single(run: &Run) -> String {
    let mut page = format!("<p class=\"lead\">{}</p>\n", escape(&subtitle(run)));
    page.push_str(&verdict_box(run.report.as_ref().and_then(Report::verdict).as_ref()));
    page.push_str(&notes(&run.notes));
    if let Some(report) = &run.report {
        page.push_str(&stats(report));
    }
    page.push_str(&body_of(run, true));
    page
}

/// `neo-kd, small-cnn with 3 exits, mnist, seed 1`.
fn subtitle(run: &Run) -> String {
    let exits = run.report.as_ref().map(|report| format!(" with {} exits", report.costs.len()));
    let parts = [
        run.setting("/training/loss/kind"),
        format!("{}{}", run.setting("/model/kind"), exits.unwrap_or_default()),
        run.setting("/data/name"),
        format!("seed {}", run.setting("/seed")),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn several(runs: &[Run]) -> String {
    let comparison = Comparison::of(runs);
    let groups = groups(runs);
    let over_seeds = compare::Comparison::of(runs);
    let methods = if groups.len() == 1 { "one method".to_string() } else { format!("{} methods", groups.len()) };
    let mut data: Vec<String> = runs.iter().map(|run| run.setting("/data/name")).collect();
    data.sort();
    data.dedup();
    let mut page = format!("<p class=\"lead\">{methods} on {}</p>\n", escape(&data.join(", ")));
    page.push_str(&worst_verdicts(runs));
    let mut remarks: Vec<String> = comparison.caution().into_iter().collect();
    let missing = runs.iter().filter(|run| run.report.is_none()).map(|run| run.name.clone()).collect::<Vec<_>>();
    if !missing.is_empty() {
        remarks.push(format!("No test results yet: {}. Their notes below say why.", missing.join(", ")));
    }
    page.push_str(&notes(&remarks));
    page.push_str("<h2>Results</h2>\n");
    page.push_str(&tables::comparison(&comparison));
    if !over_seeds.methods.is_empty() {
        page.push_str(&methods_section(&over_seeds, runs));
    } else if groups.iter().any(|group| group.runs.len() > 1) {
        let _ = write!(page, "<h2>{OVER_SEEDS}</h2>\n{}", tables::groups(&comparison, &groups));
    }
    let charts = figures::of_comparison(&comparison);
    for (topic, heading) in
        [(Topic::Accuracy, "Accuracy of each exit"), (Topic::Budget, "Leaving early"), (Topic::Training, "Training")]
    {
        page.push_str(&section(heading, "", &charts, topic));
    }
    page.push_str("<h2>Each run</h2>\n");
    for run in runs {
        let _ = write!(
            page,
            "<details><summary>{} <span>{}</span></summary>\n<p class=\"lead\">{}</p>\n{}{}{}</details>\n",
            escape(&run.name),
            escape(&run.state()),
            escape(&subtitle(run)),
            verdict_box(run.report.as_ref().and_then(Report::verdict).as_ref()),
            notes(&run.notes),
            body_of(run, runs.len() <= RUNS_WITH_PICTURES)
        );
    }
    page
}

/// The methods in every measure of a comparison, what can be said about their differences, and how attacks carry over.
fn methods_section(comparison: &compare::Comparison, runs: &[Run]) -> String {
    let findings = comparison.findings();
    let sentences: Vec<String> = findings.iter().map(|(name, found)| format!("{name}: {found}")).collect();
    let outside: Vec<&str> = runs.iter().map(|run| run.name.as_str()).filter(|run| !comparison.holds(run)).collect();
    let mut page = format!("<h2>{OVER_SEEDS}</h2>\n{}", tables::measures(comparison));
    if !outside.is_empty() {
        page.push_str(&notes(&[format!("{LEFT_OUT}: {}.", outside.join(", "))]));
    }
    let about = comparison.about_findings();
    let _ = write!(
        page,
        "<h3>Differences</h3>\n<p class=\"caption\">In percentage points; {about}.</p>\n{}",
        list(&sentences)
    );
    page.push_str(&tables::differences(comparison));
    page.push_str(&section("Transfer between exits", TRANSFER, &figures::of_methods(comparison), Topic::Transfer));
    page
}

/// Everything about a run below its summary.
fn body_of(run: &Run, with_pictures: bool) -> String {
    let mut page = String::new();
    let charts = figures::of_run(run);
    if let Some(report) = &run.report {
        let _ = write!(page, "<h2>Accuracy of each exit</h2>\n{}", tables::exits(report));
        page.push_str(&tables::own_exits(report));
        page.push_str(&grid(&charts, Topic::Accuracy));
        if !report.policies.is_empty() {
            let _ = write!(page, "<h2>Leaving early</h2>\n{}", tables::policies(report));
        }
        page.push_str(&grid(&charts, Topic::Budget));
        page.push_str(&section("Transfer between exits", TRANSFER, &charts, Topic::Transfer));
    }
    match &run.examples {
        Some(examples) if with_pictures => page.push_str(&pictures::section(examples)),
        Some(_) => page.push_str("<p class=\"caption\">Example images are in the report of this run alone.</p>\n"),
        None => {}
    }
    page.push_str(&section("Training", "", &charts, Topic::Training));
    page.push_str(&circumstances(run));
    page
}

fn section(heading: &str, lead: &str, charts: &[Figure], topic: Topic) -> String {
    let grid = grid(charts, topic);
    match grid.is_empty() {
        true => grid,
        false if lead.is_empty() => format!("<h2>{heading}</h2>\n{grid}"),
        false => format!("<h2>{heading}</h2>\n<p class=\"caption\">{lead}</p>\n{grid}"),
    }
}

fn grid(charts: &[Figure], topic: Topic) -> String {
    let figures: String = charts
        .iter()
        .filter(|figure| figure.topic == topic)
        .map(|figure| format!("<figure>{}<figcaption>{}</figcaption></figure>\n", figure.svg, escape(&figure.caption)))
        .collect();
    if figures.is_empty() { figures } else { format!("<div class=\"figures\">\n{figures}</div>\n") }
}

fn sentence(level: Level) -> &'static str {
    match level {
        Level::Pass => "✓ Pass: nothing speaks against these numbers.",
        Level::Warn => "! Warning: look at this before you rely on these numbers.",
        Level::Fail => "✗ Fail: these numbers are not to be believed.",
    }
}

fn verdict_box(verdict: Option<&(Level, Vec<String>)>) -> String {
    let Some((level, sentences)) = verdict else { return String::new() };
    format!("<div class=\"verdict {level}\"><p><b>{}</b></p>{}</div>\n", sentence(*level), list(sentences))
}

/// The runs whose verdict is not to pass, the worst first; one line if all pass.
fn worst_verdicts(runs: &[Run]) -> String {
    let judged = runs.iter().filter_map(|run| Some((run, run.report.as_ref()?.verdict()?)));
    let mut judged: Vec<(&Run, (Level, Vec<String>))> = judged.collect();
    judged.sort_by_key(|(_, (level, _))| std::cmp::Reverse(*level));
    let Some(worst) = judged.first().map(|(_, (level, _))| *level) else { return String::new() };
    let lines = judged
        .iter()
        .filter(|(_, (level, _))| *level > Level::Pass)
        .map(|(run, (level, sentences))| format!("{} ({level}): {}", run.name, sentences.join("; ")));
    verdict_box(Some(&(worst, lines.collect())))
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
    if items.is_empty() { items } else { format!("<ul>{items}</ul>") }
}

fn notes(notes: &[String]) -> String {
    match notes {
        [] => String::new(),
        [note] => format!("<div class=\"notes\"><p>{}</p></div>\n", escape(note)),
        notes => format!("<div class=\"notes\">{}</div>\n", list(notes)),
    }
}

/// One figure: its name and setting, and in `[0, 1]` the value and its interval.
fn card(
    (name, setting): (&str, &str),
    verdict: Option<&(Level, Vec<String>)>,
    value: f64,
    interval: [f64; 2],
    n: u64,
) -> String {
    let [low, high] = interval.map(|end| 100.0 * end);
    format!(
        "<div class=\"stat\"><span class=\"name\">{}{}</span><b>{:.2}<small> %</small></b>\
         <span>[{low:.2}, {high:.2}], n&nbsp;=&nbsp;{n}</span><span>{}</span></div>\n",
        escape(name),
        tables::chip(verdict),
        100.0 * value,
        escape(setting)
    )
}

/// The figures that are looked for first: of the deployed system, where there is one, and then of its exits.
fn stats(report: &Report) -> String {
    let system = report.of_deployed().into_iter().map(|(name, setting, share, attack)| {
        let Share { value, low, high, n, .. } = *share;
        let verdict = attack.and_then(AttackReport::judged);
        card((&name, &setting), verdict.as_ref(), value, [low, high], n)
    });
    let deployed = report.deployed().is_some();
    let attacks = report
        .on_the_whole()
        .filter(|attack| !(deployed && attack.objective == "policy"))
        .map(|attack| (format!("under {}", attack.label()), attack.setting(), &attack.accuracy, attack.judged()));
    let clean = ("clean".to_string(), "test images as they are".to_string(), &report.clean, None);
    let exits = std::iter::once(clean).chain(attacks).filter_map(|(name, setting, accuracy, verdict)| {
        let mean = Mean::of(accuracy)?;
        Some(card((&name, &setting), verdict.as_ref(), mean.value, mean.interval, mean.n))
    });
    let cards: String = system.chain(exits).collect();
    let whose = if deployed { "of the deployed system where it says so, else mean" } else { "mean" };
    format!(
        "<div class=\"stats\">\n{cards}</div>\n<p class=\"caption\">Accuracy, {whose} over the exits. In brackets the mean \
         of the exits' 95 % intervals, which holds the mean at least as often.</p>\n"
    )
}

/// What was run, on what, with what, and how to run it again.
fn circumstances(run: &Run) -> String {
    let mut rows: Vec<(&str, String)> = vec![("state", run.state())];
    let text = |pointer: &str| run.setting(pointer);
    rows.push(("data", data(run)));
    rows.push(("network", text("/model/kind")));
    rows.push(("loss", text("/training/loss/kind")));
    let training = |key: &str| text(&format!("/training/{key}"));
    let epochs = if training("epochs") == "1" { "epoch" } else { "epochs" };
    rows.push((
        "training",
        match training("epochs").as_str() {
            "" => run.report.as_ref().and_then(Report::origin).unwrap_or_default(),
            number => format!("{number} {epochs}, batches of {}", training("batch_size")),
        },
    ));
    rows.push(("seed", text("/seed")));
    if let Some(report) = &run.report {
        rows.push(("device", report.device.clone()));
        if let Some(training) = &report.training {
            let spent = &training.progress;
            let time = human(Duration::from_secs_f64(spent.seconds.max(0.0)));
            let passes = passes_text(spent.passes.forward, spent.passes.backward);
            rows.push(("spent on training", format!("{} steps, {time}, {passes}", spent.step)));
        }
        let time = human(Duration::from_secs_f64(report.seconds.max(0.0)));
        let passes = passes_text(report.passes.forward, report.passes.backward);
        rows.push(("spent on evaluation", format!("{time}, {passes}")));
        rows.push(("versions", format!("neokd {}, Burn {}", report.versions.neokd, report.versions.burn)));
    }
    let rows: String = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value)))
        .collect();
    let digests = run.report.as_ref().map(digests).unwrap_or_default();
    let config = serde_json::to_string_pretty(&run.config).unwrap_or_default();
    format!(
        "<h2>What was run</h2>\n<dl>\n{rows}</dl>\n{digests}<details><summary>The whole configuration</summary>\
         <pre>{}</pre></details>\n",
        lines(&config)
    )
}

/// Text whose line breaks mean something.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

fn data(run: &Run) -> String {
    let name = run.setting("/data/name");
    match &run.report {
        Some(report) => match report.data.trust() {
            Some(trust) => format!("{name} ({trust}), first {} test images", report.n),
            None => format!("{name}, first {} images", report.n),
        },
        None => name,
    }
}

fn digests(report: &Report) -> String {
    let mut text = String::new();
    for file in report.data.provenance.iter().flat_map(|provenance| &provenance.files) {
        let _ = writeln!(text, "{}  {}", file.sha256, file.name);
    }
    if let Some([file, digest]) = &report.data.split {
        let _ = writeln!(text, "{digest}  {file}");
    }
    let _ = writeln!(text, "{}  test images and labels", report.data.test_digest);
    format!("<details><summary>SHA-256 of the data</summary><pre>{}</pre></details>\n", lines(&text))
}

fn passes_text(forward: u64, backward: u64) -> String {
    format!("{} forward and {} backward image-passes", number(forward as f64), number(backward as f64))
}
