//! `metrics.jsonl`: a line per step, look at held-out images, probe for overfitting, epoch and transfer matrix; docs/report.md
//! has their fields.
//!
//! A line is in the file as soon as there is something to say, so a run can be followed.
//!
//! The lines hold nothing that depends on time or machine load, so the same run twice writes the
//! same file. A resumed run cuts the file back to its checkpoint first.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use neokd_evaluate::interval::Share;
use neokd_evaluate::{Error, files};
use serde::{Deserialize, Serialize};

use crate::options::probe::ProbeRecord;
use crate::run::best::ValidationRecord;
use crate::run::progress::Progress;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// One training step.
    Step(StepRecord),
    /// A look at held-out training images.
    Validation(ValidationRecord),
    /// A look for catastrophic overfitting.
    Probe(ProbeRecord),
    /// How attacks on one exit carry over to the others.
    Transfer(TransferRecord),
    /// The end of an epoch.
    Epoch {
        /// Steps done.
        step: u64,
        /// Epochs done.
        epoch: u64,
        /// Mean over the epoch's steps of every loss term, per exit.
        loss: Vec<TermRecord>,
    },
}

impl Record {
    /// Whether a run that stands at `progress` has written this line already.
    fn belongs_before(&self, progress: &Progress) -> bool {
        match self {
            Self::Step(record) => record.step <= progress.step,
            Self::Validation(record) => record.step <= progress.step,
            Self::Probe(record) => record.step <= progress.step,
            Self::Transfer(TransferRecord { epoch, .. }) | Self::Epoch { epoch, .. } => *epoch <= progress.epoch,
        }
    }
}

/// A loss term's value per exit, unweighted batch means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermRecord {
    /// Name of the term.
    pub name: String,
    /// One value per exit.
    pub exits: Vec<f32>,
}

/// One training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: u64,
    /// The epoch it belongs to, from 0.
    pub epoch: u64,
    /// Learning rate used.
    pub rate: f64,
    /// What was differentiated.
    pub total: f32,
    /// Every loss term.
    pub loss: Vec<TermRecord>,
}

/// Success of attacks on single exits at all exits, on a few held-out training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Row: the attacked exit, column: the measured one; shares of the images that all exits classify correctly.
    pub matrix: Vec<Vec<Share>>,
}

/// Means of every loss term over the steps of one epoch.
#[derive(Clone, Debug, Default)]
struct EpochMeans {
    steps: u64,
    sums: Vec<(String, Vec<f64>)>,
}

impl EpochMeans {
    fn add(&mut self, step: &StepRecord) {
        if self.steps == 0 {
            self.sums = step.loss.iter().map(|term| (term.name.clone(), vec![0.0; term.exits.len()])).collect();
        }
        self.steps += 1;
        for ((_, sums), term) in self.sums.iter_mut().zip(&step.loss) {
            sums.iter_mut().zip(&term.exits).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }

    fn finish(self) -> Vec<TermRecord> {
        let mean = |sum: f64| (sum / self.steps as f64) as f32;
        let terms = self.sums.into_iter();
        terms.map(|(name, sums)| TermRecord { name, exits: sums.into_iter().map(mean).collect() }).collect()
    }
}

/// The open log.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    means: EpochMeans,
}

impl MetricsLog {
    /// Opens the log to go on from `progress`; later lines, and a half-written one, are cut off.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn open(path: &Path, progress: &Progress) -> Result<Self, Error> {
        let mut means = EpochMeans::default();
        if path.exists() {
            let mut text = String::new();
            for (record, line) in lines(path)?.into_iter().filter(|(record, _)| record.belongs_before(progress)) {
                // A resumed epoch's mean is over all of its steps, those of earlier sessions included.
                if let Record::Step(step) = &record
                    && step.epoch == progress.epoch
                {
                    means.add(step);
                }
                text += &line;
                text.push('\n');
            }
            files::write_atomically(path, text.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_path_buf(), file, means })
    }

    /// Adds a line for a step.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write_step(&mut self, step: StepRecord) -> Result<(), Error> {
        self.means.add(&step);
        self.write(&Record::Step(step))
    }

    /// Adds a line with the means over the steps since the last such line.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write_epoch(&mut self, progress: &Progress) -> Result<(), Error> {
        let loss = std::mem::take(&mut self.means).finish();
        self.write(&Record::Epoch { step: progress.step, epoch: progress.epoch, loss })
    }

    /// Adds a line for a look at held-out images.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write_validation(&mut self, record: ValidationRecord) -> Result<(), Error> {
        self.write(&Record::Validation(record))
    }

    /// Adds a line for a look for catastrophic overfitting.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write_probe(&mut self, record: ProbeRecord) -> Result<(), Error> {
        self.write(&Record::Probe(record))
    }

    /// Adds a line for a transfer matrix.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write_transfer(&mut self, record: TransferRecord) -> Result<(), Error> {
        self.write(&Record::Transfer(record))
    }

    fn write(&mut self, record: &Record) -> Result<(), Error> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from);
        let write = line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        write.map_err(Error::io("write", &self.path))
    }
}

/// The records of a log, up to the first line that is not one.
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    Ok(lines(path)?.into_iter().map(|(record, _)| record).collect())
}

fn lines(path: &Path) -> Result<Vec<(Record, String)>, Error> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut found = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::io("read", path))?;
        match serde_json::from_str(&line) {
            Ok(record) => found.push((record, line)),
            // The last line of a run that was killed while writing.
            Err(_) => break,
        }
    }
    Ok(found)
}
