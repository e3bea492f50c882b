//! Whether the numbers of an evaluation are to be believed: the signs of a masked gradient, measured on the first images,
//! and what the runs themselves showed about each other.

use std::time::Instant;

use neokd_attack::{Batch, Criterion, Diagnostics, Effort, Objective, Scenario, Spent};
use neokd_model::MultiExit;

use crate::Error;
use crate::attack_run::{AttackRun, Kind};
use crate::bits::Bits;
use crate::evaluation::{Checked, Evaluation, Progress};
use crate::journal::{Journal, Signs};
use crate::outcome::ImageOutcomes;
use crate::seeds::{Purpose, key};
use crate::stop::Stop;

impl<M: MultiExit> Evaluation<'_, M> {
    /// The signs for every radius and objective, with what the runs showed.
    pub(crate) fn verdicts(
        &self,
        clean: &ImageOutcomes,
        runs: &[ImageOutcomes],
        journal: &mut Journal,
        stop: &Stop,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Checked>, Error> {
        let mut verdicts = self.check(journal, stop, tell)?;
        for checked in &mut verdicts {
            let run = &self.runs[checked.run];
            let others = self.runs.iter().zip(runs).filter(|(other, _)| other.is_checked_as(run));
            let showed = Showed {
                criterion: run.criterion(self.policy())?,
                deployed: self.deployed,
                clean,
                runs: others.map(|(other, found)| (other.kind(), found)).collect(),
            };
            showed.raise(&mut checked.signs);
            if let Some(broken) = showed.broken(self.checks) {
                checked.signs = checked.signs.compared(broken);
            }
            // What is quoted of an attack on a policy is the system's accuracy.
            if run.target != Objective::Policy {
                checked.signs = checked.signs.quoted(showed.right_at_exits(self.checks));
            }
        }
        Ok(verdicts)
    }

    /// Measures the signs of a masked gradient for every radius and objective that the journal has none for.
    fn check(&self, journal: &mut Journal, stop: &Stop, tell: &mut dyn FnMut(Progress)) -> Result<Vec<Checked>, Error> {
        let Some(batch) = self.first(self.checks).filter(|_| self.checks > 0) else {
            return Ok(Vec::new());
        };
        let batch = batch?;
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
        let about_answers = |run: &AttackRun| run.kind() != Kind::Slowdown;
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
        let steps = self.runs.iter().filter(|other| other.is_checked_as(about)).map(AttackRun::gradient_steps).max();
        let effort = Effort::for_attack_of(steps.unwrap_or(0));
        let (criterion, key) = (about.criterion(self.policy())?, key(self.seed, Purpose::Evaluation, 1));
        let signs = Diagnostics::measure(&Scenario::new(self.model, batch, &about.threat, key), &criterion, effort)?;
        Ok(Signs { verdict: run, checks: self.checks, signs, seconds: started.elapsed().as_secs_f64() })
    }
}

/// The runs at one radius on one objective.
struct Showed<'a> {
    criterion: Criterion,
    deployed: Option<usize>,
    clean: &'a ImageOutcomes,
    runs: Vec<(Kind, &'a ImageOutcomes)>,
}

impl Showed<'_> {
    /// The share of the checked images, the first so many, right without an attack, that the runs broke; none where they
    /// do not tell.
    fn broken(&self, checks: usize) -> Option<f64> {
        let unbroken = |found: &ImageOutcomes| found.unbroken(&self.criterion, self.deployed);
        let answers = self.runs.iter().filter(|(kind, _)| *kind != Kind::Slowdown);
        let left = answers.filter_map(|(_, found)| unbroken(found)).reduce(|sum, bits| sum.and(&bits))?;
        let right = Bits(unbroken(self.clean)?.0.into_iter().take(checks).collect());
        Some((right.count() - left.and(&right).count()) as f64 / right.count().max(1) as f64)
    }

    /// The share of right answers to the checked images that are right without an attack, mean over the exits, under the
    /// run that leaves the fewest.
    fn right_at_exits(&self, checks: usize) -> f64 {
        let known =
            self.clean.unbroken(&self.criterion, self.deployed).unwrap_or_else(|| self.clean.right_everywhere());
        let known = Bits(known.0.into_iter().take(checks).collect());
        let under = |found: &ImageOutcomes| {
            let right: u64 = found.whole.right.iter().map(|exit| exit.and(&known).count()).sum();
            right as f64 / (known.count() * found.whole.right.len() as u64).max(1) as f64
        };
        let answers = self.runs.iter().filter(|(kind, _)| *kind != Kind::Slowdown);
        answers.map(|(_, found)| under(found)).fold(1.0, f64::min)
    }

    /// Raises signs to what the runs showed on all images.
    fn raise(&self, signs: &mut Diagnostics) {
        let by_square = self.runs.iter().map(|(_, found)| gain_of_square(&found.members)).fold(0.0, f64::max);
        signs.square_gain = signs.square_gain.max(by_square);
        let unbroken = |found: &ImageOutcomes| {
            found.unbroken(&self.criterion, self.deployed).unwrap_or_else(|| found.right_everywhere())
        };
        let left = |kind: Kind| {
            let found = self.runs.iter().filter(|(other, _)| *other == kind).map(|(_, found)| unbroken(found));
            found.reduce(|sum, bits| sum.and(&bits))
        };
        let known = unbroken(self.clean);
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
}

/// What Square broke inside an ordered set, where every gradient attack comes before it, as a share of the images that
/// the set was run on.
fn gain_of_square(members: &[Spent]) -> f64 {
    let attacked = members.first().map_or(0, |first| first.attacked);
    let broken: u64 = members.iter().filter(|member| member.attack == "square").map(|member| member.broken).sum();
    broken as f64 / attacked.max(1) as f64
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
