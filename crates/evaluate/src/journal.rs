//! `--journal FILE`: finished batches, one JSON object a line, from which an interrupted evaluation goes on
//! with the same bits.
//!
//! The first line says what is evaluated; a file whose first line says anything else is refused. A line is
//! added when a run has finished a batch or a verdict is measured; a last line that was half written when
//! the power went is cut off.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use neokd_attack::{Diagnostics, Norm};
use neokd_model::policy::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lock::Lock;
use crate::outcome::ImageOutcomes;
use crate::shard::Shard;
use crate::stop::Stop;
use crate::{Error, files};

/// Version of the journal's lines.
pub const SCHEMA: &str = "neokd.attack-journal/4";

/// What is evaluated: all that the numbers depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of neokd.
    pub neokd: String,
    /// The device.
    pub device: String,
    /// SHA-256 of the weights file.
    pub weights: String,
    /// SHA-256 that tells the images from others.
    pub images: String,
    /// How many of them are attacked.
    pub count: usize,
    /// Images of a batch.
    pub batch_size: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// The exit policies that images are shown to.
    pub policies: Vec<Policy>,
    /// Which of them is attacked.
    pub deployed: Option<usize>,
    /// Whether lines hold the adversarial pixels.
    pub pixels: bool,
    /// The runs.
    pub runs: Vec<RunHeader>,
    /// Which part of the work it is of, if it is of a part; the last field, so that the rest of the line is the whole's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Name of the attack.
    pub attack: String,
    /// SHA-256 of the weights that a transfer is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Objective.
    pub objective: String,
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
    /// How it searches, with all settings.
    pub method: String,
}

#[derive(Serialize)]
struct Written<'a> {
    batch: usize,
    run: usize,
    found: &'a ImageOutcomes,
}

/// A line: what a run did to a batch, or signs of a masked gradient.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    Batch { batch: usize, run: usize, found: ImageOutcomes },
    Verdict(Signs),
}

/// What was measured for a verdict, before what the runs showed is added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signs {
    /// The first run that it is about.
    pub verdict: usize,
    /// Images that it was measured on.
    pub checks: usize,
    /// What was measured.
    pub signs: Diagnostics,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The open journal, or none.
#[derive(Debug, Default)]
pub struct Journal {
    file: Option<(PathBuf, File, Lock)>,
    done: BTreeMap<(usize, usize), ImageOutcomes>,
    signs: Vec<Signs>,
}

impl Journal {
    /// Nothing is kept.
    pub fn none() -> Self {
        Self::default()
    }

    /// Goes on with the journal at `path`, or begins it.
    ///
    /// # Errors
    /// [`Error::Config`] says in what an existing journal differs from `header`; [`Error::Busy`] if another process writes
    /// to it; [`Error::Io`] names the file.
    pub fn open(path: &Path, header: &Header) -> Result<Self, Error> {
        if path.exists() && !path.is_file() {
            let why = "is no regular file; name another, or one that does not exist yet";
            return Err(Error::Config(format!("--journal {}: {why}", path.display())));
        }
        let lock = Lock::take(&lock_path(path))?;
        let first = as_json(header)? + "\n";
        let text =
            if path.exists() { String::from_utf8_lossy(&files::read(path)?).into_owned() } else { String::new() };
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let (mut done, mut signs, mut kept) = (BTreeMap::new(), Vec::new(), first.len() as u64);
        match lines.next() {
            Some(found) => {
                same(path, found, &first)?;
                for line in lines {
                    let Ok(read) = serde_json::from_str::<Line>(line) else { break };
                    kept += line.len() as u64;
                    match read {
                        Line::Batch { batch, run, found } => {
                            done.insert((batch, run), found);
                        }
                        Line::Verdict(read) => signs.push(read),
                    }
                }
                // What follows a damaged line cannot be trusted either.
                let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
                file.set_len(kept).map_err(Error::io("write", path))?;
            }
            // Not even the header was written whole.
            None => files::write_atomically(path, first.as_bytes())?,
        }
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { file: Some((path.to_path_buf(), file, lock)), done, signs })
    }

    /// Batches of runs that are in it.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// What a run did to a batch, if it is in it.
    pub(crate) fn take(&mut self, batch: usize, run: usize) -> Option<ImageOutcomes> {
        self.done.remove(&(batch, run))
    }

    /// Adds a finished batch and hands it to the disk.
    pub(crate) fn write(&mut self, batch: usize, run: usize, found: &ImageOutcomes) -> Result<(), Error> {
        match &self.file {
            Some(_) => self.add(&as_json(&Written { batch, run, found })?),
            None => Ok(()),
        }
    }

    /// What was measured for the verdict of a run, if it is in it.
    pub(crate) fn take_signs(&self, run: usize, checks: usize) -> Option<Signs> {
        self.signs.iter().find(|signs| (signs.verdict, signs.checks) == (run, checks)).copied()
    }

    /// Adds what was measured for a verdict, and returns it as a reader of the journal sees it: a float in
    /// JSON comes back as its neighbour at times, and a resumed evaluation must not differ.
    pub(crate) fn write_signs(&mut self, signs: Signs) -> Result<Signs, Error> {
        let line = as_json(&signs)?;
        self.add(&line)?;
        serde_json::from_str(&line).map_err(|error| Error::Config(format!("journal line: {error}")))
    }

    fn add(&mut self, line: &str) -> Result<(), Error> {
        let Some((path, file, _)) = &mut self.file else {
            return Ok(());
        };
        let write = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
        write.map_err(Error::io("write", path))
    }

    /// An error about it.
    pub(crate) fn wrong(&self, why: &str) -> Error {
        let name = self.file.as_ref().map(|(path, ..)| path.display().to_string()).unwrap_or_default();
        Error::Config(format!("--journal {name}: {why}"))
    }

    /// Ends the evaluation after a requested stop.
    pub(crate) fn stop_if(&self, stop: &Stop) -> Result<(), Error> {
        match &self.file {
            Some((path, ..)) if stop.wanted(0) => Err(Error::AttackInterrupted { journal: path.clone() }),
            _ => Ok(()),
        }
    }
}

/// `.NAME.lock` beside it; the same for all names of one file.
fn lock_path(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}

fn as_json(line: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(line).map_err(|error| Error::Config(format!("journal line: {error}")))
}

/// Makes sure that a journal begins with this header.
fn same(path: &Path, found: &str, expected: &str) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(Error::Config(format!("--journal {}: {why}; repeat its command, or name another file", path.display())))
    };
    let (Ok(Value::Object(found)), Ok(Value::Object(expected))) =
        (serde_json::from_str(found), serde_json::from_str(expected))
    else {
        return refuse("is no journal of neokd attack".to_string());
    };
    if let (Some(Value::String(there)), Some(Value::String(here))) = (found.get("schema"), expected.get("schema"))
        && there != here
    {
        return Err(Error::Config(format!(
            "--journal {}: was begun by another version of neokd (its lines are {there}, here they are {here}); name \
             another file",
            path.display()
        )));
    }
    if let (Some(shard), None) = (found.get("shard"), expected.get("shard")) {
        return refuse(format!("holds shard {shard} alone; neokd merge puts shards together"));
    }
    match expected.iter().find(|(key, value)| found.get(*key) != Some(value)) {
        Some((key, value)) => {
            let there = found.get(key).map_or("absent".to_string(), shortened);
            refuse(format!("belongs to another evaluation: {key} is {there} there and {} here", shortened(value)))
        }
        None => refuse("belongs to another version of neokd".to_string()),
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
