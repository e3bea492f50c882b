//! Progress: a bar on a terminal, elsewhere a plain line on standard error now and then.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
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
use neokd_train::training::dry_run::human;
use neokd_train::training::fit::{Length, Observer};

/// Seconds between plain lines; [`EVERY`] unless it is set, 0 for none.
const VARIABLE: &str = "NEOKD_PROGRESS_SECONDS";
const EVERY: u64 = 30;

/// A bar on a terminal; elsewhere a thread that says now and then how far it is.
pub(super) struct Bar {
    bar: ProgressBar,
    lines: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// Up to `length` of `what`, of which `done` are done; the template is indicatif's.
    fn new(length: usize, done: u64, what: &'static str, template: &str) -> Self {
        let bar = ProgressBar::new(length as u64).with_position(done);
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(500));
            return Self { bar, lines: None };
        }
        let every = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(EVERY);
        let lines = (every > 0).then(|| lines(bar.clone(), what, Duration::from_secs(every)));
        Self { bar, lines }
    }

    /// So many more are done.
    pub(super) fn inc(&self, more: u64) {
        self.bar.inc(more);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some((stop, thread)) = self.lines.take() {
            drop(stop);
            // It only prints, and its last line is not worth a failure.
            let _ = thread.join();
        }
    }
}

/// Says every so often where a bar stands, until the other end is dropped.
fn lines(bar: ProgressBar, what: &'static str, every: Duration) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel::<()>();
    let (started, before) = (Instant::now(), bar.position());
    let thread = thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let (now, length) = (bar.position(), bar.length().unwrap_or(0));
            let seconds = started.elapsed().as_secs_f64();
            let left = match now.saturating_sub(before) {
                0 => String::new(),
                done => {
                    let left = seconds / done as f64 * length.saturating_sub(now) as f64;
                    format!(", about {} left", human(Duration::from_secs_f64(left)))
                }
            };
            let more = bar.message();
            let more = more.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
            let more = if more.is_empty() { more } else { format!("; {more}") };
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "{now} of {length} {what}{left}{more}");
        }
    });
    (stop, thread)
}

/// A bar for training: position, loss terms, accuracy on held-out images, speed, time left.
pub(super) struct TrainingBar {
    bar: Bar,
    first: Option<(u64, Instant)>,
    accuracy: String,
    alarm: String,
}

impl TrainingBar {
    pub(super) fn new(length: &Length, done: u64) -> Self {
        let bar = Bar::new(length.steps() as usize, done, "steps", "{bar:24} step {pos}/{len}  {msg}");
        Self { bar, first: None, accuracy: String::new(), alarm: String::new() }
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
                format!("{images:.0} images/s, {} left", human(left))
            }
            false => String::new(),
        };
        let terms = record.loss.iter().map(|term| {
            let exits: Vec<String> = term.exits.iter().map(|value| format!("{value:.2}")).collect();
            format!("{} {}", term.name, exits.join(" "))
        });
        let terms = terms.collect::<Vec<_>>().join(" | ");
        let epoch = record.epoch + 1;
        self.bar.bar.set_position(record.step);
        self.bar
            .bar
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
struct EvaluationBar(Option<Bar>);

impl EvaluationBar {
    /// For so many images, one attack on one image counting once.
    fn new(images: usize) -> Self {
        let template = "{bar:24} attacked {pos}/{len} images, {per_sec}, {eta} left";
        Self(Some(Bar::new(images, 0, "images attacked", template)))
    }

    fn show(&mut self, progress: Progress) {
        match (progress, &self.0) {
            (Progress::Checking { done: 0, of }, _) => {
                self.0 = None;
                let template = "{bar:24} {spinner} {pos}/{len} verdicts measured, {elapsed}";
                self.0 = Some(Bar::new(of, 0, "verdicts measured", template));
            }
            (Progress::Attacked(images), Some(bar)) => bar.inc(images as u64),
            (Progress::Checking { done, .. }, Some(bar)) => bar.bar.set_position(done as u64),
            (_, None) => {}
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
    evaluation.resume(journal, stop, &mut |progress| bar.show(progress))
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
    evaluation.shard(shard, journal, stop, &mut |progress| bar.show(progress))
}

/// A bar for a pass over `images` images.
pub(super) fn image_bar(images: usize) -> Bar {
    Bar::new(images, 0, "images", "{bar:24} {pos}/{len} images, {per_sec}, {eta} left")
}
