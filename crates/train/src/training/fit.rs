//! The training loop.
//!
//! For every batch: freeze a copy of the network, attack it, run the network on the clean and on the
//! adversarial images, add up the loss terms of all exits, step, log. Randomness is keyed by epoch,
//! step and example, so the loop can be left after any step and entered again there.

use std::ops::Range;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use neokd_attack::{Adversarial, Passes, Scenario, Threat, Transfer};
use neokd_datasets::{DataSplits, Images};
use neokd_distill::{Draw, ExitLoss, LossInput, LossTerms, Memory};
use neokd_evaluate::Error;
use neokd_evaluate::Evaluation;
use neokd_evaluate::attack_run::AttackRun;
use neokd_evaluate::batches::{self, Batches, LabelledBatch};
use neokd_evaluate::images::Source;
use neokd_evaluate::interval::Share;
use neokd_evaluate::seeds::{Purpose, key};
use neokd_evaluate::stop::Stop;
use neokd_model::{Backbone, Frozen, ModelConfig, MultiExit};

use crate::RunConfig;
use crate::config::PassesConfig;
use crate::options::awp::worst_neighbour;
use crate::options::probe::ProbeRecord;
use crate::options::targets::Targets;
use crate::options::training_attack::{AttackMode, Climb};
use crate::run::best::Best;
use crate::run::best::ValidationRecord;
use crate::run::checkpoint::TrainingState;
use crate::run::metrics::{MetricsLog, StepRecord, TermRecord, TransferRecord};
use crate::run::origin::{Origin, Recipe};
use crate::run::progress::Progress;
use crate::run::run_dir::RunDir;
use crate::training::clip::clip;
use crate::training::micro_batch::{GradientSum, MicroBatch, StepGradients};

/// What attacks on held-out images are for: the counters of [`Purpose::Validation`].
const LOOK: u64 = 0;
const PROBE: u64 = 1;
const TRANSFER: u64 = 2;

/// Who watches a run: a progress bar, or nobody.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, record: &StepRecord, plan: &Length);
    /// Held-out images were looked at.
    fn validated(&mut self, record: &ValidationRecord);
    /// Exits withstand one gradient step and not many: catastrophic overfitting.
    fn alarmed(&mut self, _record: &ProbeRecord) {}
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
    pub fn of<B>(config: &RunConfig<B>, images: usize) -> Self {
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
fn images_used<B>(config: &RunConfig<B>, images: usize) -> usize {
    match config.data.train_images {
        0 => images,
        limit => images.min(limit),
    }
}

/// One run: what is fixed while it trains.
pub struct Fit<'a, B: Backbone = ModelConfig> {
    config: &'a RunConfig<B>,
    training_images: &'a dyn Images,
    /// Of them, once somebody asks.
    digest: OnceLock<String>,
    held_out: &'a dyn Images,
    device: &'a Device,
    threat: Threat,
    loss: Box<dyn ExitLoss + Send + Sync>,
    length: Length,
    replicas: Vec<Device>,
}

impl<'a, B: Backbone> Fit<'a, B> {
    /// Prepares a run.
    ///
    /// # Errors
    /// [`Error::Config`] if data and network do not fit together.
    pub fn new<S: Images>(
        config: &'a RunConfig<B>,
        data: &'a DataSplits<S>,
        device: &'a Device,
    ) -> Result<Self, Error> {
        let loss = config.training.loss.init(config.model.exits());
        Ok(Self {
            config,
            training_images: &data.train,
            digest: OnceLock::new(),
            held_out: &data.validation,
            device,
            threat: config.threat,
            loss: loss.map_err(|why| Error::Config(format!("training.loss.{why}")))?,
            length: Length::of(config, data.train.len()),
            replicas: Vec::new(),
        })
    }

    /// The same run on further devices too: each learns from its part of every batch. Batch-norm then looks at
    /// parts, so the number of devices is part of what is trained.
    pub fn with_replicas(self, replicas: Vec<Device>) -> Self {
        Self { replicas, ..self }
    }

    /// What the weights of this run come from, after so many of its steps.
    ///
    /// # Errors
    /// [`Error::Config`] if JSON cannot hold the configuration.
    pub fn origin(&self, progress: &Progress, steps: u64) -> Result<Origin, Error> {
        Ok(Origin::Trained(Recipe {
            training_digest: Some(self.digest.get_or_init(|| self.training_images.digest()).clone()),
            changed: progress.changed.clone(),
            ..Recipe::of(self.config, steps)?
        }))
    }

    /// How long the run is.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Trains from `state` to the end, or until `stop` asks; the state is saved either way.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a requested stop; [`Error::Busy`] if another process trains the run;
    /// [`Error::Diverged`], [`Error::Attack`], [`Error::Data`], [`Error::Io`].
    pub fn run(
        &self,
        state: &mut TrainingState<B::Network>,
        run: &RunDir,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let _occupied = run.occupy()?;
        let mut log = MetricsLog::open(&run.metrics_path(), &state.progress)?;
        let started = Instant::now() - std::time::Duration::from_secs_f64(state.progress.seconds);
        let save = |state: &mut TrainingState<B::Network>| {
            state.progress.seconds = started.elapsed().as_secs_f64();
            state.save(self.config, &run.checkpoint_path())
        };
        while state.progress.epoch < self.length.epochs && !self.gives_up(state) {
            for batch in self.batches(state.progress.epoch, state.progress.position..self.length.steps_per_epoch) {
                let record = self.step(state, &batch?)?;
                observer.step(&record, &self.length);
                log.write_step(record)?;
                self.look(state, run, &mut log, observer)?;

                let step = state.progress.step;
                if stop.wanted(step) && step < self.length.steps() {
                    save(state)?;
                    return Err(Error::Interrupted { step, folder: run.folder().to_path_buf() });
                }
                let every = self.config.training.checkpoint_every_steps;
                if every > 0 && step.is_multiple_of(every) {
                    save(state)?;
                }
                if self.gives_up(state) {
                    break;
                }
            }
            // Patience is over within an epoch: it ends without a line for the epoch.
            if state.progress.position < self.length.steps_per_epoch {
                return save(state);
            }
            state.progress.epoch += 1;
            state.progress.position = 0;
            log.write_epoch(&state.progress)?;
            if self.config.validation.transfer_images > 0 {
                log.write_transfer(self.transfer(state)?)?;
            }
            save(state)?;
        }
        Ok(())
    }

    /// What is due between two steps: a look at held-out images, the best network kept, the probe for overfitting.
    fn look(
        &self,
        state: &mut TrainingState<B::Network>,
        run: &RunDir,
        log: &mut MetricsLog,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let step = state.progress.step;
        if self.looks_at(step) {
            let record = self.validate(state)?;
            self.keep_best(state, &record, run)?;
            observer.validated(&record);
            log.write_validation(record)?;
        }
        if self.config.validation.probe.is_due(step, &self.config.training.attack) {
            let record = self.probe_overfitting(state)?;
            if !record.collapsed.is_empty() {
                state.progress.alarm.get_or_insert(step);
                observer.alarmed(&record);
            }
            log.write_probe(record)?;
        }
        Ok(())
    }

    /// One step on the first batch, outside any run: what a step costs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn trial_step(&self, state: &mut TrainingState<B::Network>) -> Result<(), Error> {
        self.batches(0, 0..1).try_for_each(|batch| self.step(state, &batch?).map(|_| ()))
    }

    /// One training step.
    fn step(&self, state: &mut TrainingState<B::Network>, data: &LabelledBatch) -> Result<StepRecord, Error> {
        let micro = self.micro_batch(&state.progress, data);
        let remembering = self.remember(state, &micro)?;
        let StepGradients { gradients, total, loss, passes, .. } = match self.replicas.is_empty() {
            true => self.gradients(state, &state.model, &micro)?,
            false => self.gradients_in_parts(state, &micro)?,
        };

        let progress = &mut state.progress;
        let training = &self.config.training;
        let rate = training.rate(progress.step, self.length.steps());
        let gradients = match training.clip_norm {
            Some(largest) => clip(&state.model, gradients, largest),
            None => gradients,
        };
        state.model = state.optimizer.step(rate, state.model.clone(), gradients);
        if let (Some(ema), Some(average)) = (training.ema, state.average.take()) {
            state.average = Some(ema.update(average, &state.model, progress.step));
        }
        progress.step += 1;
        progress.position += 1;
        progress.passes += remembering + passes;
        Ok(StepRecord { step: progress.step, epoch: progress.epoch, rate, total, loss })
    }

    /// Adds what the network says to the clean images to the running averages, where the loss asks for that;
    /// and what it took.
    fn remember(&self, state: &mut TrainingState<B::Network>, micro: &MicroBatch) -> Result<Passes, Error> {
        let wanted = self.loss.remember().filter(|remember| self.done(&state.progress) >= remember.start);
        let (Some(remember), Some(predictions)) = (wanted, &mut state.predictions) else {
            return Ok(Passes::default());
        };
        let batch = &micro.data.batch;
        let answers = Frozen::new(&state.model).forward(batch.pixels.clone());
        predictions.update(remember.momentum, &batch.examples, answers.as_slice())?;
        Ok(Passes::forward(batch.len()))
    }

    /// The gradients of `model`, the network of `state` or a copy of it, on its device: attack, forward, loss, backward.
    fn gradients(
        &self,
        state: &TrainingState<B::Network>,
        model: &B::Network,
        micro: &MicroBatch,
    ) -> Result<StepGradients, Error> {
        let adversarial = self.perturb(state, model, micro)?;
        let (point, extra) = self.descent_point(state, model, micro, &adversarial.pixels);
        let terms = self.loss_terms(state, &point, micro, &adversarial.pixels);
        let scale = self.config.training.loss_scale(&*self.loss, self.config.model.exits());
        let total = if scale == 1.0 { terms.total() } else { terms.total().mul_scalar(scale) };
        let gradients = total.clone().mul_scalar(micro.share).backward();
        let gradients = GradientsParams::from_grads(gradients, &point);
        let (total, loss) = read(&terms, total, state.progress.step + 1)?;
        let passes = adversarial.passes + extra + Passes::gradient(2 * micro.data.batch.len());
        Ok(StepGradients { gradients, share: micro.share, total, loss, passes })
    }

    /// The same with a part of the micro-batch on each device, all at once: data parallelism. The first device has
    /// the network itself, whose batch-norm statistics so follow the first part, the others have copies.
    fn gradients_in_parts(
        &self,
        state: &TrainingState<B::Network>,
        micro: &MicroBatch,
    ) -> Result<StepGradients, Error> {
        let mut parts = micro.split(1 + self.replicas.len()).into_iter();
        let Some(first) = parts.next() else {
            return self.gradients(state, &state.model, micro);
        };
        let mut sum = GradientSum::new(&state.model, self.device);
        thread::scope(|scope| {
            let others: Vec<_> = parts
                .zip(&self.replicas)
                .map(|(part, device)| {
                    scope.spawn(move || {
                        let copy = state.model.valid().train().fork(device);
                        self.gradients(state, &copy, &part.to_device(device))
                    })
                })
                .collect();
            sum.add(self.gradients(state, &state.model, &first)?);
            for other in others {
                sum.add(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(sum.finish())
        })
    }

    /// Attacks the batch, with a frozen copy of the network.
    fn perturb(
        &self,
        state: &TrainingState<B::Network>,
        model: &B::Network,
        micro: &MicroBatch,
    ) -> Result<Adversarial, Error> {
        let (seed, progress, batch) = (self.config.seed, &state.progress, &micro.data.batch);
        let frozen = match self.config.training.attack_mode {
            AttackMode::Evaluation => Frozen::new(model),
            AttackMode::Training => {
                model.reseed(micro.key(key(seed, Purpose::AttackDropout, progress.step)));
                Frozen::in_training_mode(model)
            }
        };
        let averages = self.averages(state, micro);
        let climb = Climb {
            loss: self.config.training.attack_loss,
            penalty: averages.as_ref().map(|averages| (&*self.loss, Memory { averages, done: self.done(progress) })),
        };
        let key = key(seed, Purpose::TrainingAttack, progress.epoch);
        let scenario = Scenario::new(&frozen, batch, &self.threat, key);
        Ok(self.config.training.attack.perturb(&scenario, &climb)?)
    }

    /// The running averages of the network's predictions on the images of a micro-batch, where the loss reads them.
    fn averages(&self, state: &TrainingState<B::Network>, micro: &MicroBatch) -> Option<Vec<Tensor<2>>> {
        let batch = &micro.data.batch;
        state.predictions.as_ref().map(|kept| kept.of(&batch.examples, &batch.pixels.device()))
    }

    /// The batch as it is learned from: boxes exchanged, targets mixed and smoothed, where asked for.
    fn micro_batch(&self, progress: &Progress, data: &LabelledBatch) -> MicroBatch {
        let training = &self.config.training;
        if training.cutmix.is_none() && training.label_smoothing == 0.0 {
            return MicroBatch::new(data.clone(), None);
        }
        let classes = self.config.model.classes();
        let targets = Targets::one_hot(&data.labels, classes);
        let (data, targets) = match training.cutmix {
            Some(cutmix) => cutmix.mix(data, targets, classes, key(self.config.seed, Purpose::Cutmix, progress.step)),
            None => (data.clone(), targets),
        };
        let targets = targets.smoothed(training.label_smoothing).to_device(self.device);
        MicroBatch::new(data, Some(targets))
    }

    /// The point at which the loss is lowered: the trained network, or with AWP its worst neighbour; and what it
    /// took to find that.
    fn descent_point(
        &self,
        state: &TrainingState<B::Network>,
        model: &B::Network,
        micro: &MicroBatch,
        adversarial: &Tensor<4>,
    ) -> (B::Network, Passes) {
        let awp = self.config.training.awp.filter(|awp| self.done(&state.progress) >= awp.start);
        let Some(awp) = awp else {
            return (model.clone(), Passes::default());
        };
        // A copy with batch-norm statistics of its own: this pass must not count as training.
        let copy = model.valid().train();
        let terms = self.loss_terms(state, &copy, micro, adversarial);
        let uphill = GradientsParams::from_grads(terms.total().backward(), &copy);
        let gamma = awp.gamma(&self.config.training.loss);
        (worst_neighbour(model.clone(), uphill, gamma), Passes::gradient(2 * micro.data.batch.len()))
    }

    /// The loss of `model`, term by term.
    fn loss_terms(
        &self,
        state: &TrainingState<B::Network>,
        model: &B::Network,
        micro: &MicroBatch,
        adversarial: &Tensor<4>,
    ) -> LossTerms {
        model.reseed(micro.key(key(self.config.seed, Purpose::Dropout, state.progress.step)));
        let data = &micro.data;
        let (clean, adversarial) = self.answers(model, data, adversarial);
        let heads = model.head_weights();
        let averages = self.averages(state, micro);
        let done = self.done(&state.progress);
        self.loss.terms(LossInput {
            targets: micro.targets.as_ref(),
            heads: &heads,
            memory: averages.as_ref().map(|averages| Memory { averages, done }),
            ..LossInput::new(&clean, &adversarial, &data.batch.labels, self.draw(&state.progress, data))
        })
    }

    /// Logits of all exits on the clean and on the adversarial images.
    fn answers(
        &self,
        model: &B::Network,
        data: &LabelledBatch,
        adversarial: &Tensor<4>,
    ) -> (Vec<Tensor<2>>, Vec<Tensor<2>>) {
        let (clean, adversarial) = (data.batch.pixels.clone(), adversarial.clone());
        match self.config.training.passes {
            PassesConfig::Separate => {
                (model.forward(clean).as_slice().to_vec(), model.forward(adversarial).as_slice().to_vec())
            }
            PassesConfig::Joint => {
                let both = model.forward(Tensor::cat(vec![clean, adversarial], 0));
                let half = data.batch.len();
                let part = |from| both.as_slice().iter().map(|exit| exit.clone().narrow(0, from, half)).collect();
                (part(0), part(half))
            }
        }
    }

    /// Share of the training that is done, in `[0, 1)`.
    fn done(&self, progress: &Progress) -> f64 {
        progress.step as f64 / self.length.steps() as f64
    }

    /// Where the loss's random numbers come from at this step.
    fn draw<'b>(&self, progress: &Progress, data: &'b LabelledBatch) -> Draw<'b> {
        let seed = self.config.seed;
        Draw {
            run: key(seed, Purpose::FixedPartition, 0),
            epoch: key(seed, Purpose::Partition, progress.epoch),
            step: key(seed, Purpose::BatchPartition, progress.step),
            examples: &data.batch.examples,
            labels: &data.labels,
        }
    }

    /// The batches at the given positions of an epoch.
    fn batches(&self, epoch: u64, positions: Range<u64>) -> Batches<'a> {
        let images = images_used(self.config, self.training_images.len());
        let order = batches::epoch_order(images, self.config.seed, epoch);
        let (from, to) = (positions.start as usize, positions.end as usize);
        let plan = order.chunks(self.length.batch_size).take(to).skip(from).map(<[usize]>::to_vec).collect();
        let view = batches::training_view(self.config.data.augmentation, self.config.seed, epoch);
        Batches::new(self.training_images, plan, view, self.device)
    }

    fn looks_at(&self, step: u64) -> bool {
        let every = self.config.validation.every_steps;
        step == self.length.steps() || (every > 0 && step.is_multiple_of(every))
    }

    /// Accuracy on the first held-out training images, clean and under [`RunConfig::validation_attack`].
    fn validate(&self, state: &TrainingState<B::Network>) -> Result<ValidationRecord, Error> {
        let (frozen, images) = (Frozen::new(state.for_evaluation()), Source::from(self.held_out));
        let runs = [AttackRun::of(&self.config.validation_attack(), &self.threat)];
        let scored = Evaluation {
            count: images.count(self.config.validation.images),
            batch_size: self.config.evaluation.batch_size,
            key: key(self.config.seed, Purpose::Validation, LOOK),
            ..Evaluation::new(&frozen, &images, &runs, self.config.seed, self.device)
        }
        .run()?;
        let [clean, robust] = [&scored.clean, &scored.runs[0]].map(|found| found.whole.accuracy().exits);
        Ok(ValidationRecord { step: state.progress.step, clean, robust })
    }

    /// How the training attack on one exit carries over to the others, on the first held-out training images.
    fn transfer(&self, state: &TrainingState<B::Network>) -> Result<TransferRecord, Error> {
        let (frozen, attack) =
            (Frozen::new(state.for_evaluation()), self.config.training.attack.inside_the_ball(&self.threat));
        let (images, batch_size) = (self.config.validation.transfer_images, self.config.evaluation.batch_size);
        let key = key(self.config.seed, Purpose::Validation, TRANSFER);
        let mut found = Transfer::default();
        for data in Batches::in_order(self.held_out, images, batch_size, self.device) {
            found += Transfer::measure(&Scenario::new(&frozen, &data?.batch, &self.threat, key), attack.search)?;
        }
        let row = |row: &Vec<u64>| row.iter().map(|&count| Share::new(count, found.images)).collect();
        let Progress { step, epoch, .. } = state.progress;
        Ok(TransferRecord { step, epoch, matrix: found.fooled.iter().map(row).collect() })
    }

    /// Remembers the best look so far and writes its network, where that is asked for.
    fn keep_best(
        &self,
        state: &mut TrainingState<B::Network>,
        look: &ValidationRecord,
        run: &RunDir,
    ) -> Result<(), Error> {
        if !self.config.validation.keep_best {
            return Ok(());
        }
        let best = Best::after(state.progress.best, look);
        state.progress.best = Some(best);
        if !best.is_of(look.step) {
            return Ok(());
        }
        let path = run.best_path();
        let origin = self.origin(&state.progress, look.step)?;
        let bytes = origin.encode(&self.config.model, state.for_evaluation()).map_err(Error::weights(&path))?;
        neokd_evaluate::files::write_atomically(&path, &bytes)
    }

    /// Whether so many looks were no better than the best that the training is over.
    fn gives_up(&self, state: &TrainingState<B::Network>) -> bool {
        let patience = self.config.validation.patience;
        patience > 0 && state.progress.best.is_some_and(|best| best.looks_since >= patience)
    }

    /// Looks at the trained network, not at its average, under one gradient step and under many.
    fn probe_overfitting(&self, state: &TrainingState<B::Network>) -> Result<ProbeRecord, Error> {
        let frozen = Frozen::new(&state.model);
        let (probe, key) = (self.config.validation.probe, key(self.config.seed, Purpose::Validation, PROBE));
        probe.look(&frozen, self.held_out, &self.threat, key, state.progress.step, self.device)
    }
}

/// The loss's values on the host, in one read.
fn read(terms: &LossTerms, total: Tensor<1>, step: u64) -> Result<(f32, Vec<TermRecord>), Error> {
    let all = Tensor::cat(vec![total.without_autodiff(), terms.for_log()], 0);
    let values: Vec<f32> = all.into_data().try_into_vec().map_err(|error| Error::unreadable(&error))?;
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
