//! What an evaluation found, for a terminal: attack by exit at each radius, with 95 % intervals; then what
//! stands behind the numbers: members of AutoAttack, transfer between exits, the verdict.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use neokd_attack::Passes;

use super::summary::{
    DistanceReport, EpsilonReport, QUANTILES, RobustnessReport, RunReport, Transfers, VerdictReport, WorstCase,
};
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
            text += &distances(run, epsilon);
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

/// A row of the table.
struct Row<'a> {
    title: String,
    exits: Vec<Option<&'a Share>>,
    mean: Option<f64>,
    whole: Option<&'a WorstCase>,
    passes: Option<Passes>,
    seconds: Option<f64>,
}

fn whole<'a>(title: &str, found: &'a WorstCase, spent: Option<(Passes, Option<f64>)>) -> Row<'a> {
    Row {
        title: title.to_string(),
        exits: found.accuracy.exits.iter().map(Some).collect(),
        mean: Some(found.accuracy.mean),
        whole: Some(found),
        passes: spent.map(|(passes, _)| passes),
        seconds: spent.and_then(|(_, seconds)| seconds),
    }
}

/// Each exit under the attacks on it alone, if there were any on all of them.
fn own<'a>(title: String, found: &'a WorstCase) -> Option<Row<'a>> {
    let exits: Vec<Option<&Share>> = found.own.iter().map(Option::as_ref).collect();
    let known: Option<Vec<f64>> = exits.iter().map(|own| own.map(|share| share.value)).collect();
    let mean = known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<f64>() / known.len() as f64)?;
    Some(Row { title, exits, mean: Some(mean), whole: None, passes: None, seconds: None })
}

fn table(report: &RobustnessReport, epsilon: &EpsilonReport) -> String {
    let mut rows = vec![whole("clean", &report.clean, None)];
    for run in &epsilon.runs {
        rows.push(whole(&title(run).replace(' ', "\n"), &run.found, Some((run.passes, run.seconds))));
        rows.extend(own(format!("{}\nown exit", run.attack), &run.found));
    }
    rows.push(whole("worst case\nof all", &epsilon.worst, None));
    rows.extend(own("worst case\nown exit".to_string(), &epsilon.worst));

    let mut columns = vec![("accuracy at exit".to_string(), rows.iter().map(|row| row.title.clone()).collect())];
    // A quantity that no row has gets no column.
    let mut column = |name: &str, cell: &dyn Fn(&Row<'_>) -> Option<String>| {
        let cells: Vec<Option<String>> = rows.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            columns.push((name.to_string(), cells.into_iter().map(Option::unwrap_or_default).collect()));
        }
    };
    for exit in 0..report.costs.len() {
        column(&exit.to_string(), &|row| row.exits[exit].map(in_two_lines));
    }
    column("mean", &|row| row.mean.map(|mean| format!("{:.2}", 100.0 * mean)));
    column("all exits", &|row| row.whole.map(|found| in_two_lines(&found.any_exit)));
    let deployed = |row: &Row<'_>| row.whole.and_then(|found| found.deployed.clone());
    column("policy", &|row| deployed(row).map(|found| in_two_lines(&found.robust)));
    column("M multiply-\nadds", &|row| deployed(row)?.found.map(|found| format!("{:.2}", found.multiply_adds / 1e6)));
    column("efficacy", &|row| deployed(row)?.efficacy.map(|efficacy| format!("{efficacy:.3}")));
    let per_image = |passes: u64| passes as f64 / report.n.max(1) as f64;
    column("passes\nan image", &|row| {
        row.passes.map(|passes| format!("{:.0}\n+ {:.0}", per_image(passes.forward), per_image(passes.backward)))
    });
    column("seconds", &|row| row.seconds.map(|seconds| format!("{seconds:.1}")));

    format!(
        "{}\nall exits: every exit is right, whatever was tried; passes: forward + backward; worst case: per image, \
         with the clean image and smaller epsilons\n",
        by_columns(&columns)
    )
}

/// A value and, below it, its interval: narrow enough for many exits side by side.
fn in_two_lines(share: &Share) -> String {
    share.with_interval().replacen(' ', "\n", 1)
}

fn by_columns(columns: &[(String, Vec<String>)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|(name, _)| name));
    for row in 0..columns.iter().map(|(_, cells)| cells.len()).min().unwrap_or(0) {
        table.add_row(columns.iter().map(|(_, cells)| &cells[row]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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

fn distances(run: &RunReport, epsilon: &EpsilonReport) -> String {
    let size = |size: &Option<f64>| size.map_or_else(|| format!("{:>8}", "-"), |size| format!("{size:8.4}"));
    let line = |report: &DistanceReport| {
        let found = format!("{} of {}", report.found.count, report.found.n);
        let sizes: String = report.quantiles.iter().map(size).collect();
        format!("  {:12}{found:>14}{sizes}\n", report.objective)
    };
    match run.distances.is_empty() {
        true => String::new(),
        false => {
            let shares: String = QUANTILES.iter().map(|share| format!("{:>6.0} %", 100.0 * share)).collect();
            format!(
                "{}: {:?} size of the smallest adversarial perturbation, of images that are right as they are\n  \
                 {:12}{:>14}{shares}\n{}",
                title(run),
                epsilon.norm,
                "objective",
                "found",
                run.distances.iter().map(line).collect::<String>()
            )
        }
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
