//! Several runs side by side: the attacks that they have in common, means with intervals, and means over
//! the seeds of a method.

use neokd_evaluate::accuracy::Accuracy;

use crate::report::{AttackReport, Report};
use crate::run::Run;

/// Runs as rows, clean accuracy and attacks as columns.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// The rows.
    pub runs: &'a [Run],
    /// The attacks of the runs' main reports, and those of further reports that several runs have.
    pub attacks: Vec<Column>,
}

/// An attack that several runs may have been put to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name of the attack.
    pub label: String,
    /// The threat and how hard it tried.
    pub setting: String,
}

/// Accuracy, mean over the exits, all in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Mean of the exits' lower and upper ends. The exits answer to the same images, so this holds the mean with at
    /// least 95 %, however they depend on each other.
    pub interval: [f64; 2],
    /// Images.
    pub n: u64,
}

/// The runs of one method.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Name of the method.
    pub method: String,
    /// Its runs.
    pub runs: Vec<&'a Run>,
}

/// A figure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean over the seeds.
    pub mean: f64,
    /// Lowest and highest seed.
    pub ends: [f64; 2],
    /// How many seeds.
    pub seeds: usize,
}

impl Column {
    fn of(attack: &AttackReport) -> Self {
        Self { label: attack.label(), setting: attack.setting() }
    }

    /// This attack's result on a run.
    pub fn result<'a>(&self, run: &'a Run) -> Option<&'a AttackReport> {
        run.reports().flat_map(|report| &report.attacks).find(|attack| Self::of(attack) == *self)
    }
}

impl Mean {
    /// The mean of an accuracy; nothing without exits.
    pub fn of(accuracy: &Accuracy) -> Option<Self> {
        let exits = accuracy.exits.len() as f64;
        let n = accuracy.exits.first()?.n;
        let low = accuracy.exits.iter().map(|share| share.low).sum::<f64>() / exits;
        let high = accuracy.exits.iter().map(|share| share.high).sum::<f64>() / exits;
        Some(Self { value: accuracy.mean, interval: [low, high], n })
    }
}

impl Spread {
    /// Mean and ends; nothing without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        Some(Self { mean, ends: [low, high], seeds: values.len() })
    }
}

/// The methods of some runs, in the order in which they are met.
pub fn groups<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for run in runs {
        let method = run.method();
        match groups.iter_mut().find(|group| group.method == method) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { method, runs: vec![run] }),
        }
    }
    groups
}

impl<'a> Comparison<'a> {
    /// Compares runs.
    pub fn of(runs: &'a [Run]) -> Self {
        let mut attacks = Vec::new();
        let main = runs.iter().filter_map(|run| run.report.as_ref());
        for attack in main.chain(runs.iter().flat_map(|run| &run.further)).flat_map(Report::on_the_whole) {
            let column = Column::of(attack);
            if !attacks.contains(&column) {
                attacks.push(column);
            }
        }
        // A further report of a single run is for its own section.
        let is_main = |column: &Column| {
            runs.iter()
                .filter_map(|run| run.report.as_ref())
                .flat_map(|report| &report.attacks)
                .any(|attack| Column::of(attack) == *column)
        };
        attacks.retain(|column| is_main(column) || runs.iter().filter(|run| column.result(run).is_some()).count() > 1);
        Self { runs, attacks }
    }

    /// Clean accuracy of a run.
    pub fn clean(run: &Run) -> Option<Mean> {
        run.report.as_ref().and_then(|report| Mean::of(&report.clean))
    }

    /// Accuracy of a run under an attack.
    pub fn attacked(run: &Run, attack: &Column) -> Option<Mean> {
        attack.result(run).and_then(|result| Mean::of(&result.accuracy))
    }

    /// The attack that most runs were put to, and of those the one that they fare worst under.
    pub fn strongest(&self) -> Option<&Column> {
        let worth = |column: &&Column| {
            let values: Vec<f64> =
                self.runs.iter().filter_map(|run| Self::attacked(run, column)).map(|mean| mean.value).collect();
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            (values.len(), 1.0 - mean)
        };
        self.attacks.iter().max_by(|a, b| {
            let (a, b) = (worth(a), worth(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }

    /// What tells the runs' test results apart beside the method: images, threat, data.
    pub fn caution(&self) -> Option<String> {
        let differ = |values: Vec<String>| values.windows(2).any(|pair| pair[0] != pair[1]);
        let reports = || self.runs.iter().filter_map(|run| run.report.as_ref());
        let data = reports().map(|report| report.data.test_digest.clone()).collect();
        if differ(data) {
            return Some("The runs were tested on different images, so their numbers do not compare.".to_string());
        }
        let counts = reports().map(|report| report.n.to_string()).collect();
        differ(counts).then(|| "The runs were tested on different numbers of images.".to_string())
    }
}
