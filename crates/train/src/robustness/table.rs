//! What an evaluation found, for a terminal: exit by attack at each radius, with 95 % intervals; then what
//! stands behind the numbers: members of AutoAttack, transfer between exits, the verdict.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use neokd_attack::Passes;

use super::summary::{EpsilonReport, RobustnessReport, RunReport, Transfers, VerdictReport, WorstCase};
use crate::interval::Share;

/// The report as text.
pub fn render(report: &RobustnessReport) -> String {
    let [weights, _] = &report.weights;
    let mut text = format!(
        "Accuracy in % with 95 % interval on {} images of {}, weights {weights}, seed {}",
        report.n, report.data, report.seed
    );
    for epsilon in &report.epsilons {
        text +=
            &format!("\n\n{:?} epsilon {:.4} ({:.2}/255)\n", epsilon.norm, epsilon.epsilon, 255.0 * epsilon.epsilon);
        for run in &epsilon.runs {
            text += &format!("{}: {}\n", title(run), run.settings);
        }
        text += &table(report, epsilon);
        for run in &epsilon.runs {
            text += &members(run);
            text += &run.transfer.as_ref().map(|transfer| matrix(run, transfer)).unwrap_or_default();
        }
        for verdict in &epsilon.verdicts {
            text += &verdict_lines(verdict);
        }
    }
    text
}

fn title(run: &RunReport) -> String {
    format!("{} {}", run.attack, run.objective)
}

/// A column of the table.
struct Column<'a> {
    title: String,
    exits: Vec<Option<&'a Share>>,
    mean: Option<f64>,
    whole: Option<&'a WorstCase>,
    passes: Option<Passes>,
}

fn whole<'a>(title: &str, found: &'a WorstCase, passes: Option<Passes>) -> Column<'a> {
    Column {
        title: title.to_string(),
        exits: found.accuracy.exits.iter().map(Some).collect(),
        mean: Some(found.accuracy.mean),
        whole: Some(found),
        passes,
    }
}

/// Each exit under the attacks on it alone, if there were any on all of them.
fn own<'a>(title: String, found: &'a WorstCase) -> Option<Column<'a>> {
    let exits: Vec<Option<&Share>> = found.own.iter().map(Option::as_ref).collect();
    let known: Option<Vec<f64>> = exits.iter().map(|own| own.map(|share| share.value)).collect();
    let mean = known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<f64>() / known.len() as f64)?;
    Some(Column { title, exits, mean: Some(mean), whole: None, passes: None })
}

fn table(report: &RobustnessReport, epsilon: &EpsilonReport) -> String {
    let mut columns = vec![whole("clean", &report.clean, None)];
    for run in &epsilon.runs {
        columns.push(whole(&title(run).replace(' ', "\n"), &run.found, Some(run.passes)));
        columns.extend(own(format!("{}\nown exit", run.attack), &run.found));
    }
    columns.push(whole("worst case\nof all", &epsilon.worst, None));
    columns.extend(own("worst case\nown exit".to_string(), &epsilon.worst));

    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(std::iter::once("exit".to_string()).chain(columns.iter().map(|column| column.title.clone())));
    let mut row = |name: String, cell: &dyn Fn(&Column<'_>) -> Option<String>| {
        let cells: Vec<Option<String>> = columns.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            table.add_row(std::iter::once(name).chain(cells.into_iter().map(Option::unwrap_or_default)));
        }
    };
    for exit in 0..report.costs.len() {
        row(exit.to_string(), &|column| column.exits[exit].map(Share::with_interval));
    }
    row("mean".to_string(), &|column| column.mean.map(|mean| format!("{:.2}", 100.0 * mean)));
    row("all exits".to_string(), &|column| column.whole.map(|found| found.any_exit.with_interval()));
    let deployed = |column: &Column<'_>| column.whole.and_then(|found| found.deployed.clone());
    row("policy".to_string(), &|column| deployed(column).map(|found| found.robust.with_interval()));
    row("M multiply-adds".to_string(), &|column| {
        deployed(column)?.found.map(|found| format!("{:.2}", found.multiply_adds / 1e6))
    });
    row("efficacy".to_string(), &|column| deployed(column)?.efficacy.map(|efficacy| format!("{efficacy:.3}")));
    let per_image = |passes: u64| passes as f64 / report.n.max(1) as f64;
    row("passes an image".to_string(), &|column| {
        column.passes.map(|passes| format!("{:.0} + {:.0}", per_image(passes.forward), per_image(passes.backward)))
    });
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\nall exits: every exit is right, whatever was tried; passes: forward + backward; worst case: per image, \
         with the clean image and smaller epsilons\n"
    )
}

fn members(run: &RunReport) -> String {
    let line = |member: &neokd_attack::Spent| {
        let passes = member.passes.forward as f64 / member.attacked.max(1) as f64;
        format!(
            "  {}: broke {} of {} left, {passes:.0} forward passes each\n",
            member.attack, member.broken, member.attacked
        )
    };
    match run.members.is_empty() {
        true => String::new(),
        false => format!("{}\n{}", title(run), run.members.iter().map(line).collect::<String>()),
    }
}

fn matrix(run: &RunReport, transfer: &Transfers) -> String {
    let n = transfer.matrix.first().and_then(|row| row.first()).map_or(0, |share| share.n);
    let mut text = format!(
        "transfer of {}, success in % on the {n} images that all exits know; row: attacked exit, column: measured\n",
        run.attack
    );
    for (exit, row) in transfer.matrix.iter().enumerate() {
        let cells: String = row.iter().map(|share| format!("{:8.2}", 100.0 * share.value)).collect();
        text += &format!("{exit:4}{cells}\n");
    }
    text
}

fn verdict_lines(report: &VerdictReport) -> String {
    let n = report.diagnostics.images;
    let mut text = format!("verdict for {}: {} (checked on {n} images)\n", report.objective, report.verdict.level);
    for reason in &report.verdict.reasons {
        text += &format!("  {}\n", reason.text);
    }
    text
}
