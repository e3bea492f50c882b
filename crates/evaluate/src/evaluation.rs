//! How accurate and how robust a network is, image by image: clean, and under several attacks, objectives and radii on the
//! same images, with a verdict on whether the numbers are to be believed.
//!
//! An image's bit (right or wrong, by exit and attack) is all that is found; counts, transfer, worst cases and the accuracy
//! under exit policies follow from it (docs/papers/neo-kd.md 4.1 to 4.3).

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::{Batch, Diagnostics, Scenario};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, MultiExit};

use crate::Error;
use crate::attack_run::{AttackRun, Searches};
use crate::batches::LabelledBatch;
use crate::images::{Looked, Source};
use crate::journal::{Header, Journal, RunHeader, SCHEMA};
use crate::outcome::ImageOutcomes;
use crate::seeds::{Purpose, key};
use crate::shard::Shard;
use crate::stop::Stop;

/// What is attacked, by what, where.
pub struct Evaluation<'a, M> {
    /// The network.
    pub model: &'a Frozen<M>,
    /// The runs, small radii first.
    pub runs: &'a [AttackRun],
    /// Where `transfer-from` makes its images: one network per such run, by its place in `runs`; empty if there is none.
    pub sources: &'a [Option<Frozen<M>>],
    /// Exit policies that every image is shown to.
    pub policies: &'a [Policy],
    /// The place in `policies` of the one that attacks on the deployed policy are aimed at.
    pub deployed: Option<usize>,
    /// The images.
    pub images: &'a Source<'a>,
    /// How many of them, from the start.
    pub count: usize,
    /// Images per pass; does not change the result.
    pub batch_size: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Key of the attacks' random numbers, made of it.
    pub key: u64,
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
    pub clean: ImageOutcomes,
    /// Of each run.
    pub runs: Vec<ImageOutcomes>,
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

impl<'a, M: MultiExit> Evaluation<'a, M> {
    /// Of all images, in batches of 100, with the key of test images, without a policy and without a verdict.
    pub fn new(
        model: &'a Frozen<M>,
        images: &'a Source<'a>,
        runs: &'a [AttackRun],
        seed: u64,
        device: &'a Device,
    ) -> Self {
        Self {
            model,
            runs,
            sources: &[],
            policies: &[],
            deployed: None,
            images,
            count: images.count(0),
            batch_size: 100,
            seed,
            key: key(seed, Purpose::Evaluation, 0),
            checks: 0,
            keep_pixels: false,
            device,
        }
    }

    /// Runs everything.
    ///
    /// # Errors
    /// [`Error::Attack`], [`Error::Data`] or [`Error::Device`].
    pub fn run(&self) -> Result<Scored, Error> {
        self.resume(&mut Journal::none(), &Stop::default(), &mut |_| {})
    }

    /// Runs everything that the journal does not hold yet, verdicts included; `tell` hears how far it is.
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`Error::Io`]; [`Error::AttackInterrupted`] after a requested stop.
    pub fn resume(&self, journal: &mut Journal, stop: &Stop, tell: &mut dyn FnMut(Progress)) -> Result<Scored, Error> {
        let started = Instant::now();
        let mut clean = ImageOutcomes::none();
        let mut runs: Vec<ImageOutcomes> = self.runs.iter().map(|_| ImageOutcomes::none()).collect();
        let mut labels = Vec::new();
        for (number, looked) in self.images.batches(self.count, self.batch_size, self.device).enumerate() {
            let data = labelled(looked?, labels.len(), self.device);
            clean.append(ImageOutcomes::clean(self.model, &data, self.policies)?);
            let found = self.batch(number, &data, journal, stop, tell)?;
            runs.iter_mut().zip(found).for_each(|(so_far, found)| so_far.append(found));
            labels.extend(data.labels);
        }
        let verdicts = self.verdicts(&clean, &runs, journal, stop, tell)?;
        Ok(Scored { clean, runs, verdicts, labels, seconds: started.elapsed().as_secs_f64() })
    }

    /// Runs the batches of a part of the work that its journal does not hold yet. There is no result but the journal:
    /// [`merge`](crate::merge::merge) makes those of all parts one, which [`resume`](Self::resume) goes on from.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn shard(
        &self,
        shard: Shard,
        journal: &mut Journal,
        stop: &Stop,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let mut before = 0;
        for (number, looked) in self.images.batches(self.count, self.batch_size, self.device).enumerate() {
            let (pixels, labels) = looked?;
            let images = labels.len();
            if shard.has(number) {
                let data = labelled((pixels, labels), before, self.device);
                self.batch(number, &data, journal, stop, tell)?;
            }
            before += images;
        }
        Ok(())
    }

    /// What every run did to a batch: what the journal holds, or what it does now.
    fn batch(
        &self,
        number: usize,
        data: &LabelledBatch,
        journal: &mut Journal,
        stop: &Stop,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Vec<ImageOutcomes>, Error> {
        let mut searches = Searches::of(self.runs);
        let mut found = Vec::with_capacity(self.runs.len());
        for at in 0..self.runs.len() {
            found.push(match journal.take(number, at) {
                Some(known) => {
                    self.check_known(&known, data.labels.len(), journal, (number, at))?;
                    known
                }
                None => {
                    let outcomes = self.attack(at, data, &mut searches)?;
                    journal.write(number, at, &outcomes)?;
                    journal.stop_if(stop)?;
                    outcomes
                }
            });
            tell(Progress::Attacked(data.labels.len()));
        }
        Ok(found)
    }

    /// Makes sure that what a journal has of a batch is what this evaluation would have written there.
    fn check_known(
        &self,
        known: &ImageOutcomes,
        images: usize,
        journal: &Journal,
        (batch, run): (usize, usize),
    ) -> Result<(), Error> {
        let pixels = if self.keep_pixels { images * self.model.input_shape().iter().product::<usize>() } else { 0 };
        match known.fits(images, self.model.exits(), self.policies.len(), pixels) {
            true => Ok(()),
            false => Err(journal.wrong(&format!(
                "what it holds of batch {batch}, run {run} is not what this evaluation writes: the file was changed; name \
                 another one"
            ))),
        }
    }

    /// What a journal of it begins with, on a device and for weights of these names; `sources` are the digests of the
    /// networks that transfers are from.
    pub fn header(&self, device: &str, weights: &str, sources: &[Option<String>]) -> Header {
        let run = |(at, run): (usize, &AttackRun)| RunHeader {
            attack: run.name.to_string(),
            from: sources.get(at).cloned().flatten(),
            objective: run.objective(),
            norm: run.threat.norm,
            epsilon: run.threat.epsilon,
            method: format!("{:?}", run.method),
        };
        Header {
            schema: SCHEMA.to_string(),
            neokd: crate::VERSION.to_string(),
            device: device.to_string(),
            weights: weights.to_string(),
            images: self.images.digest(),
            count: self.count,
            batch_size: self.batch_size,
            seed: self.seed,
            policies: self.policies.to_vec(),
            deployed: self.deployed,
            pixels: self.keep_pixels,
            runs: self.runs.iter().enumerate().map(run).collect(),
            shard: None,
        }
    }

    /// The policy that attacks are aimed at.
    pub fn policy(&self) -> Option<&'a Policy> {
        self.deployed.and_then(|deployed| self.policies.get(deployed))
    }

    fn attack(&self, at: usize, data: &LabelledBatch, searches: &mut Searches<'_>) -> Result<ImageOutcomes, Error> {
        let run = &self.runs[at];
        let attacker = self.sources.get(at).and_then(Option::as_ref).unwrap_or(self.model);
        let started = Instant::now();
        let scenario = Scenario::new(attacker, &data.batch, &run.threat, self.key);
        let attacked = run.attack(&scenario, self.policy(), searches, at)?;
        let found = ImageOutcomes::of(self.model, data, attacked, self.policies, self.keep_pixels)?;
        Ok(ImageOutcomes { seconds: started.elapsed().as_secs_f64(), ..found })
    }

    /// The first `count` images on the device, with their labels.
    pub(crate) fn first(&self, count: usize) -> Option<Result<Batch, Error>> {
        let looked = self.images.batches(self.count.min(count), count, self.device).next()?;
        Some(looked.map(|looked| labelled(looked, 0, self.device).batch))
    }
}

/// Images from a source, of which `before` came earlier. An image's number is its place in the source, counted from 0; in
/// training (`batches`) it is its place in the training set.
fn labelled((pixels, labels): Looked, before: usize, device: &Device) -> LabelledBatch {
    let on_device: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let on_device = Tensor::from_data(TensorData::new(on_device, [labels.len()]), device);
    let examples = (before..before + labels.len()).map(|example| example as u64).collect();
    LabelledBatch { batch: Batch { pixels, labels: on_device, examples }, labels }
}
