//! The training loop.
//!
//! For every batch: freeze a copy of the network, attack it, run the network on the clean and on the
//! adversarial images, add up the loss terms of all exits, step, log. Randomness is keyed by epoch,
//! step and example, so the loop can be left after any step and entered again there.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use neokd_attack::{AnyAttack, Passes, Threat};
use neokd_datasets::{Augmentation, DataSplits};
use neokd_distill::{Draw, ExitLoss, LossInput, LossTerms};
use neokd_model::{Frozen, MultiExit};

use crate::batches::{self, LabelledBatch};
use crate::checkpoint::TrainingState;
use crate::evaluate::Evaluation;
use crate::metrics::{MetricsLog, Record, StepRecord, TermRecord, ValidationRecord};
use crate::run_dir::RunDir;
use crate::seeds::{Purpose, key};
use crate::stop::Stop;
use crate::{Error, RunConfig};

/// Who watches a run: a progress bar, or nobody.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, record: &StepRecord, plan: &Length);
    /// Held-out images were looked at.
    fn validated(&mut self, record: &ValidationRecord);
}

/// Nobody watches.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _record: &StepRecord, _plan: &Length) {}

    fn validated(&mut self, _record: &ValidationRecord) {}
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Passes over the training images.
    pub epochs: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
    /// Images of one step.
    pub batch_size: usize,
}

impl Length {
    /// The length that a configuration asks for, on so many training images.
    pub fn of(config: &RunConfig, images: usize) -> Self {
        let training = &config.training;
        let images = images_used(config, images);
        let all = batches::steps_per_epoch(images, training.batch_size);
        let steps = if training.steps_per_epoch > 0 { all.min(training.steps_per_epoch) } else { all };
        Self { epochs: training.epochs, steps_per_epoch: steps as u64, batch_size: training.batch_size.min(images) }
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.epochs * self.steps_per_epoch
    }
}

/// How many of `images` training images the configuration lets in.
fn images_used(config: &RunConfig, images: usize) -> usize {
    match config.data.train_images {
        0 => images,
        limit => images.min(limit),
    }
}

/// One run: what is fixed while it trains.
pub struct Fit<'a> {
    config: &'a RunConfig,
    data: &'a DataSplits,
    device: &'a Device,
    attack: AnyAttack,
    threat: Threat,
    loss: Box<dyn ExitLoss + Send + Sync>,
    length: Length,
}

impl<'a> Fit<'a> {
    /// Prepares a run.
    ///
    /// # Errors
    /// [`Error::Config`] if data and network do not fit together.
    pub fn new(config: &'a RunConfig, data: &'a DataSplits, device: &'a Device) -> Result<Self, Error> {
        let threat = config.threat.threat();
        let loss = config.training.loss.init(config.model.exits());
        Ok(Self {
            config,
            data,
            device,
            attack: config.training.attack.attack(&threat),
            threat,
            loss: loss.map_err(|why| Error::Config(format!("training.loss.{why}")))?,
            length: Length::of(config, data.train.len()),
        })
    }

    /// How long the run is.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Trains from `state` to the end, or until `stop` asks; the state is saved either way.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a requested stop; [`Error::Diverged`], [`Error::Attack`],
    /// [`Error::Io`].
    pub fn run(
        &self,
        state: &mut TrainingState,
        run: &RunDir,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let mut log = MetricsLog::open(&run.metrics_path(), &state.progress)?;
        let started = Instant::now() - std::time::Duration::from_secs_f64(state.progress.seconds);
        let save = |state: &mut TrainingState, log: &mut MetricsLog| {
            state.progress.seconds = started.elapsed().as_secs_f64();
            log.flush()?;
            state.save(self.config, &run.checkpoint_path())
        };
        while state.progress.epoch < self.length.epochs {
            let order = self.order(state.progress.epoch);
            while state.progress.position < self.length.steps_per_epoch {
                let batch = self.batch(&order, state.progress.epoch, state.progress.position);
                let record = self.step(state, &batch)?;
                observer.step(&record, &self.length);
                log.write(&Record::Step(record))?;

                let step = state.progress.step;
                if self.looks_at(step) {
                    let record = self.validate(state)?;
                    observer.validated(&record);
                    log.write(&Record::Validation(record))?;
                }
                if stop.wanted(step) && step < self.length.steps() {
                    save(state, &mut log)?;
                    return Err(Error::Interrupted { step, folder: run.folder().to_path_buf() });
                }
                let every = self.config.training.checkpoint_every_steps;
                if every > 0 && step.is_multiple_of(every) {
                    save(state, &mut log)?;
                }
            }
            state.progress.epoch += 1;
            state.progress.position = 0;
            log.flush()?;
            log.write(&self.epoch_record(state, run)?)?;
            save(state, &mut log)?;
        }
        Ok(())
    }

    /// One step on the first batch, outside any run: what a step costs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn probe(&self, state: &mut TrainingState) -> Result<(), Error> {
        self.step(state, &self.batch(&self.order(0), 0, 0)).map(|_| ())
    }

    /// One training step.
    fn step(&self, state: &mut TrainingState, data: &LabelledBatch) -> Result<StepRecord, Error> {
        let (seed, progress) = (self.config.seed, &mut state.progress);
        let attack_key = key(seed, Purpose::TrainingAttack, progress.epoch);
        let adversarial =
            neokd_attack::perturb(&Frozen::new(&state.model), &data.batch, &self.attack, &self.threat, attack_key)?;

        state.model.reseed(key(seed, Purpose::Dropout, progress.step));
        let clean = state.model.forward(data.batch.pixels.clone());
        let attacked = state.model.forward(adversarial.pixels);
        let partition_key = key(seed, Purpose::Partition, progress.epoch);
        let terms = self.loss.terms(LossInput {
            clean: clean.as_slice(),
            adversarial: attacked.as_slice(),
            labels: &data.batch.labels,
            draw: Draw { seed: partition_key, examples: &data.batch.examples, labels: &data.labels },
        });
        let total = terms.total();
        let gradients = GradientsParams::from_grads(total.backward(), &state.model);

        let rate = self.config.training.schedule.rate(progress.step, self.length.steps());
        let (total, loss) = read(&terms, total, progress.step + 1)?;
        state.model = state.optimizer.step(rate, state.model.clone(), gradients);
        progress.step += 1;
        progress.position += 1;
        progress.passes += adversarial.passes + Passes::gradient(2 * data.batch.len());
        Ok(StepRecord { step: progress.step, epoch: progress.epoch, rate, total, loss })
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        batches::epoch_order(images_used(self.config, self.data.train.len()), self.config.seed, epoch)
    }

    fn batch(&self, order: &[usize], epoch: u64, position: u64) -> LabelledBatch {
        let start = position as usize * self.length.batch_size;
        let indices = &order[start..start + self.length.batch_size];
        let (set, config) = (&self.data.train, self.config);
        match &config.data.augmentation {
            Augmentation::None => batches::collect(set, indices, self.device),
            augmentation => batches::collect_augmented(set, indices, augmentation, config.seed, epoch, self.device),
        }
    }

    fn looks_at(&self, step: u64) -> bool {
        let every = self.config.validation.every_steps;
        step == self.length.steps() || (every > 0 && step.is_multiple_of(every))
    }

    /// Accuracy on the first held-out training images, clean and under the training attack.
    fn validate(&self, state: &TrainingState) -> Result<ValidationRecord, Error> {
        let scored = Evaluation {
            model: &Frozen::new(&state.model),
            set: &self.data.validation,
            images: self.config.validation.images,
            batch_size: self.config.evaluation.batch_size,
            attacks: std::slice::from_ref(&self.attack),
            threat: &self.threat,
            key: key(self.config.seed, Purpose::Validation, 0),
            policies: &[],
            device: self.device,
        }
        .run(&mut |_| {})?;
        let robust = scored.attacks.into_iter().next().map(|attack| attack.exits).unwrap_or_default();
        Ok(ValidationRecord { step: state.progress.step, clean: scored.clean, robust })
    }

    /// Means over the epoch's steps, from the log itself so that a resumed epoch is complete.
    fn epoch_record(&self, state: &TrainingState, run: &RunDir) -> Result<Record, Error> {
        let epoch = state.progress.epoch - 1;
        let steps = crate::metrics::read(&run.metrics_path())?.into_iter().filter_map(|record| match record {
            Record::Step(step) if step.epoch == epoch => Some(step.loss),
            _ => None,
        });
        let steps: Vec<Vec<TermRecord>> = steps.collect();
        let mean = |term: usize, exit: usize| {
            let sum: f64 = steps.iter().map(|step| f64::from(step[term].exits[exit])).sum();
            (sum / steps.len() as f64) as f32
        };
        let loss = steps.first().map_or_else(Vec::new, |first| {
            let terms = first.iter().enumerate();
            let averaged = terms.map(|(term, record)| TermRecord {
                name: record.name.clone(),
                exits: (0..record.exits.len()).map(|exit| mean(term, exit)).collect(),
            });
            averaged.collect()
        });
        Ok(Record::Epoch { step: state.progress.step, epoch: state.progress.epoch, loss })
    }
}

/// The loss's values on the host, in one read.
fn read(terms: &LossTerms, total: Tensor<1>, step: u64) -> Result<(f32, Vec<TermRecord>), Error> {
    let all = Tensor::cat(vec![total.without_autodiff(), terms.for_log()], 0);
    let values: Vec<f32> = all
        .into_data()
        .try_into_vec()
        .map_err(|error| Error::Device(format!("cannot read back from the device: {error:?}")))?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::Diverged { step });
    }
    let mut rest = &values[1..];
    let records = terms.terms.iter().map(|term| {
        let (exits, later) = rest.split_at(term.weights.len());
        rest = later;
        TermRecord { name: term.name.to_string(), exits: exits.to_vec() }
    });
    let records = records.collect();
    Ok((values[0], records))
}
