//! A report as Markdown: the tables, without the pictures.

use std::fmt::Write as _;

use neokd_evaluate::accuracy::Accuracy;
use neokd_evaluate::interval::Share;

use crate::compare::{self, MEASURES, Spread};
use crate::comparison::{Comparison, Mean};
use crate::figures::policy_name;
use crate::html::LEFT_OUT;
use crate::report::{FOOLED, PolicyReport, Report};
use crate::run::Run;
use crate::table::POLICIES;

/// The text about one run, or about several side by side.
pub fn text(runs: &[Run]) -> String {
    match runs {
        [run] => format!("# {}\n\n{}", plain(&run.name), about(run)),
        runs => several(runs),
    }
}

/// Text that means itself in Markdown, also within a table.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' => plain.extend(['\\', character]),
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            character if character.is_control() => plain.push(' '),
            character => plain.push(character),
        }
    }
    plain
}

fn several(runs: &[Run]) -> String {
    let comparison = Comparison::of(runs);
    let mut text = format!("# Comparison of {} runs\n\n", runs.len());
    text.push_str("Accuracy in %, mean over the exits; in brackets the mean of the exits' 95 % intervals.\n\n");
    if let Some(caution) = comparison.caution() {
        let _ = writeln!(text, "**{caution}**\n");
    }
    let attacks = comparison.attacks.iter().map(|attack| plain(&format!("{}, {}", attack.label, attack.setting)));
    let head = ["run", "method", "seed", "n", "clean"].map(String::from).into_iter().chain(attacks);
    let rows = runs.iter().map(|run| {
        let n = run.report.as_ref().map_or_else(|| plain(&run.state()), |report| report.n.to_string());
        let first = [plain(&run.name), plain(&run.method()), plain(&run.setting("/seed")), n];
        let means = std::iter::once(Comparison::clean(run))
            .chain(comparison.attacks.iter().map(|attack| Comparison::attacked(run, attack)));
        first.into_iter().chain(means.map(mean)).collect()
    });
    text.push_str(&table(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>()));
    let over_seeds = compare::Comparison::of(runs);
    if !over_seeds.methods.is_empty() {
        text.push_str(&methods(&over_seeds, runs));
    }
    for run in runs {
        let _ = write!(text, "\n## {}\n\n{}", plain(&run.name), about(run));
    }
    text
}

/// The methods in every measure of a comparison, their differences, and how attacks carry over.
fn methods(comparison: &compare::Comparison, runs: &[Run]) -> String {
    let exits = comparison.methods.first().map_or(0, |method| method.transfer_matrix.len());
    let numbered = || (0..exits).map(|exit| format!("exit {exit}"));
    let mut text = format!(
        "\n## Methods over their seeds\n\nIn %, n = {} test images: mean and, of several seeds, standard deviation; \
         {MEASURES}.\n\n",
        comparison.n
    );
    let head =
        ["measure", "method", "runs"].map(String::from).into_iter().chain(numbered()).chain(["mean".to_string()]);
    let rows = comparison.measures().enumerate().flat_map(|(at, name)| {
        comparison.methods.iter().map(move |method| {
            let (measure, runs) = (&method.measures[at], method.runs.len().to_string());
            let cells = measure.exits.iter().chain([&measure.mean]).map(Spread::percent);
            [name.to_string(), plain(&method.method), runs].into_iter().chain(cells).collect()
        })
    });
    text.push_str(&table(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>()));
    let outside: Vec<String> =
        runs.iter().filter(|run| !comparison.holds(&run.name)).map(|run| plain(&run.name)).collect();
    if !outside.is_empty() {
        let _ = writeln!(text, "\n{LEFT_OUT}: {}.", outside.join(", "));
    }
    let _ = writeln!(text, "\nIn percentage points; {}.\n", comparison.about_findings());
    for (name, found) in comparison.findings() {
        let _ = writeln!(text, "- {name}: {}", plain(&found));
    }
    let _ = writeln!(text, "\nTransfer, {FOOLED}, in %; row: attacked exit, column: answering exit.\n");
    let head = ["method", "attacked"].map(String::from).into_iter().chain(numbered());
    let rows = comparison.methods.iter().flat_map(|method| {
        method.transfer_matrix.iter().enumerate().map(|(exit, row)| {
            let cells = row.iter().map(|share| format!("{:.2}", 100.0 * share));
            [plain(&method.method), format!("exit {exit}")].into_iter().chain(cells).collect()
        })
    });
    text.push_str(&table(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>()));
    text
}

/// Everything about a run below its heading.
fn about(run: &Run) -> String {
    let setting = |pointer: &str| plain(&run.setting(pointer));
    let loss = Some(setting("/training/loss/kind")).filter(|loss| !loss.is_empty());
    let mut text = format!(
        "{} on {}, {}, seed {}; {}.\n\n",
        loss.unwrap_or_else(|| "Weights alone".to_string()),
        setting("/data/name"),
        setting("/model/kind"),
        setting("/seed"),
        plain(&run.state())
    );
    if let Some(origin) = run.report.as_ref().and_then(Report::origin) {
        let _ = writeln!(text, "Weights {}.\n", plain(&origin));
    }
    if let Some((level, sentences)) = run.report.as_ref().and_then(Report::verdict) {
        let _ = writeln!(text, "**Verdict: {level}.** {}\n", plain(&sentences.join("; ")));
    }
    for note in &run.notes {
        let _ = writeln!(text, "> {}\n", plain(note));
    }
    if let Some(report) = &run.report {
        let _ = writeln!(text, "Accuracy in % with 95 % interval; n = {} test images.\n", report.n);
        for (name, setting, share, _) in report.of_deployed() {
            let _ = writeln!(text, "- {}: {} ({})", plain(&name), share.with_interval(), plain(&setting));
        }
        if report.deployed().is_some() {
            text.push_str("\nThe exits, and their mean:\n\n");
        }
        text.push_str(&exits(report));
        text.push_str(&own_exits(report));
        if report.policies.len() > POLICIES {
            let count = report.policies.len();
            let _ =
                writeln!(text, "\n{count} exit policies make a curve: see the page, or the CSV. The deployed one:\n");
            text.push_str(&policies(report.deployed(), report));
        } else if !report.policies.is_empty() {
            let _ = writeln!(text, "\nExit policies on the same images.\n");
            text.push_str(&policies(&report.policies, report));
        }
    }
    text
}

/// Exits by clean and attacks.
pub(super) fn exits(report: &Report) -> String {
    let attacks = report.attacks.iter().map(|attack| plain(&format!("{}, {}", attack.label(), attack.setting())));
    let worst = report.worst.iter().map(|worst| format!("worst case, {}", worst.threat()));
    let head = ["exit", "M multiply-adds", "clean"].map(String::from).into_iter().chain(attacks).chain(worst);
    let columns: Vec<&Accuracy> = report.accuracies().collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for exit in 0..report.clean.exits.len() {
        let cost =
            report.costs.get(exit).map_or(String::new(), |cost| format!("{:.2}", cost.multiply_adds as f64 / 1e6));
        let cells = columns.iter().map(|column| column.exits.get(exit).map_or_else(String::new, Share::with_interval));
        rows.push([exit.to_string(), cost].into_iter().chain(cells).collect());
    }
    let means = columns.iter().map(|column| format!("{:.2}", 100.0 * column.mean));
    rows.push(["mean".to_string(), String::new()].into_iter().chain(means).collect());
    table(&head.collect::<Vec<_>>(), &rows)
}

/// Each exit under the attacks on it alone, and images that every exit is right about, whatever was tried.
fn own_exits(report: &Report) -> String {
    let attacks = report.attacks.iter().filter_map(|attack| {
        Some((format!("{}, {}", attack.label(), attack.threat()), &attack.own, attack.any_exit.as_ref()?))
    });
    let worst =
        report.worst.iter().map(|worst| (format!("worst case, {}", worst.threat()), &worst.own, &worst.any_exit));
    let found: Vec<(String, &Vec<Option<Share>>, &Share)> = attacks.chain(worst).collect();
    if found.is_empty() {
        return String::new();
    }
    let head = std::iter::once("exit".to_string()).chain(found.iter().map(|(name, ..)| plain(name)));
    let cell = |share: Option<&Share>| share.map_or_else(String::new, Share::with_interval);
    let row = |exit: usize| {
        let own = found.iter().map(move |(_, own, _)| cell(own.get(exit).and_then(Option::as_ref)));
        std::iter::once(exit.to_string()).chain(own).collect::<Vec<String>>()
    };
    let everywhere = found.iter().map(|(.., everywhere)| cell(Some(everywhere)));
    let last = std::iter::once("all exits".to_string()).chain(everywhere).collect();
    let rows: Vec<Vec<String>> = (0..report.costs.len()).map(row).chain([last]).collect();
    format!("\nEach exit under the attack on it alone:\n\n{}", table(&head.collect::<Vec<_>>(), &rows))
}

fn policies<'a>(shown: impl IntoIterator<Item = &'a PolicyReport>, report: &Report) -> String {
    let attacks = report.attacks.iter().flat_map(|attack| [plain(&attack.label()), "M multiply-adds".to_string()]);
    let head = ["policy", "clean", "M multiply-adds"].map(String::from).into_iter().chain(attacks);
    let rows = shown.into_iter().map(|clean| {
        let attacked = report.attacks.iter().map(|attack| attack.under(clean));
        let cells = std::iter::once(Some(clean)).chain(attacked).flat_map(|found| match found {
            Some(PolicyReport { found, .. }) => {
                [found.accuracy.with_interval(), format!("{:.2}", found.multiply_adds / 1e6)]
            }
            None => [String::new(), String::new()],
        });
        std::iter::once(plain(&policy_name(clean))).chain(cells).collect()
    });
    table(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>())
}

fn mean(mean: Option<Mean>) -> String {
    mean.map_or("–".to_string(), |Mean { value, interval: [low, high], .. }| {
        format!("{:.2} [{:.2}, {:.2}]", 100.0 * value, 100.0 * low, 100.0 * high)
    })
}

fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> =
        (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }.to_string()).collect();
    [line(head), line(&rule)].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn text_means_itself() {
        assert_eq!(plain("a|b_<c>\n[d]"), "a\\|b\\_&lt;c&gt; \\[d\\]");
    }
}
