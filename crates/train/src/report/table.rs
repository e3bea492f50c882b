//! A report as a table for the terminal: exit by {clean, each attack}, with 95 % intervals.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use crate::dynamic::Dynamic;

use super::{Accuracy, AttackReport, Report};

/// The table and, above it, what its numbers are.
pub fn render(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let mut header = vec!["exit".to_string(), "M multiply-adds".to_string(), "clean".to_string()];
    header.extend(report.attacks.iter().map(|attack| attack.objective.clone()));
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
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n{table}{}{}", caption(report), policies(report), verdicts(report))
}

/// Whether the accuracies under attack are to be believed, where that was checked.
fn verdicts(report: &Report) -> String {
    let judged = report.attacks.iter().filter_map(|attack| Some((attack, attack.verdict.as_ref()?)));
    let lines = judged.map(|(attack, verdict)| {
        let reasons: String = verdict.reasons.iter().map(|reason| format!("\n  {}", reason.text)).collect();
        format!("\nverdict for {}: {}{reasons}", attack.objective, verdict.level)
    });
    lines.collect()
}

/// A line per exit policy: mean cost, accuracy on clean and on attacked images.
fn policies(report: &Report) -> String {
    if report.policies.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let mut header = vec!["policy".to_string(), "M multiply-adds".to_string(), "clean".to_string()];
    let attacked = |attack: &AttackReport| [attack.objective.clone(), "M multiply-adds".to_string()];
    header.extend(report.attacks.iter().flat_map(attacked));
    table.set_header(header);
    for (index, clean) in report.policies.iter().enumerate() {
        let cost = |found: &Dynamic| format!("{:.2}", found.multiply_adds / 1e6);
        let mut row = vec![index.to_string(), cost(&clean.found), clean.found.accuracy.with_interval()];
        let attacks = report.attacks.iter().map(|attack| &attack.policies[index].found);
        row.extend(attacks.flat_map(|found| [found.accuracy.with_interval(), cost(found)]));
        table.add_row(row);
    }
    format!("\nexit policies on the same images (attacks are on the exits, not on the policy)\n{table}")
}

fn caption(report: &Report) -> String {
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
