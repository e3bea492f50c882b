//! Training methods side by side: what their runs' reports say, in mean and spread over seeds, and which
//! differences are larger than the spread.

use neokd_attack::Objective;
use neokd_evaluate::interval::Share;
use serde::{Deserialize, Serialize};

use crate::comparison::{Group, groups};
use crate::report::{AttackReport, Report};
use crate::run::Run;

/// Version of the schema of `compare.json`.
pub const SCHEMA: &str = "neokd.compare/1";

/// The attacks of a comparison: the paper's two, and each exit's own.
pub fn targets(exits: usize) -> Vec<Objective> {
    let own = (0..exits).map(Objective::Single);
    [Objective::MaxAverage, Objective::Average].into_iter().chain(own).collect()
}

/// Whether a report has everything that a comparison needs.
pub fn is_enough(report: &Report) -> bool {
    let exits = report.costs.len();
    let complete = report.training.as_ref().is_some_and(|training| training.complete);
    let of_all_exits = |shares: &[Share]| shares.len() == exits;
    let attacked = |target: &Objective| {
        under(report, *target).is_some_and(|attack| {
            let single = attack.single().is_some();
            of_all_exits(&attack.accuracy.exits) && (!single || of_all_exits(&attack.fooled))
        })
    };
    complete && of_all_exits(&report.clean.exits) && targets(exits).iter().all(attacked)
}

/// A comparison; the JSON has these fields. Accuracies and success rates are in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// Seeds of the runs of every method.
    pub seeds: Vec<u64>,
    /// Test images scored in each run.
    pub n: u64,
    /// The methods, in the order asked for.
    pub methods: Vec<MethodResult>,
    /// Every pair of methods.
    pub differences: Vec<Difference>,
}

/// One method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    /// Its name.
    pub method: String,
    /// Its runs, one per seed; each folder holds the whole report.
    pub runs: Vec<RunResult>,
    /// Mean and spread over the runs, for each of `clean`, `max-average`, `average`, `own` (each exit
    /// under the attack on itself) and `transfer` (success at each exit of attacks on the others).
    pub measures: Vec<Measure>,
    /// Success in mean over the runs: row, the attacked exit; column, the measured one.
    pub transfer_matrix: Vec<Vec<f64>>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its directory inside the comparison's.
    pub folder: String,
    /// Each measure's mean over the exits.
    pub means: Vec<f64>,
}

/// One measure over the runs of a method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What is measured.
    pub name: String,
    /// Per exit.
    pub exits: Vec<Spread>,
    /// Mean over the exits.
    pub mean: Spread,
}

/// Mean and spread over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; none for a single seed.
    pub deviation: Option<f64>,
}

/// Two methods in one measure, mean over exits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is measured.
    pub measure: String,
    /// The method with the larger mean.
    pub higher: String,
    /// The other.
    pub lower: String,
    /// How much larger.
    pub difference: f64,
    /// `sqrt(s_1^2 + s_2^2)` of the two standard deviations: by how much two single runs of equal
    /// methods would differ; none for a single seed.
    pub spread: Option<f64>,
    /// Whether the difference is larger than the spread. No test of significance: with few seeds the
    /// spread itself is uncertain.
    pub larger_than_spread: Option<bool>,
}

impl Spread {
    /// Of the given values, at least one.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }

    /// In per cent, with the deviation where there is one: `97.42 ±0.31`.
    pub fn percent(&self) -> String {
        match self.deviation {
            Some(deviation) => format!("{:.2} ±{:.2}", 100.0 * self.mean, 100.0 * deviation),
            None => format!("{:.2}", 100.0 * self.mean),
        }
    }
}

/// What the measures of a comparison are, for those who read its tables.
pub const MEASURES: &str = "own: each exit under the attack on itself; transfer: success at an exit of attacks on the \
                            others, lower is better";

impl Comparison {
    /// Puts together the runs that have everything that a comparison needs and that were attacked as the first of
    /// these; a run's method is [`Run::method`].
    pub fn of(runs: &[Run]) -> Self {
        let enough: Vec<(&Run, &Report)> = runs
            .iter()
            .filter_map(|run| Some((run, run.report.as_ref().filter(|report| is_enough(report))?)))
            .collect();
        let first = enough.first().map(|(_, report)| *report);
        let alike = enough.iter().filter(|(_, report)| first.is_some_and(|first| settings(first) == settings(report)));
        let methods: Vec<MethodResult> = groups(alike.map(|(run, _)| *run)).iter().map(MethodResult::of).collect();
        Self {
            schema: SCHEMA.to_string(),
            seeds: methods.first().map_or_else(Vec::new, |method| method.runs.iter().map(|run| run.seed).collect()),
            n: first.map_or(0, |report| report.n),
            differences: differences(&methods),
            methods,
        }
    }

    /// Whether a run of this name is in it.
    pub fn holds(&self, run: &str) -> bool {
        self.methods.iter().flat_map(|method| &method.runs).any(|result| result.folder == run)
    }

    /// Names of the measures.
    pub fn measures(&self) -> impl Iterator<Item = &str> {
        self.methods.first().into_iter().flat_map(|method| method.measures.iter().map(|measure| measure.name.as_str()))
    }

    /// A sentence that introduces [`findings`](Self::findings), or says why there can be none.
    pub fn about_findings(&self) -> &'static str {
        match self.has_spread() {
            true => "differences of means over exits that are larger than the spread of two single runs",
            false => "one seed has no spread: nothing can be said about differences; give --seeds 3",
        }
    }

    /// For each measure, which methods differ by more than the spread: `skd > at by 1.20, ...`, in percentage points,
    /// or `none`; nothing where no method has several seeds.
    pub fn findings(&self) -> Vec<(&str, String)> {
        if !self.has_spread() {
            return Vec::new();
        }
        let of_measure = |name| {
            let found = self.differences.iter().filter(|each| each.measure == name);
            let larger = found
                .filter(|each| each.larger_than_spread == Some(true))
                .map(|each| format!("{} > {} by {:.2}", each.higher, each.lower, 100.0 * each.difference));
            larger.collect::<Vec<_>>().join(", ")
        };
        let sentence = |name| Some(of_measure(name)).filter(|text| !text.is_empty()).unwrap_or("none".to_string());
        self.measures().map(|name| (name, sentence(name))).collect()
    }

    fn has_spread(&self) -> bool {
        self.differences.iter().any(|difference| difference.spread.is_some())
    }
}

impl MethodResult {
    /// Of runs that all have everything that a comparison needs.
    fn of(group: &Group<'_>) -> Self {
        let found: Vec<(&Run, &Report)> =
            group.runs.iter().filter_map(|run| Some((*run, run.report.as_ref()?))).collect();
        let measured: Vec<Vec<(&str, Vec<f64>)>> = found.iter().map(|(_, report)| measure(report)).collect();
        let names: Vec<&str> =
            measured.first().map_or_else(Vec::new, |run| run.iter().map(|(name, _)| *name).collect());
        let measures = names.iter().enumerate().map(|(at, name)| {
            let of_exit = |exit: usize| Spread::of(&measured.iter().map(|run| run[at].1[exit]).collect::<Vec<_>>());
            let means: Vec<f64> = measured.iter().map(|run| mean(&run[at].1)).collect();
            let exits = measured.first().map_or(0, |run| run[at].1.len());
            Measure { name: name.to_string(), exits: (0..exits).map(of_exit).collect(), mean: Spread::of(&means) }
        });
        let results = found.iter().zip(&measured).map(|((run, report), measured)| RunResult {
            seed: report.seed,
            folder: run.name.clone(),
            means: measured.iter().map(|(_, exits)| mean(exits)).collect(),
        });
        let matrices: Vec<Vec<Vec<f64>>> = found.iter().map(|(_, report)| transfer(report)).collect();
        Self {
            method: group.method.clone(),
            runs: results.collect(),
            measures: measures.collect(),
            transfer_matrix: average(&matrices),
        }
    }
}

fn under(report: &Report, target: Objective) -> Option<&AttackReport> {
    report.attacks.iter().find(|attack| attack.objective == target.to_string())
}

/// How each attack of a comparison was run.
fn settings(report: &Report) -> Vec<Option<String>> {
    let attack = |target| under(report, target).map(|attack| format!("{}, {}", attack.label(), attack.setting()));
    targets(report.costs.len()).into_iter().map(attack).collect()
}

/// The measures of one run, each with a value per exit.
fn measure(report: &Report) -> Vec<(&'static str, Vec<f64>)> {
    let values = |shares: &[Share]| shares.iter().map(|share| share.value).collect::<Vec<f64>>();
    let exits = report.costs.len();
    let attacked = |target| under(report, target).map_or_else(Vec::new, |attack| values(&attack.accuracy.exits));
    let matrix = transfer(report);
    let from_others = |at: usize| {
        let others = (0..exits).filter(|&exit| exit != at).map(|exit| matrix[exit][at]);
        others.sum::<f64>() / (exits - 1).max(1) as f64
    };
    vec![
        ("clean", values(&report.clean.exits)),
        ("max-average", attacked(Objective::MaxAverage)),
        ("average", attacked(Objective::Average)),
        ("own", (0..exits).map(|exit| attacked(Objective::Single(exit))[exit]).collect()),
        ("transfer", (0..exits).map(from_others).collect()),
    ]
}

/// Row: the attacked exit; column: the measured one.
fn transfer(report: &Report) -> Vec<Vec<f64>> {
    let row = |exit| under(report, Objective::Single(exit)).map(|attack| &attack.fooled);
    let rows = (0..report.costs.len()).filter_map(row);
    rows.map(|fooled| fooled.iter().map(|share| share.value).collect()).collect()
}

fn average(matrices: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    let Some(first) = matrices.first() else {
        return Vec::new();
    };
    let cell = |row: usize, column: usize| mean(&matrices.iter().map(|matrix| matrix[row][column]).collect::<Vec<_>>());
    (0..first.len()).map(|row| (0..first[row].len()).map(|column| cell(row, column)).collect()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn differences(methods: &[MethodResult]) -> Vec<Difference> {
    let pairs =
        methods.iter().enumerate().flat_map(|(at, first)| methods[at + 1..].iter().map(move |second| (first, second)));
    let pairs: Vec<(&MethodResult, &MethodResult)> = pairs.collect();
    let measures = methods.first().map_or(0, |method| method.measures.len());
    let each = (0..measures).flat_map(|at| pairs.iter().map(move |(first, second)| difference(first, second, at)));
    each.collect()
}

fn difference(first: &MethodResult, second: &MethodResult, at: usize) -> Difference {
    let (one, other) = (first.measures[at].mean, second.measures[at].mean);
    let (higher, lower) = if one.mean >= other.mean { (first, second) } else { (second, first) };
    let difference = (one.mean - other.mean).abs();
    let spread = one.deviation.zip(other.deviation).map(|(one, other)| one.hypot(other));
    Difference {
        measure: first.measures[at].name.clone(),
        higher: higher.method.clone(),
        lower: lower.method.clone(),
        difference,
        spread,
        larger_than_spread: spread.map(|spread| difference > spread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str, means: [f64; 3]) -> MethodResult {
        let spread = Spread::of(&means);
        let measure = Measure { name: "average".to_string(), exits: vec![spread], mean: spread };
        MethodResult {
            method: name.to_string(),
            runs: Vec::new(),
            measures: vec![measure],
            transfer_matrix: Vec::new(),
        }
    }

    #[test]
    fn a_spread_is_the_sample_standard_deviation() {
        let spread = Spread::of(&[2.0, 4.0, 9.0]);
        assert_eq!(spread.mean, 5.0);
        assert!((spread.deviation.unwrap() - 13.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[1.0]).deviation, None);
    }

    #[test]
    fn a_difference_is_held_against_the_spread_of_both() {
        let methods =
            [method("at", [0.50, 0.52, 0.54]), method("ard", [0.51, 0.52, 0.53]), method("neo-kd", [0.60, 0.61, 0.62])];
        let found = differences(&methods);
        let sentences: Vec<(&str, &str, Option<bool>)> =
            found.iter().map(|each| (each.higher.as_str(), each.lower.as_str(), each.larger_than_spread)).collect();
        assert_eq!(
            sentences,
            [("at", "ard", Some(false)), ("neo-kd", "at", Some(true)), ("neo-kd", "ard", Some(true))]
        );
    }
}
