//! Which charts a run and a comparison have. A chart is there if its numbers are.

use neokd_attack::Norm;
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::{BINS, Calibration};
use neokd_train::run::best::ValidationRecord;

use crate::chart::{Axis, BarChart, HeatMap, LineChart, Point, Series};
use crate::compare::{self, MethodResult};
use crate::comparison::{Column, Comparison, groups};
use crate::history::Term;
use crate::report::{AttackReport, FOOLED, PolicyReport, Report, TransferReport, pixel_units};
use crate::run::Run;

/// Lines that a chart of several runs can hold before it shows methods, and methods that it can hold.
const LINES: usize = 8;

/// Where in a report a chart belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Accuracy of the exits on test images, under attacks of one strength or several.
    Accuracy,
    /// Leaving early.
    Budget,
    /// From attacked exits to others.
    Transfer,
    /// How training went.
    Training,
}

/// A chart with what must be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name for a file: letters, digits and dashes.
    pub name: String,
    /// Where it belongs.
    pub topic: Topic,
    /// What the reader must know to read it.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// The charts of one run.
pub fn of_run(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(report) = &run.report {
        figures.extend(anytime(report));
        figures.extend(strength(run));
        figures.extend(calibration(report));
        figures.extend(budget(report));
        figures.extend(leaving(report));
        figures.extend(transfer(report));
    }
    figures.extend(training(run));
    figures
}

fn percent(share: &Share, x: f64) -> Point {
    Point { x, y: 100.0 * share.value, interval: Some([100.0 * share.low, 100.0 * share.high]) }
}

fn millions(report: &Report, exit: usize) -> f64 {
    report.costs.get(exit).map_or(f64::NAN, |cost| cost.multiply_adds as f64 / 1e6)
}

fn line_figure(name: &str, topic: Topic, caption: String, chart: &LineChart) -> Option<Figure> {
    (!chart.is_empty()).then(|| Figure { name: name.to_string(), topic, caption, svg: chart.svg() })
}

const COST: &str = "multiply-adds per image, in millions";
const EPSILON: &str = "epsilon in pixel units (pixels are 0 to 1)";
const MEAN: &str = "accuracy in %, mean over the exits";
const AT_ZERO: &str = "Epsilon 0 is the clean accuracy; of several attempts with one epsilon, the strongest counts.";
/// More looks at validation images than this are thinned out.
const LOOKS: usize = 150;

fn anytime(report: &Report) -> Option<Figure> {
    let attacked = report.on_the_whole().map(|attack| (with_threat(attack), &attack.accuracy));
    let series = std::iter::once(("clean".to_string(), &report.clean)).chain(attacked).enumerate();
    let series = series.map(|(look, (name, accuracy))| {
        let points = accuracy.exits.iter().enumerate();
        let points = points.map(|(exit, share)| percent(share, millions(report, exit))).collect();
        Series { name, points, look }
    });
    let chart = LineChart {
        title: "Accuracy of each exit".to_string(),
        x: Axis::positive(COST),
        y: Axis::percent("accuracy in %"),
        series: series.collect(),
    };
    let caption = format!(
        "Every exit answers every image; a point is an exit, whiskers are 95 % intervals. n = {} test images.",
        report.n
    );
    line_figure("exits", Topic::Accuracy, caption, &chart)
}

fn with_threat(attack: &AttackReport) -> String {
    format!("{}, {}", attack.label(), attack.threat())
}

/// Mean accuracy against epsilon, where an attack was run with several.
fn strength(run: &Run) -> Option<Figure> {
    let report = run.report.as_ref()?;
    let mut series: Vec<Series> = Vec::new();
    for (index, attack) in report.on_the_whole().enumerate() {
        let name = format!("{}, {}", attack.label(), attack.norm);
        if let Some(points) = over_radii(run, &attack.label(), attack.norm)
            && series.iter().all(|series| series.name != name)
        {
            series.push(Series { name, points, look: index + 1 });
        }
    }
    let chart = LineChart {
        title: "Robust accuracy against epsilon".to_string(),
        x: Axis::positive(EPSILON),
        y: Axis::percent(MEAN),
        series,
    };
    line_figure("epsilon", Topic::Accuracy, AT_ZERO.to_string(), &chart)
}

/// Mean accuracy of a run under one attack with several radii, from the clean images on.
fn over_radii(run: &Run, label: &str, norm: Norm) -> Option<Vec<Point>> {
    let clean = run.report.as_ref()?.clean.mean;
    let attacks = run.reports().flat_map(|report| &report.attacks);
    let mut points: Vec<Point> = attacks
        .filter(|attack| attack.label() == label && attack.norm == norm)
        .map(|attack| Point { x: attack.epsilon, y: 100.0 * attack.accuracy.mean, interval: None })
        .filter(|point| point.x > 0.0)
        .collect();
    // Of several attempts with the same radius, the strongest.
    points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    points.dedup_by(|a, b| a.x == b.x);
    let several = points.len() > 1;
    points.insert(0, Point { x: 0.0, y: 100.0 * clean, interval: None });
    several.then_some(points)
}

/// How far each exit's confidence is from its accuracy.
fn calibration(report: &Report) -> Option<Figure> {
    let attacked = report.on_the_whole().map(|attack| (with_threat(attack), &attack.calibration));
    let named = std::iter::once(("clean".to_string(), &report.calibration)).chain(attacked);
    let percent = |exits: &Vec<Calibration>| exits.iter().map(|exit| 100.0 * exit.error).collect::<Vec<f64>>();
    let series = named.filter(|(_, exits)| !exits.is_empty()).map(|(name, exits)| (name, percent(exits)));
    let chart = BarChart {
        title: "Calibration of each exit".to_string(),
        x: "exit".to_string(),
        y: "expected calibration error in %".to_string(),
        groups: (0..report.calibration.len()).map(|exit| exit.to_string()).collect(),
        series: series.collect(),
    };
    let caption = format!(
        "The distance between how sure an exit is and how often it is right, mean over the images, in {BINS} bins of \
         confidence; n = {} test images. An exit with a small error knows when to let an image leave.",
        report.n
    );
    (!chart.groups.is_empty()).then(|| Figure {
        name: "calibration".to_string(),
        topic: Topic::Budget,
        caption,
        svg: chart.svg(),
    })
}

fn budget_points(policies: &[PolicyReport], ensemble: bool) -> Vec<Point> {
    let chosen = policies.iter().filter(|found| is_ensemble(found) == ensemble);
    let mut points: Vec<Point> =
        chosen.map(|found| percent(&found.found.accuracy, found.found.multiply_adds / 1e6)).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    // Whiskers on a crowded curve hide it.
    if points.len() > 12 {
        points.iter_mut().for_each(|point| point.interval = None);
    }
    points
}

fn is_ensemble(found: &PolicyReport) -> bool {
    found.policy.ensemble
}

fn budget(report: &Report) -> Option<Figure> {
    if report.policies.len() < 2 {
        return None;
    }
    let attacked = report.on_the_whole().map(|attack| (with_threat(attack), &attack.policies));
    let named = std::iter::once(("clean".to_string(), &report.policies)).chain(attacked);
    let series = named.enumerate().flat_map(|(look, (name, policies))| {
        // Seven further on, the colour is the same again, and the dash is another.
        let together = (format!("{name}, exits together"), true, look + 7);
        [(name, false, look), together].map(|(name, ensemble, look)| {
            let points = budget_points(policies, ensemble);
            Series { name, points, look }
        })
    });
    let chart = LineChart {
        title: "Accuracy for a budget".to_string(),
        x: Axis::positive(&format!("mean {COST}")),
        y: Axis::percent("accuracy in %"),
        series: series.filter(|series| !series.points.is_empty()).collect(),
    };
    let caption = format!(
        "Images leave at the first exit that is sure enough; each point is a budget with thresholds from validation \
         images. An attack on the policy is on the deployed one. n = {} test images.",
        report.n
    );
    line_figure("budget", Topic::Budget, caption, &chart)
}

/// Where images leave under the deployed policy.
fn leaving(report: &Report) -> Option<Figure> {
    let clean = report.deployed()?;
    let shares = |found: &PolicyReport| -> Vec<f64> {
        let all: u64 = found.found.left.iter().sum();
        found.found.left.iter().map(|count| 100.0 * *count as f64 / all.max(1) as f64).collect()
    };
    let attacked = report.on_the_whole().filter_map(|attack| Some((with_threat(attack), attack.under(clean)?)));
    let series: Vec<(String, Vec<f64>)> = std::iter::once(("clean".to_string(), clean))
        .chain(attacked)
        .map(|(name, found)| (format!("{name}: {:.2} M", found.found.multiply_adds / 1e6), shares(found)))
        .collect();
    let chart = BarChart {
        title: "Where images leave".to_string(),
        x: "exit".to_string(),
        y: "images in %".to_string(),
        groups: (0..clean.found.left.len()).map(|exit| exit.to_string()).collect(),
        series,
    };
    let caption = format!(
        "Beside each name the mean multiply-adds of an image, in millions. The policy is {}. n = {}.",
        policy_name(clean),
        report.n
    );
    Some(Figure { name: "leaving".to_string(), topic: Topic::Budget, caption, svg: chart.svg() })
}

fn transfer(report: &Report) -> Vec<Figure> {
    let attacks = report.attacks.iter().filter_map(|attack| Some((Some(attack), attack.transfer.as_ref()?)));
    let mut found: Vec<(Option<&AttackReport>, &TransferReport)> = attacks.collect();
    // Attacks on single exits say the same again, unless they are others.
    let said = |rows: &Vec<Vec<Share>>| found.iter().any(|(_, transfer)| transfer.rows == *rows);
    let singles = report.transfer_of_singles().filter(|transfer| !said(&transfer.rows));
    found.extend(singles.iter().map(|transfer| (None, transfer)));
    let figures = found.into_iter().enumerate().map(|(index, (attack, transfer))| {
        let title = attack.map_or(String::new(), |attack| format!(", {}", with_threat(attack)));
        let percent = |row: &Vec<Share>| row.iter().map(|share| 100.0 * share.value).collect();
        let chart = HeatMap {
            title: format!("Transfer between exits{title}"),
            rows: "attacked exit".to_string(),
            columns: "answering exit".to_string(),
            values: transfer.rows.iter().map(percent).collect(),
        };
        let caption = format!("Numbers are {}, in %.", transfer.measure);
        let name = if index == 0 { "transfer".to_string() } else { format!("transfer-{index}") };
        Figure { name, topic: Topic::Transfer, caption, svg: chart.svg() }
    });
    figures.collect()
}

fn training(run: &Run) -> Vec<Figure> {
    let Some(history) = &run.history else { return Vec::new() };
    let curve = |(look, term): (usize, &Term)| Series {
        name: term.name.clone(),
        points: term.points.iter().map(|&(x, y)| Point { x, y, interval: None }).collect(),
        look,
    };
    let loss = LineChart {
        title: "Loss terms".to_string(),
        x: Axis::positive("training step"),
        y: Axis {
            label: "loss, unweighted, mean over the exits".to_string(),
            limits: [f64::MIN, f64::MAX],
            least: 0.0,
        },
        series: history.terms.iter().enumerate().map(curve).collect(),
    };
    let averaged = match history.steps_per_point {
        1 => "Each point is a training step.".to_string(),
        steps => format!("Each point is the mean of {steps} training steps."),
    };
    let looks = thinned(&history.validation);
    let n = history.validation.iter().flat_map(|record| &record.clean).map(|share| share.n).max().unwrap_or(0);
    let held_out = |title: &str, pick: fn(&ValidationRecord) -> &Vec<Share>| {
        let exits = history.validation.iter().map(|record| pick(record).len()).max().unwrap_or(0);
        let series = (0..exits).map(|exit| {
            let points = looks.iter().filter_map(|record| {
                let share = pick(record).get(exit)?;
                Some(Point { x: record.step as f64, y: 100.0 * share.value, interval: None })
            });
            Series { name: format!("exit {exit}"), points: points.collect(), look: exit }
        });
        LineChart {
            title: title.to_string(),
            x: Axis::positive("training step"),
            y: Axis::percent("accuracy in %"),
            series: series.collect(),
        }
    };
    let caption = format!("On the first {n} held-out training images.");
    let attacked =
        format!("The same {n} images under the attack of validation, the one of training unless it is a single step.");
    let figures = [
        line_figure("loss", Topic::Training, averaged, &loss),
        line_figure(
            "validation-clean",
            Topic::Training,
            caption,
            &held_out("Validation, clean", |record| &record.clean),
        ),
        line_figure(
            "validation-robust",
            Topic::Training,
            attacked,
            &held_out("Validation, attacked", |record| &record.robust),
        ),
    ];
    figures.into_iter().flatten().collect()
}

/// Every so many looks, the last one always among them.
fn thinned(looks: &[ValidationRecord]) -> Vec<&ValidationRecord> {
    let every = looks.len().div_ceil(LOOKS).max(1);
    let from_the_end: Vec<&ValidationRecord> = looks.iter().rev().step_by(every).collect();
    from_the_end.into_iter().rev().collect()
}

/// The transfer matrix of each method, in mean over its seeds.
pub fn of_methods(comparison: &compare::Comparison) -> Vec<Figure> {
    let figure = |method: &MethodResult| {
        let percent = |row: &Vec<f64>| row.iter().map(|share| 100.0 * share).collect();
        let chart = HeatMap {
            title: format!("Transfer between exits, {}", method.method),
            rows: "attacked exit".to_string(),
            columns: "answering exit".to_string(),
            values: method.transfer_matrix.iter().map(percent).collect(),
        };
        let runs = match method.runs.len() {
            1 => "one run".to_string(),
            count => format!("in mean over {count} runs"),
        };
        let caption = format!("Numbers are {FOOLED}, in %; {runs}.");
        Figure { name: format!("transfer-{}", method.method), topic: Topic::Transfer, caption, svg: chart.svg() }
    };
    comparison.methods.iter().map(figure).collect()
}

/// The charts of several runs together.
pub fn of_comparison(comparison: &Comparison<'_>) -> Vec<Figure> {
    let strongest = comparison.strongest();
    let exits = |report: &Report, accuracy: &neokd_evaluate::accuracy::Accuracy| -> Vec<Point> {
        let shares = accuracy.exits.iter().enumerate();
        shares.map(|(exit, share)| percent(share, millions(report, exit))).collect()
    };
    let attacked = |run: &Run, column: &Column| Some(exits(run.report.as_ref()?, &column.result(run)?.accuracy));
    let lines = |name: &str, topic, title: String, x: &str, y: &str, points: &dyn Fn(&Run) -> Option<Vec<Point>>| {
        let (series, caption) = run_series(comparison, points);
        let chart = LineChart { title, x: Axis::positive(x), y: Axis::percent(y), series };
        line_figure(name, topic, caption, &chart)
    };
    let by_step = |run: &Run| {
        let looks = thinned(&run.history.as_ref()?.validation);
        let points = looks.into_iter().filter(|record| !record.robust.is_empty()).map(|record| {
            let sum: f64 = record.robust.iter().map(|share| share.value).sum();
            Point { x: record.step as f64, y: 100.0 * sum / record.robust.len() as f64, interval: None }
        });
        Some(points.collect())
    };
    let budgets =
        |policies: &[PolicyReport]| (policies.len() > 1).then(|| budget_points(policies, is_ensemble(&policies[0])));
    let name = strongest.map(|column| format!("{}, {}", column.label, column.setting)).unwrap_or_default();
    let mean_cost = format!("mean {COST}");
    let accuracy = "accuracy in %";
    let figures = [
        lines("exits-clean", Topic::Accuracy, "Exits, clean".to_string(), COST, accuracy, &|run| {
            run.report.as_ref().map(|report| exits(report, &report.clean))
        }),
        strongest.and_then(|column| {
            let title = format!("Exits under {name}");
            lines("exits-attacked", Topic::Accuracy, title, COST, accuracy, &|run| attacked(run, column))
        }),
        strongest.and_then(|column| {
            let title = format!("{} against epsilon", column.label);
            lines("epsilon", Topic::Accuracy, title, EPSILON, MEAN, &|run| {
                over_radii(run, &column.label, column.result(run)?.norm)
            })
        }),
        lines("budget-clean", Topic::Budget, "Budgets, clean".to_string(), &mean_cost, accuracy, &|run| {
            budgets(&run.report.as_ref()?.policies)
        }),
        strongest.and_then(|column| {
            let title = format!("Budgets under {name}");
            lines("budget-attacked", Topic::Budget, title, &mean_cost, accuracy, &|run| {
                budgets(&column.result(run)?.policies)
            })
        }),
        lines(
            "validation-robust",
            Topic::Training,
            "Validation, attacked".to_string(),
            "training step",
            MEAN,
            &by_step,
        ),
    ];
    figures.into_iter().flatten().collect()
}

/// A line per run; with many runs, a line per method, with the lowest and the highest seed as whiskers.
fn run_series(comparison: &Comparison<'_>, points: &dyn Fn(&Run) -> Option<Vec<Point>>) -> (Vec<Series>, String) {
    if comparison.runs.len() <= LINES {
        let series = comparison
            .runs
            .iter()
            .enumerate()
            .filter_map(|(look, run)| Some(Series { name: run.name.clone(), points: points(run)?, look }));
        let caption = "A line is a run; whiskers, where drawn, are 95 % intervals.".to_string();
        return (series.filter(|series| !series.points.is_empty()).collect(), caption);
    }
    let mut series: Vec<Series> = Vec::new();
    for (look, group) in groups(comparison.runs).into_iter().enumerate() {
        let curves: Vec<Vec<Point>> =
            group.runs.iter().filter_map(|run| points(run)).filter(|curve| !curve.is_empty()).collect();
        if !curves.is_empty() {
            series.push(Series { name: group.method, points: over_seeds(&curves), look });
        }
    }
    let all = series.len();
    series.sort_by(|a, b| height(b).total_cmp(&height(a)));
    series.truncate(LINES);
    series.sort_by_key(|series| series.look);
    let shown = if all > LINES { format!(" The best {LINES} of {all} methods are drawn.") } else { String::new() };
    let caption = "A line is a method, mean over its seeds; whiskers run from the lowest seed to the highest.";
    (series, format!("{caption}{shown}"))
}

fn height(series: &Series) -> f64 {
    series.points.iter().map(|point| point.y).sum::<f64>() / series.points.len().max(1) as f64
}

/// The mean curve, point by point, as far as all curves go.
fn over_seeds(curves: &[Vec<Point>]) -> Vec<Point> {
    let length = curves.iter().map(Vec::len).min().unwrap_or(0);
    let mean = |values: &dyn Fn(&Point) -> f64, index: usize| {
        curves.iter().map(|curve| values(&curve[index])).sum::<f64>() / curves.len() as f64
    };
    let point = |index: usize| {
        let heights = || curves.iter().map(|curve| curve[index].y);
        let ends = [heights().fold(f64::INFINITY, f64::min), heights().fold(f64::NEG_INFINITY, f64::max)];
        let interval = (curves.len() > 1 && length <= 12).then_some(ends);
        Point { x: mean(&|point| point.x, index), y: mean(&|point| point.y, index), interval }
    };
    (0..length).map(point).collect()
}

/// What a policy does, in words.
pub fn policy_name(found: &PolicyReport) -> String {
    let policy = serde_json::to_value(&found.policy).unwrap_or_default();
    let together = if is_ensemble(found) { ", exits together" } else { "" };
    let text = match policy["rule"].as_object().and_then(|rule| rule.iter().next()) {
        Some((name, serde_json::Value::Array(thresholds))) if thresholds.len() > 1 => {
            let list =
                thresholds.iter().map(|value| value.as_f64().map_or("–".to_string(), |value| format!("{value:.3}")));
            format!("{name} {}", list.collect::<Vec<_>>().join(", "))
        }
        Some((name, serde_json::Value::Array(threshold))) => {
            format!("{name} {}", threshold.first().and_then(serde_json::Value::as_f64).map_or("–".into(), pixel_units))
        }
        Some((name, value)) => format!("{name} {value}"),
        None => "policy".to_string(),
    };
    format!("{text}{together}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_averaged_point_by_point() {
        let curve = |ys: &[f64]| ys.iter().map(|&y| Point { x: 1.0, y, interval: None }).collect::<Vec<_>>();
        let mean = over_seeds(&[curve(&[10.0, 20.0]), curve(&[30.0, 40.0, 50.0])]);
        assert_eq!(mean.iter().map(|point| point.y).collect::<Vec<_>>(), [20.0, 30.0]);
        assert_eq!(mean[0].interval, Some([10.0, 30.0]));
    }
}
