//! The tables of the page.

use std::fmt::Write as _;

use neokd_attack::Level;
use neokd_evaluate::accuracy::Accuracy;
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::Calibration;

use crate::chart::escape;
use crate::compare::{self, MEASURES};
use crate::comparison::{Comparison, Group, Mean, Spread};
use crate::figures::policy_name;
use crate::report::{AttackReport, PolicyReport, Report, WorstReport};
use crate::table::POLICIES;

/// A verdict as a small mark; nothing without one.
pub(super) fn chip(verdict: Option<&(Level, Vec<String>)>) -> String {
    let Some((level, sentences)) = verdict else { return String::new() };
    format!(" <span class=\"chip {level}\" title=\"{}\">{level}</span>", escape(&sentences.join("; ")))
}

fn table(head: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn share(share: &Share) -> String {
    format!("<td>{:.2}<small>[{:.2}, {:.2}]</small></td>", 100.0 * share.value, 100.0 * share.low, 100.0 * share.high)
}

fn mean(mean: Option<Mean>, best: bool) -> String {
    let class = if best { " class=\"best\"" } else { "" };
    match mean {
        None => "<td>–</td>".to_string(),
        Some(Mean { value, interval: [low, high], .. }) => {
            format!("<td{class}>{:.2}<small>[{:.2}, {:.2}]</small></td>", 100.0 * value, 100.0 * low, 100.0 * high)
        }
    }
}

fn attack_head(attack: &AttackReport) -> String {
    format!(
        "<th>{}{}<small>{}</small></th>",
        escape(&attack.label()),
        chip(attack.judged().as_ref()),
        escape(&attack.setting())
    )
}

fn worst_head(worst: &WorstReport) -> String {
    format!("<th>worst case<small>of all, {}</small></th>", escape(&worst.threat()))
}

/// Exits by clean and attacks.
pub(super) fn exits(report: &Report) -> String {
    let mut head = "<th>exit</th><th>cost<small>M multiply-adds</small></th><th>clean<small>accuracy in %</small></th>"
        .to_string();
    head.extend(report.attacks.iter().map(attack_head));
    head.extend(report.worst.iter().map(worst_head));
    let columns: Vec<&Accuracy> = report.accuracies().collect();
    let mut rows = String::new();
    for exit in 0..report.clean.exits.len() {
        let cost =
            report.costs.get(exit).map_or("–".to_string(), |cost| format!("{:.2}", cost.multiply_adds as f64 / 1e6));
        let cells: String =
            columns.iter().map(|column| column.exits.get(exit).map_or("<td>–</td>".to_string(), share)).collect();
        let _ = writeln!(rows, "<tr><td>{exit}</td><td>{cost}</td>{cells}</tr>");
    }
    let means: String = columns.iter().map(|column| mean(Mean::of(column), false)).collect();
    let _ = writeln!(rows, "<tr class=\"mean\"><td>mean</td><td></td>{means}</tr>");
    if report.calibration.iter().chain(report.attacks.iter().flat_map(|attack| &attack.calibration)).next().is_some() {
        let attacked = report.attacks.iter().map(|attack| &attack.calibration);
        let cells: String =
            std::iter::once(&report.calibration).chain(attacked).map(|exits| calibration(exits)).collect();
        let _ = writeln!(rows, "<tr><td>calibration error</td><td></td>{cells}</tr>");
    }
    let caption = format!(
        "<p class=\"caption\">Accuracy in % with 95 % interval; n = {} test images in every cell. The same attacked image \
         is scored at all exits. Worst case: per image, whatever was tried at that radius and smaller ones.</p>\n",
        report.n
    );
    format!("{caption}{}", table(&head, &rows))
}

/// Expected calibration error in per cent, exit by exit below their mean.
fn calibration(exits: &[Calibration]) -> String {
    let percent = |error: f64| format!("{:.2}", 100.0 * error);
    match exits.len() {
        0 => "<td>–</td>".to_string(),
        count => {
            let mean = percent(exits.iter().map(|exit| exit.error).sum::<f64>() / count as f64);
            let each: Vec<String> = exits.iter().map(|exit| percent(exit.error)).collect();
            format!("<td>{mean}<small>{}</small></td>", each.join(", "))
        }
    }
}

/// Each exit under the attack on it alone, and images that no exit loses, for attacks that say so.
pub(super) fn own_exits(report: &Report) -> String {
    let attacks: Vec<&AttackReport> = report.attacks.iter().filter(|attack| attack.any_exit.is_some()).collect();
    if attacks.is_empty() {
        return String::new();
    }
    let mut head = "<th>exit</th>".to_string();
    head.extend(attacks.iter().map(|attack| attack_head(attack)));
    head.extend(report.worst.iter().map(worst_head));
    let own: Vec<&[Option<Share>]> =
        attacks.iter().map(|attack| &*attack.own).chain(report.worst.iter().map(|worst| &*worst.own)).collect();
    let cell = |found: Option<&Share>| found.map_or("<td>–</td>".to_string(), share);
    let mut rows = String::new();
    for exit in 0..report.clean.exits.len() {
        let cells = own.iter().map(|own| cell(own.get(exit).and_then(Option::as_ref)));
        let _ = writeln!(rows, "<tr><td>{exit}</td>{}</tr>", cells.collect::<String>());
    }
    let worst = report.worst.iter().map(|worst| Some(&worst.any_exit));
    let everywhere = attacks.iter().map(|attack| attack.any_exit.as_ref()).chain(worst);
    let everywhere: String = everywhere.map(cell).collect();
    let _ = writeln!(rows, "<tr class=\"mean\"><td>all exits</td>{everywhere}</tr>");
    if report.worst.iter().any(|worst| worst.deployed.is_some()) {
        let worst = report.worst.iter().map(|worst| cell(worst.deployed.as_ref()));
        let cells: String = attacks.iter().map(|_| cell(None)).chain(worst).collect();
        let _ = writeln!(rows, "<tr class=\"mean\"><td>deployed</td>{cells}</tr>");
    }
    format!(
        "<h3>Each exit under the attack on it alone</h3>\n<p class=\"caption\">Accuracy in %; max-average shows of several \
         attacks only the one that is worst on average. All exits: images that every exit is right about, whatever was \
         tried. Deployed: images that the deployed system answers correctly, whatever was tried.</p>\n{}",
        table(&head, &rows)
    )
}

/// Policies by cost, clean and attacked, and what withstands everything; where there are so many that they are a curve,
/// the deployed one.
pub(super) fn policies(report: &Report) -> String {
    let shown: Vec<&PolicyReport> = match report.policies.len() <= POLICIES {
        true => report.policies.iter().collect(),
        false => report.deployed().into_iter().collect(),
    };
    let head = "<th>policy</th><th class=\"text\">images</th><th>accuracy<small>in %</small></th>\
                <th>cost<small>M multiply-adds</small></th><th>efficacy</th><th>robust<small>in %</small></th>";
    let row = |(name, images): (&str, &str), found: &PolicyReport| {
        let cost = format!("{:.2}", found.found.multiply_adds / 1e6);
        let saved = format!("{:.3}", found.efficacy);
        let robust = found.robust.as_ref().map_or("<td>–</td>".to_string(), share);
        format!(
            "<tr><td>{}</td><td class=\"text\">{}</td>{}<td>{cost}</td><td>{saved}</td>{robust}</tr>\n",
            escape(name),
            escape(images),
            share(&found.found.accuracy)
        )
    };
    let mut rows = String::new();
    for clean in shown {
        rows.push_str(&row((&policy_name(clean), "clean"), clean));
        let attacks = report.attacks.iter().filter_map(|attack| Some((attack.label(), attack.under(clean)?)));
        rows.extend(attacks.map(|(label, found)| row(("", &label), found)));
    }
    let caption = format!(
        "<p class=\"caption\">Images leave at the first exit that the policy accepts; n = {}. Efficacy is the area under \
         the share of images that have left, by the share of the whole cost spent, from (0, 0) to (1, 1): 1 if \
         all leave for nothing. Robust: answered correctly as they are and whatever was tried. The attacks are on the exits, \
         unless they are named policy or slow.</p>\n",
        report.n
    );
    format!("{caption}{}", table(head, &rows))
}

/// Runs by clean and attacks.
pub(super) fn comparison(comparison: &Comparison<'_>) -> String {
    let mut head = "<th>run</th><th>n</th><th>clean<small>accuracy in %</small></th>".to_string();
    for attack in &comparison.attacks {
        let _ = write!(head, "<th>{}<small>{}</small></th>", escape(&attack.label), escape(&attack.setting));
    }
    let columns: Vec<Vec<Option<Mean>>> = std::iter::once(comparison.runs.iter().map(Comparison::clean).collect())
        .chain(
            comparison
                .attacks
                .iter()
                .map(|attack| comparison.runs.iter().map(|run| Comparison::attacked(run, attack)).collect::<Vec<_>>()),
        )
        .collect();
    let mut rows = String::new();
    for (index, run) in comparison.runs.iter().enumerate() {
        let cells: String = columns.iter().map(|column| mean(column[index], is_best(column, index))).collect();
        let n = run.report.as_ref().map_or("–".to_string(), |report| report.n.to_string());
        let verdict = run.report.as_ref().and_then(Report::verdict);
        let state = if run.report.is_some() { String::new() } else { format!(", {}", run.state()) };
        let _ = writeln!(
            rows,
            "<tr><td>{}{}<small>{}</small></td><td>{n}</td>{cells}</tr>",
            escape(&run.name),
            chip(verdict.as_ref()),
            escape(&format!("{}, seed {}{state}", run.method(), run.setting("/seed")))
        );
    }
    format!(
        "<p class=\"caption\">Accuracy in %, mean over the exits; n is the number of test images. In brackets the mean of \
         the exits' 95 % intervals. The best of a column is coloured and bold; runs whose intervals overlap may differ by \
         chance.</p>\n{}",
        table(&head, &rows)
    )
}

fn is_best(column: &[Option<Mean>], index: usize) -> bool {
    let best = column.iter().flatten().map(|mean| mean.value).fold(f64::NEG_INFINITY, f64::max);
    let differ = column.iter().flatten().any(|mean| mean.value < best);
    differ && column[index].is_some_and(|mean| mean.value == best)
}

/// Methods by clean and attacks, over seeds.
pub(super) fn groups(comparison: &Comparison<'_>, groups: &[Group<'_>]) -> String {
    let mut head = "<th>method</th><th>runs</th><th>clean<small>accuracy in %</small></th>".to_string();
    for attack in &comparison.attacks {
        let _ = write!(head, "<th>{}<small>{}</small></th>", escape(&attack.label), escape(&attack.setting));
    }
    let mut rows = String::new();
    for group in groups {
        let clean: Vec<f64> =
            group.runs.iter().filter_map(|run| Comparison::clean(run)).map(|mean| mean.value).collect();
        let attacked = comparison.attacks.iter().map(|attack| {
            let means = group.runs.iter().filter_map(|run| Comparison::attacked(run, attack));
            means.map(|mean| mean.value).collect::<Vec<f64>>()
        });
        let cells: String = std::iter::once(clean).chain(attacked).map(|values| spread(&values)).collect();
        let _ = writeln!(rows, "<tr><td>{}</td><td>{}</td>{cells}</tr>", escape(&group.method), group.runs.len());
    }
    format!(
        "<p class=\"caption\">Mean over the seeds; below it the lowest and the highest seed.</p>\n{}",
        table(&head, &rows)
    )
}

fn spread(values: &[f64]) -> String {
    match Spread::of(values) {
        None => "<td>–</td>".to_string(),
        Some(Spread { mean, ends: [low, high], .. }) => {
            format!("<td>{:.2}<small>{:.2} to {:.2}</small></td>", 100.0 * mean, 100.0 * low, 100.0 * high)
        }
    }
}

/// Measures and methods by exits and their mean, over seeds.
pub(super) fn measures(comparison: &compare::Comparison) -> String {
    let exits = comparison.methods.iter().flat_map(|method| &method.measures).map(|measure| measure.exits.len());
    let mut head = "<th>measure</th><th class=\"text\">method</th><th>runs</th>".to_string();
    head.extend((0..exits.max().unwrap_or(0)).map(|exit| format!("<th>exit {exit}</th>")));
    head.push_str("<th>mean</th>");
    let cell = |spread: &compare::Spread| match spread.deviation {
        Some(deviation) => format!("<td>{:.2}<small>±{:.2}</small></td>", 100.0 * spread.mean, 100.0 * deviation),
        None => format!("<td>{:.2}</td>", 100.0 * spread.mean),
    };
    let mut rows = String::new();
    for (at, name) in comparison.measures().enumerate() {
        for (row, method) in comparison.methods.iter().enumerate() {
            let (class, title) = if row == 0 { (" class=\"first\"", name) } else { ("", "") };
            let measure = &method.measures[at];
            let cells: String = measure.exits.iter().chain([&measure.mean]).map(cell).collect();
            let (method, runs) = (escape(&method.method), method.runs.len());
            let _ = writeln!(
                rows,
                "<tr{class}><td>{title}</td><td class=\"text\">{method}</td><td>{runs}</td>{cells}</tr>"
            );
        }
    }
    format!(
        "<p class=\"caption\">In %, n = {} test images in every run: mean and, of several seeds, sample standard deviation. \
         clean, max-average and average are accuracies; {MEASURES}.</p>\n{}",
        comparison.n,
        table(&head, &rows)
    )
}

/// Every pair of methods in every measure, folded away.
pub(super) fn differences(comparison: &compare::Comparison) -> String {
    let head = "<th>measure</th><th class=\"text\">higher</th><th class=\"text\">lower</th>\
                <th>difference<small>points</small></th><th>spread<small>points</small></th><th>larger</th>";
    let rows: String = comparison
        .differences
        .iter()
        .map(|each| {
            let spread = each.spread.map_or("–".to_string(), |spread| format!("{:.2}", 100.0 * spread));
            let larger = each.larger_than_spread.map_or("–", |larger| if larger { "yes" } else { "no" });
            format!(
                "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{:.2}</td>\
                 <td>{spread}</td><td>{larger}</td></tr>\n",
                escape(&each.measure),
                escape(&each.higher),
                escape(&each.lower),
                100.0 * each.difference
            )
        })
        .collect();
    match rows.is_empty() {
        true => rows,
        false => format!(
            "<details><summary>Every pair of methods</summary>\n<p class=\"caption\">Means over the exits; the spread is \
             the root of the summed squares of both standard deviations. No test of significance.</p>\n{}</details>\n",
            table(head, &rows)
        ),
    }
}
