//! How accurate each exit is: on clean images and on attacked ones, the same adversarial image scored
//! at all exits (neo-kd.md 4.1), and what exit policies make of the answers (4.2).

use burn::tensor::{Device, Int, Tensor};
use neokd_attack::{Attack, Audit, Outcome, Passes, Scenario, Threat};
use neokd_datasets::Images;
use neokd_model::policy::Policy;
use neokd_model::{ExitLogits, Frozen, MultiExit};

use crate::Error;
use crate::batches::{Batches, LabelledBatch};
use crate::dynamic::{Dynamic, Leaving};
use crate::interval::Share;
use crate::reliability::{Calibration, Reliability};
use crate::transfer::Fooled;

/// What is to be scored, and how.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a, M> {
    /// The network.
    pub model: &'a Frozen<M>,
    /// The images.
    pub set: &'a dyn Images,
    /// How many of them, from the start.
    pub images: usize,
    /// Images per pass; does not change the result.
    pub batch_size: usize,
    /// The attacks.
    pub attacks: &'a [Attack],
    /// How far they may go.
    pub threat: &'a Threat,
    /// Key of their random numbers.
    pub key: u64,
    /// Exit policies to try on the answers.
    pub policies: &'a [Policy],
    /// Where to compute.
    pub device: &'a Device,
}

/// Accuracy of every exit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// On clean images, per exit.
    pub clean: Vec<Share>,
    /// On clean images, per exit.
    pub calibration: Vec<Calibration>,
    /// Under each policy, on clean images.
    pub policies: Vec<Dynamic>,
    /// Under each policy, images answered correctly when clean and under every attack.
    pub robust: Vec<Share>,
    /// Under each attack, in the order given.
    pub attacks: Vec<AttackScores>,
    /// Everything spent.
    pub passes: Passes,
}

/// Accuracy of every exit under one attack.
#[derive(Clone, Debug, PartialEq)]
pub struct AttackScores {
    /// Per exit.
    pub exits: Vec<Share>,
    /// Per exit.
    pub calibration: Vec<Calibration>,
    /// Under each policy, on the same adversarial images.
    pub policies: Vec<Dynamic>,
    /// Per exit, the share misclassified among the images that all exits classify correctly when clean.
    pub fooled: Vec<Share>,
    /// Worst of all batches.
    pub audit: Audit,
    /// Spent on this attack; a search that an earlier attack has done already costs nothing.
    pub passes: Passes,
}

impl<M: MultiExit> Evaluation<'_, M> {
    /// Scores the images; `done` hears the number of images finished, one attack on one image counting
    /// once, the clean pass not.
    ///
    /// # Errors
    /// [`Error::Attack`], [`Error::Data`] or [`Error::Device`].
    pub fn run(&self, done: &mut dyn FnMut(usize)) -> Result<Scores, Error> {
        self.run_seen(done, &mut |_, _, _| Ok(()))
    }

    /// The same; `seen` is shown, batch by batch, what each attack (by its place in `attacks`) made.
    ///
    /// # Errors
    /// As [`run`](Self::run), and what `seen` gives.
    pub fn run_seen(
        &self,
        done: &mut dyn FnMut(usize),
        seen: &mut dyn FnMut(usize, &LabelledBatch, &Outcome) -> Result<(), Error>,
    ) -> Result<Scores, Error> {
        let mut clean = Tally::new(self);
        let mut attacked: Vec<Tally> = self.attacks.iter().map(|_| Tally::new(self)).collect();
        for data in Batches::in_order(self.set, self.images, self.batch_size, self.device) {
            let data = data?;
            let logits = self.model.forward(data.batch.pixels.clone());
            clean.add(&logits, &data.batch.labels, &data.labels)?;
            clean.passes += Passes::forward(data.batch.len());
            let right = logits.correct(&data.batch.labels);
            let outcomes =
                neokd_attack::run_all(&Scenario::new(self.model, &data.batch, self.threat, self.key), self.attacks)?;
            for (at, (outcome, tally)) in outcomes.into_iter().zip(&mut attacked).enumerate() {
                tally.add(&outcome.logits, &data.batch.labels, &data.labels)?;
                tally.fooled.add(&right, &outcome.logits, &data.batch.labels)?;
                let audit = outcome.adversarial.audit;
                tally.audit = Some(tally.audit.map_or(audit, |so_far| so_far.merge(audit)));
                tally.passes += outcome.adversarial.passes;
                seen(at, &data, &outcome)?;
                done(data.batch.len());
            }
        }
        let costs = self.model.costs();
        let n = self.images.min(self.set.len()) as u64;
        let dynamics = |tally: &Tally| tally.leaving.iter().map(|leaving| leaving.finish(&costs)).collect();
        let robust = (0..self.policies.len()).map(|policy| withstood(policy, &clean, &attacked)).collect();
        let attacks: Vec<AttackScores> = attacked
            .iter()
            .map(|tally| AttackScores {
                exits: tally.shares(n),
                calibration: tally.calibration(),
                policies: dynamics(tally),
                fooled: tally.fooled.shares(),
                audit: tally.audit.unwrap_or_default(),
                passes: tally.passes,
            })
            .collect();
        let passes = attacks.iter().fold(clean.passes, |sum, attack| sum + attack.passes);
        Ok(Scores {
            clean: clean.shares(n),
            calibration: clean.calibration(),
            policies: dynamics(&clean),
            robust,
            attacks,
            passes,
        })
    }
}

/// Images that a policy answers correctly, whatever was tried.
fn withstood(policy: usize, clean: &Tally, attacked: &[Tally]) -> Share {
    let looks = || std::iter::once(clean).chain(attacked).map(|tally| tally.leaving[policy].right());
    let images = clean.leaving[policy].right().len();
    let right = (0..images).filter(|&image| looks().all(|right| right[image])).count();
    Share::new(right as u64, images as u64)
}

struct Tally {
    correct: Vec<u64>,
    reliability: Vec<Reliability>,
    leaving: Vec<Leaving>,
    fooled: Fooled,
    audit: Option<Audit>,
    passes: Passes,
}

impl Tally {
    fn new<M: MultiExit>(evaluation: &Evaluation<'_, M>) -> Self {
        let exits = evaluation.model.exits();
        let leaving = evaluation.policies.iter().map(|policy| Leaving::new(policy.clone(), exits)).collect();
        Self {
            correct: vec![0; exits],
            reliability: vec![Reliability::default(); exits],
            leaving,
            fooled: Fooled::new(exits),
            audit: None,
            passes: Passes::default(),
        }
    }

    fn add(&mut self, logits: &ExitLogits, on_device: &Tensor<1, Int>, labels: &[usize]) -> Result<(), Error> {
        for (sum, count) in self.correct.iter_mut().zip(correct(logits, on_device)?) {
            *sum += count;
        }
        let answers = crate::dynamic::probabilities(logits)?;
        self.reliability.iter_mut().zip(&answers).for_each(|(exit, answers)| exit.add(answers, labels));
        self.leaving.iter_mut().for_each(|leaving| leaving.add(&answers, labels));
        Ok(())
    }

    fn calibration(&self) -> Vec<Calibration> {
        self.reliability.iter().map(Reliability::finish).collect()
    }

    fn shares(&self, n: u64) -> Vec<Share> {
        self.correct.iter().map(|&count| Share::new(count, n)).collect()
    }
}

/// Number of images that each exit answers correctly.
fn correct(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Result<Vec<u64>, Error> {
    let counts = logits.correct(labels).sum_dim(1).into_data().convert::<i64>();
    let counts: Vec<i64> = counts.try_into_vec().map_err(|error| Error::unreadable(&error))?;
    Ok(counts.into_iter().map(|count| count as u64).collect())
}
