//! Progress on a terminal; nothing where standard error is none.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use neokd_evaluate::interval::Share;
use neokd_evaluate::journal::Journal;
use neokd_evaluate::shard::Shard;
use neokd_evaluate::stop::Stop;
use neokd_evaluate::{Error, Evaluation, Progress, Scored};
use neokd_model::MultiExit;
use neokd_train::options::probe::ProbeRecord;
use neokd_train::run::best::ValidationRecord;
use neokd_train::run::metrics::StepRecord;
use neokd_train::training::fit::{Length, Observer};

/// A bar for training: position, loss terms, accuracy on held-out images, speed, time left.
pub(super) struct TrainingBar {
    bar: ProgressBar,
    first: Option<(u64, Instant)>,
    accuracy: String,
    alarm: String,
}

impl TrainingBar {
    pub(super) fn new(length: &Length, done: u64) -> Self {
        let bar = ProgressBar::new(length.steps());
        bar.set_style(style("{bar:24} step {pos}/{len}  {msg}"));
        bar.set_position(done);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, first: None, accuracy: String::new(), alarm: String::new() }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for TrainingBar {
    fn step(&mut self, record: &StepRecord, length: &Length) {
        let (start, since) = *self.first.get_or_insert((record.step, Instant::now()));
        let steps = (record.step - start) as f64;
        let elapsed = since.elapsed().as_secs_f64();
        let speed = match steps > 0.0 {
            true => {
                let left = Duration::from_secs_f64(elapsed / steps * (length.steps() - record.step) as f64);
                let images = steps * length.batch_size as f64 / elapsed;
                format!("{images:.0} images/s, {} left", neokd_train::training::dry_run::human(left))
            }
            false => String::new(),
        };
        let terms = record.loss.iter().map(|term| {
            let exits: Vec<String> = term.exits.iter().map(|value| format!("{value:.2}")).collect();
            format!("{} {}", term.name, exits.join(" "))
        });
        let terms = terms.collect::<Vec<_>>().join(" | ");
        let epoch = record.epoch + 1;
        self.bar.set_position(record.step);
        self.bar
            .set_message(format!("epoch {epoch}/{}  {speed}\n  {terms}{}{}", length.epochs, self.accuracy, self.alarm));
    }

    fn validated(&mut self, record: &ValidationRecord) {
        let n = record.clean.first().map_or(0, |share| share.n);
        let (clean, robust) = (percent(&record.clean), percent(&record.robust));
        self.accuracy = format!("\n  held out (n {n}, step {}): clean {clean} | training attack {robust}", record.step);
    }

    fn alarmed(&mut self, record: &ProbeRecord) {
        let (fgsm, pgd) = (percent(&record.fgsm), percent(&record.pgd));
        self.alarm = format!(
            "\n  warning: catastrophic overfitting at exits {:?} (step {}): FGSM {fgsm} | PGD {pgd}",
            record.collapsed, record.step
        );
    }
}

fn percent(shares: &[Share]) -> String {
    shares.iter().map(|share| format!("{:.1}", 100.0 * share.value)).collect::<Vec<_>>().join(" ")
}

/// What an evaluation tells, as a bar: first of images, then of verdicts, each of which takes a while.
struct EvaluationBar(ProgressBar);

impl EvaluationBar {
    /// For so many images, one attack on one image counting once.
    fn new(images: usize) -> Self {
        let bar = ProgressBar::new(images as u64);
        bar.set_style(style("{bar:24} attacked {pos}/{len} images, {per_sec}, {eta} left"));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Attacked(images) => self.0.inc(images as u64),
            Progress::Checking { done: 0, of } => {
                self.0.finish_and_clear();
                self.0 = ProgressBar::new(of as u64);
                self.0.set_style(style("{bar:24} {spinner} {pos}/{len} verdicts measured, {elapsed}"));
                self.0.enable_steady_tick(Duration::from_millis(500));
            }
            Progress::Checking { done, .. } => self.0.set_position(done as u64),
        }
    }
}

/// Runs an evaluation with a bar.
pub(super) fn watched<M: MultiExit>(evaluation: &Evaluation<'_, M>) -> Result<Scored, Error> {
    watched_from(evaluation, &mut Journal::none(), &Stop::default())
}

/// Goes on with an evaluation from what its journal holds, with a bar.
pub(super) fn watched_from<M: MultiExit>(
    evaluation: &Evaluation<'_, M>,
    journal: &mut Journal,
    stop: &Stop,
) -> Result<Scored, Error> {
    let mut bar = EvaluationBar::new(evaluation.count * evaluation.runs.len());
    let scored = evaluation.resume(journal, stop, &mut |progress| bar.show(progress));
    bar.0.finish_and_clear();
    scored
}

/// Runs a part of an evaluation with a bar.
pub(super) fn watched_part<M: MultiExit>(
    evaluation: &Evaluation<'_, M>,
    shard: Shard,
    journal: &mut Journal,
    stop: &Stop,
) -> Result<(), Error> {
    let (size, all) = (evaluation.batch_size.max(1), evaluation.count);
    let images = (0..all.div_ceil(size)).filter(|batch| shard.has(*batch)).map(|batch| size.min(all - batch * size));
    let mut bar = EvaluationBar::new(images.sum::<usize>() * evaluation.runs.len());
    let done = evaluation.shard(shard, journal, stop, &mut |progress| bar.show(progress));
    bar.0.finish_and_clear();
    done
}

/// A bar for a pass over `images` images.
pub(super) fn image_bar(images: usize) -> ProgressBar {
    let bar = ProgressBar::new(images as u64);
    bar.set_style(style("{bar:24} {pos}/{len} images, {per_sec}, {eta} left"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
