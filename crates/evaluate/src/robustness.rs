//! How robust a network is against a set of attacks: several attacks, objectives and radii over the same
//! images, image by image, with a verdict on whether the numbers are to be believed.
//!
//! ```text
//! plan      what a user names, as runs: one attack on one objective at one radius
//! found     what a run did to a batch, from forward passes of its own
//! journal   finished batches in a file, from which an interrupted evaluation goes on
//! summary   accuracies, the worst case over the set, verdicts: what is printed and written as JSON
//! table     the summary for a terminal
//! ```

mod bits;
mod found;
mod journal;
mod plan;
mod summary;
mod table;

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::{Batch, Criterion, Diagnostics, Effort, Scenario, Spent};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, Network};

use crate::Error;
use crate::batches::LabelledBatch;
use crate::images::{Looked, Source};
use crate::seeds::{Purpose, key};
use crate::stop::Stop;

use plan::Kind;

pub use bits::Bits;
pub use found::{Deployed, Distances, Found, Seen};
pub use journal::{Header, Journal, RunHeader, SCHEMA as JOURNAL_SCHEMA, Signs};
pub use plan::{AttackName, Method, Run, plan};
pub use summary::{
    Context, DistanceReport, EpsilonReport, QUANTILES, RobustnessReport, RunReport, SCHEMA, Transfers, VerdictReport,
    WorstCase,
};
pub use table::render;

/// What is attacked, by what, where.
pub struct Evaluation<'a> {
    /// The network.
    pub model: &'a Frozen<Network>,
    /// The runs, in the order of [`plan`].
    pub runs: &'a [Run],
    /// Where `transfer-from` makes its images: one network per such run, by its place in `runs`.
    pub sources: &'a [Option<Frozen<Network>>],
    /// The deployed policy, if there is one.
    pub policy: Option<&'a Policy>,
    /// The images.
    pub images: &'a Source<'a>,
    /// How many of them, from the start.
    pub count: usize,
    /// Images per pass; does not change the result.
    pub batch_size: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Images that the verdict is measured on; 0 for none.
    pub checks: usize,
    /// Whether adversarial pixels are kept.
    pub keep_pixels: bool,
    /// Where to compute.
    pub device: &'a Device,
}

/// Everything that an evaluation found.
pub struct Scored {
    /// On the clean images.
    pub clean: Found,
    /// Of each run.
    pub runs: Vec<Found>,
    /// One per radius and objective, in the order of the runs.
    pub verdicts: Vec<Checked>,
    /// Labels of the images.
    pub labels: Vec<usize>,
    /// Wall time in seconds, this session's.
    pub seconds: f64,
}

/// Signs of a masked gradient at one radius, for one objective.
pub struct Checked {
    /// The first run that it is about.
    pub run: usize,
    /// What was measured.
    pub signs: Diagnostics,
    /// Wall time of measuring it, in seconds.
    pub seconds: f64,
}

/// What an evaluation tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many more images are finished; one run on one image counts once.
    Attacked(usize),
    /// A verdict is being measured, `done` of `of` are finished.
    Checking {
        /// Finished.
        done: usize,
        /// All.
        of: usize,
    },
}

impl Evaluation<'_> {
    /// Runs everything that the journal does not hold yet, verdicts included; `tell` hears how far it is.
    ///
    /// # Errors
    /// [`Error::Attack`], [`Error::Data`], [`Error::Device`], [`Error::Io`]; [`Error::AttackInterrupted`]
    /// after a requested stop.
    pub fn run(&self, journal: &mut Journal, stop: &Stop, tell: &mut dyn FnMut(Progress)) -> Result<Scored, Error> {
        let started = Instant::now();
        let mut clean = Found::none();
        let mut runs: Vec<Found> = self.runs.iter().map(|_| Found::none()).collect();
        let mut labels = Vec::new();
        for (number, looked) in self.images.batches(self.count, self.batch_size, self.device).enumerate() {
            let data = labelled(looked?, labels.len(), self.device);
            clean.append(Found::clean(self.model, &data, self.policy)?);
            for (at, run) in self.runs.iter().enumerate() {
                let found = match journal.take(number, at) {
                    Some(found) => found,
                    None => {
                        let found = self.attack(run, at, &data)?;
                        journal.write(number, at, &found)?;
                        journal.stop_if(stop)?;
                        found
                    }
                };
                runs[at].append(found);
                tell(Progress::Attacked(data.labels.len()));
            }
            labels.extend(data.labels);
        }
        let mut verdicts = self.check(journal, stop, tell)?;
        for checked in &mut verdicts {
            let run = &self.runs[checked.run];
            let criterion = run.criterion(self.policy)?;
            let same: Vec<(Kind, &Found)> = (self.runs.iter().zip(&runs))
                .filter(|(other, _)| other.is_checked_as(run))
                .map(|(other, found)| (other.kind(), found))
                .collect();
            add_what_runs_showed(run, &criterion, &clean, &same, &mut checked.signs);
            if let Some(broken) = broken_by_runs(&criterion, &clean, &same, self.checks) {
                checked.signs = checked.signs.compared(broken);
            }
        }
        Ok(Scored { clean, runs, verdicts, labels, seconds: started.elapsed().as_secs_f64() })
    }

    fn attack(&self, run: &Run, at: usize, data: &LabelledBatch) -> Result<Found, Error> {
        let attacker = self.sources[at].as_ref().unwrap_or(self.model);
        let key = key(self.seed, Purpose::Evaluation, 0);
        let started = Instant::now();
        let attacked = run.attack(attacker, &data.batch, self.policy, key)?;
        let found = Found::of(self.model, data, attacked, self.policy, self.keep_pixels)?;
        Ok(Found { seconds: started.elapsed().as_secs_f64(), ..found })
    }

    /// Measures the signs of a masked gradient for every radius and objective that the journal has none for.
    fn check(&self, journal: &mut Journal, stop: &Stop, tell: &mut dyn FnMut(Progress)) -> Result<Vec<Checked>, Error> {
        let looked = self.images.batches(self.count.min(self.checks), self.checks, self.device).next();
        let Some(looked) = looked.filter(|_| self.checks > 0) else {
            return Ok(Vec::new());
        };
        let batch = labelled(looked?, 0, self.device).batch;
        let (mut checked, wanted) = (Vec::new(), self.checked_runs());
        for (done, &run) in wanted.iter().enumerate() {
            tell(Progress::Checking { done, of: wanted.len() });
            let known = journal.take_signs(run, self.checks);
            let Signs { signs, seconds, .. } = match known {
                Some(known) => known,
                None => {
                    let written = journal.write_signs(self.measure(run, &batch)?)?;
                    journal.stop_if(stop)?;
                    written
                }
            };
            checked.push(Checked { run, signs, seconds });
        }
        Ok(checked)
    }

    /// The runs that have a verdict: the first at every radius on every objective; slow-downs, which are not
    /// about answers, only where there is nothing else.
    fn checked_runs(&self) -> Vec<usize> {
        let about_answers = |run: &Run| run.kind() != Kind::Slowdown;
        let any = self.runs.iter().any(about_answers);
        let mut firsts: Vec<usize> = Vec::new();
        for (at, run) in self.runs.iter().enumerate().filter(|(_, run)| !any || about_answers(run)) {
            if !firsts.iter().any(|&first| self.runs[first].is_checked_as(run)) {
                firsts.push(at);
            }
        }
        firsts
    }

    fn measure(&self, run: usize, batch: &Batch) -> Result<Signs, Error> {
        let started = Instant::now();
        let about = &self.runs[run];
        let steps = self.runs.iter().filter(|other| other.is_checked_as(about)).map(Run::gradient_steps).max();
        let effort = Effort::for_attack_of(steps.unwrap_or(0));
        let (criterion, key) = (about.criterion(self.policy)?, key(self.seed, Purpose::Evaluation, 1));
        let signs = Diagnostics::measure(&Scenario::new(self.model, batch, &about.threat, key), &criterion, effort)?;
        Ok(Signs { verdict: run, checks: self.checks, signs, seconds: started.elapsed().as_secs_f64() })
    }
}

/// The share of the checked images, the first so many, right without an attack, that the runs at the same radius, on the
/// same objective, broke; none where they do not tell.
fn broken_by_runs(criterion: &Criterion, clean: &Found, same: &[(Kind, &Found)], checks: usize) -> Option<f64> {
    let answers = same.iter().filter(|(kind, _)| *kind != Kind::Slowdown);
    let left = answers.filter_map(|(_, found)| found.unbroken(criterion)).reduce(|sum, bits| sum.and(&bits))?;
    let right = Bits(clean.unbroken(criterion)?.0.into_iter().take(checks).collect());
    Some((right.count() - left.and(&right).count()) as f64 / right.count().max(1) as f64)
}

/// Raises signs to what the runs at the same radius, on the same objective, showed on all images.
fn add_what_runs_showed(
    run: &Run,
    criterion: &Criterion,
    clean: &Found,
    same: &[(Kind, &Found)],
    signs: &mut Diagnostics,
) {
    let by_square = same.iter().map(|(_, found)| gain_of_square(&found.members)).fold(0.0, f64::max);
    signs.square_gain = signs.square_gain.max(by_square);
    let unbroken = |found: &Found| found.unbroken(criterion).unwrap_or_else(|| found.withstand(run.target));
    let left = |kind: Kind| {
        let found = same.iter().filter(|(other, _)| *other == kind).map(|(_, found)| unbroken(found));
        found.reduce(|sum, bits| sum.and(&bits))
    };
    let known = unbroken(clean);
    let Some(gradient) = left(Kind::Gradient).map(|left| left.and(&known)) else {
        return;
    };
    let gain = |kind: Kind| {
        let left = left(kind).map_or(gradient.count(), |left| left.and(&gradient).count());
        (gradient.count() - left) as f64 / known.count().max(1) as f64
    };
    signs.square_gain = signs.square_gain.max(gain(Kind::Blind));
    signs.single_step_gain = signs.single_step_gain.max(gain(Kind::SingleStep));
    signs.transfer_gain = signs.transfer_gain.max(gain(Kind::Transfer));
}

/// What Square broke inside an ordered set, where every gradient attack comes before it, as a share of the images that
/// the set was run on.
fn gain_of_square(members: &[Spent]) -> f64 {
    let attacked = members.first().map_or(0, |first| first.attacked);
    let broken: u64 = members.iter().filter(|member| member.attack == "square").map(|member| member.broken).sum();
    broken as f64 / attacked.max(1) as f64
}

/// Images from a source, of which `before` came earlier, with their numbers.
fn labelled((pixels, labels): Looked, before: usize, device: &Device) -> LabelledBatch {
    let on_device: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let on_device = Tensor::from_data(TensorData::new(on_device, [labels.len()]), device);
    let examples = (before..before + labels.len()).map(|example| example as u64).collect();
    LabelledBatch { batch: Batch { pixels, labels: on_device, examples }, labels }
}

#[cfg(test)]
mod tests {
    use neokd_attack::Passes;

    use super::*;

    #[test]
    fn what_square_breaks_inside_autoattack_is_a_gain_over_gradients() {
        let member = |attack: &str, attacked, broken| Spent {
            attack: attack.to_string(),
            attacked,
            broken,
            passes: Passes::default(),
        };
        let members =
            [member("apgd-ce", 100, 10), member("apgd-t", 90, 0), member("fab-t", 90, 0), member("square", 90, 3)];
        assert_eq!(gain_of_square(&members), 0.03);
        assert_eq!(gain_of_square(&[]), 0.0);
    }
}
