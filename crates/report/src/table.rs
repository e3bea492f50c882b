//! A report as a table for the terminal: exit by {clean, each attack}, with 95 % intervals.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use neokd_evaluate::accuracy::Accuracy;

use crate::report::{AttackReport, PolicyReport, Report};

/// More policies than this are a curve, not a table.
pub(crate) const POLICIES: usize = 8;

/// The table and, above it, what its numbers are.
pub fn render<B>(report: &Report<B>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let mut header = vec!["exit".to_string(), "M multiply-adds".to_string(), "clean".to_string()];
    header.extend(report.attacks.iter().map(name));
    table.set_header(header);
    let columns: Vec<&Accuracy> =
        std::iter::once(&report.clean).chain(report.attacks.iter().map(|attack| &attack.accuracy)).collect();
    for (exit, cost) in report.costs.iter().enumerate() {
        let mut row = vec![exit.to_string(), format!("{:.2}", cost.multiply_adds as f64 / 1e6)];
        row.extend(columns.iter().map(|column| column.exits[exit].with_interval()));
        table.add_row(row);
    }
    let mut mean = vec!["mean".to_string(), String::new()];
    mean.extend(columns.iter().map(|column| format!("{:.2}", 100.0 * column.mean)));
    table.add_row(mean);
    let attacked = report.attacks.iter().map(|attack| &attack.calibration);
    let errors = std::iter::once(&report.calibration).chain(attacked).map(|exits| match exits.len() {
        0 => String::new(),
        count => format!("{:.2}", 100.0 * exits.iter().map(|exit| exit.error).sum::<f64>() / count as f64),
    });
    table.add_row(["calibration error".to_string(), String::new()].into_iter().chain(errors));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}{}\n{table}{}{}", caption(report), deployed(report), policies(report), verdicts(report))
}

/// The deployed system's own accuracy, before that of the exits, which is another.
fn deployed<B>(report: &Report<B>) -> String {
    let Some(clean) = report.deployed.and_then(|deployed| report.policies.get(deployed)) else {
        return String::new();
    };
    let mut text = format!("\ndeployed system: clean {}", clean.found.accuracy.with_interval());
    for attack in report.attacks.iter().filter(|attack| attack.objective == "policy") {
        if let Some(found) = attack.policies.iter().find(|found| found.policy == clean.policy) {
            text += &format!(", under {} {}", name(attack), found.found.accuracy.with_interval());
        }
    }
    if let Some(robust) = clean.robust {
        text += &format!(", policy-robust {}", robust.with_interval());
    }
    text
}

/// Whether the accuracies under attack are to be believed, where that was checked.
fn verdicts<B>(report: &Report<B>) -> String {
    let judged = report.attacks.iter().filter_map(|attack| Some((attack, attack.verdict.as_ref()?)));
    let lines = judged.map(|(attack, verdict)| {
        let reasons: String = verdict.reasons.iter().map(|reason| format!("\n  {}", reason.text)).collect();
        format!("\nverdict for {}: {}{reasons}", name(attack), verdict.level)
    });
    lines.collect()
}

/// A line per exit policy, of many only the deployed one: mean cost, accuracy on clean and on attacked images, and what
/// withstands everything.
fn policies<B>(report: &Report<B>) -> String {
    if report.policies.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["policy", "images", "accuracy", "M multiply-adds", "robust"]);
    let mut add = |policy: String, images: &str, PolicyReport { found, robust, .. }: &PolicyReport| {
        let (accuracy, cost) = (found.accuracy.with_interval(), format!("{:.2}", found.multiply_adds / 1e6));
        table.add_row([
            policy,
            images.to_string(),
            accuracy,
            cost,
            robust.map_or_else(String::new, |robust| robust.with_interval()),
        ]);
    };
    let few = report.policies.len() <= POLICIES;
    let shown = report.policies.iter().enumerate().filter(|(index, _)| few || report.deployed == Some(*index));
    for (index, clean) in shown {
        add(index.to_string(), "clean", clean);
        for attack in &report.attacks {
            if let Some(found) = attack.policies.iter().find(|found| found.policy == clean.policy) {
                add(String::new(), &name(attack), found);
            }
        }
    }
    let others = if few { String::new() } else { format!(", one of {}", report.policies.len()) };
    format!(
        "\nexit policies on the same images{others} (attacks are on the exits, unless they are named policy or slow; \
         robust: right whatever was tried)\n{table}"
    )
}

/// What a column is called.
fn name(attack: &AttackReport) -> String {
    match attack.search.as_str() {
        "autoattack" => format!("autoattack {}", attack.objective),
        _ => attack.objective.clone(),
    }
}

fn caption<B>(report: &Report<B>) -> String {
    let attack = report.attacks.first().map(describe).unwrap_or_default();
    format!(
        "Accuracy in % with 95 % interval on {} {} test images, seed {}{attack}",
        report.n, report.config.data.name, report.seed
    )
}

fn describe(attack: &AttackReport) -> String {
    let norm = format!("{:?}", attack.norm);
    let (start, runs) = (if attack.random_start { "random start" } else { "no random start" }, attack.restarts);
    let length = attack.step_size.map(|length| format!(" of {length:.4}")).unwrap_or_default();
    format!(
        "\nattacks: {}, {norm} epsilon {:.4}, {} steps{length}, {start}, {runs} run{}",
        attack.search.to_uppercase(),
        attack.epsilon,
        attack.steps,
        if runs == 1 { "" } else { "s" }
    )
}
