//! A run as a report shows it: its reports, its curves, its example images, and what is missing.

use std::path::{Path, PathBuf};

use neokd_evaluate::examples::{self, Examples};
use neokd_evaluate::{Error, files};
use neokd_train::run::run_dir::RunDir;
use serde_json::Value;

use crate::history::History;
use crate::report::Report;

/// Folders within folders are looked into so deep.
const DEPTH: usize = 5;

/// Everything known about a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of its directory, or of the report file.
    pub name: String,
    /// The directory or the file.
    pub source: PathBuf,
    /// The configuration, as it is written.
    pub config: Value,
    /// `report.json`; absent for a run that was not evaluated yet.
    pub report: Option<Report>,
    /// Further reports in the directory, `report-*.json`: other radii, other attacks.
    pub further: Vec<Report>,
    /// The curves of training, where there is a log.
    pub history: Option<History>,
    /// Example images, where there are some.
    pub examples: Option<Examples>,
    /// What a reader must know: what is missing or unfinished, and how to get it.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads a run directory, or a `report.json` on its own.
    ///
    /// # Errors
    /// [`Error::RunDir`] if it is neither, or its report cannot be read; [`Error::Io`].
    pub fn read(source: &Path) -> Result<Self, Error> {
        match source.is_dir() {
            true => Self::read_folder(source),
            false => Self::read_file(source),
        }
    }

    fn read_file(file: &Path) -> Result<Self, Error> {
        if !file.exists() {
            return Err(Error::RunDir {
                folder: file.to_path_buf(),
                why: "no such file or directory; give a directory that neokd train wrote, or a report.json".to_string(),
            });
        }
        let report = Report::read(file)?;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let mut run = Self {
            name: if stem == "report" { file.parent().map_or(stem, name_of) } else { stem },
            source: file.to_path_buf(),
            config: report.config.clone(),
            report: Some(report),
            further: Vec::new(),
            history: None,
            examples: None,
            notes: Vec::new(),
        };
        run.note_circumstances();
        Ok(run)
    }

    fn read_folder(folder: &Path) -> Result<Self, Error> {
        let run = RunDir::at(folder);
        let report = run.report_path().exists().then(|| Report::read(&run.report_path())).transpose()?;
        let config = match &report {
            Some(report) => report.config.clone(),
            None => config_of(&run)?,
        };
        let mut found = Self {
            name: name_of(folder),
            source: folder.to_path_buf(),
            config,
            report,
            further: further_reports(folder)?.iter().map(|path| Report::read(path)).collect::<Result<_, _>>()?,
            history: None,
            examples: None,
            notes: Vec::new(),
        };
        found.read_history(&run)?;
        if found.report.is_none() {
            found.note_unevaluated(&run);
        }
        found.read_examples(folder);
        found.note_circumstances();
        Ok(found)
    }

    fn read_history(&mut self, run: &RunDir) -> Result<(), Error> {
        if !run.metrics_path().exists() {
            self.notes.push("There is no metrics.jsonl, so there are no training curves.".to_string());
            return Ok(());
        }
        let history = History::read(&run.metrics_path())?;
        if let Some(line) = history.broken_line {
            let step = history.last_step;
            self.notes.push(format!(
                "Line {line} of metrics.jsonl is not complete; the curves end before it, at step {step}."
            ));
        }
        if let Some(step) = history.alarm {
            self.notes.push(format!(
                "Catastrophic overfitting was seen at step {step}: exits withstand one gradient step and not many."
            ));
        }
        self.history = Some(history);
        Ok(())
    }

    fn note_unevaluated(&mut self, run: &RunDir) {
        let folder = run.folder().display();
        let step = self.history.as_ref().map_or(0, |history| history.last_step);
        self.notes.push(match run.weights_path().exists() {
            true => format!(
                "Trained ({step} steps) but not evaluated: neokd evaluate {folder} --out {folder}/report.json does that."
            ),
            false => format!(
                "In progress, or interrupted, after {step} steps: there are training curves and no test results yet. \
                 If it no longer runs, neokd train --resume {folder} goes on."
            ),
        });
    }

    fn read_examples(&mut self, folder: &Path) {
        let path = folder.join(examples::FILE);
        if !path.exists() {
            return;
        }
        match Examples::read(&path) {
            Ok(examples) => self.examples = Some(examples),
            Err(error) => self.notes.push(format!("No example images: {error}.")),
        }
    }

    /// Adds what the report itself says to be careful about.
    fn note_circumstances(&mut self) {
        let Some(report) = &self.report else { return };
        if let Some(training) = report.training.as_ref().filter(|training| !training.complete) {
            let (step, planned) = (training.progress.step, training.planned_steps);
            self.notes.push(format!("Evaluated before training was finished, at step {step} of {planned}."));
        }
        match report.data.trust().as_deref() {
            Some("unverified") => {
                self.notes.push("The data are unverified: their digests are not the published ones.".to_string());
            }
            Some("generated") => self.notes.push("The data are generated, not photographs.".to_string()),
            _ => {}
        }
    }

    /// A value of the configuration as text; empty if it is not there.
    pub fn setting(&self, pointer: &str) -> String {
        match self.config.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// What trained it: the directory's name without its seed where it ends in one, as comparisons name their runs,
    /// else the kind of the loss.
    pub fn method(&self) -> String {
        let seed = format!("-{}", self.setting("/seed"));
        match self.name.strip_suffix(&seed) {
            Some(method) if !method.is_empty() => method.to_string(),
            _ => self.setting("/training/loss/kind"),
        }
    }

    /// How far it is, in words.
    pub fn state(&self) -> String {
        let step = self.history.as_ref().map_or(0, |history| history.last_step);
        match self.report.as_ref().map(|report| &report.training) {
            Some(Some(training)) if training.complete => "complete".to_string(),
            Some(Some(training)) => format!("{} of {} steps", training.progress.step, training.planned_steps),
            Some(None) => "weights".to_string(),
            None if RunDir::at(&self.source).weights_path().exists() => "not evaluated".to_string(),
            None => match self.planned_steps() {
                Some(planned) => format!("{step} of {planned} steps"),
                None => format!("in progress, {step} steps"),
            },
        }
    }

    /// Steps that training will take, where the configuration alone says so.
    fn planned_steps(&self) -> Option<u64> {
        let of = |key: &str| self.config.pointer(&format!("/training/{key}")).and_then(Value::as_u64);
        let steps = of("epochs")? * of("steps_per_epoch").filter(|steps| *steps > 0)?;
        Some(steps)
    }

    /// All reports, the main one first.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.report.iter().chain(&self.further)
    }
}

/// The configuration of a run without a report.
fn config_of(run: &RunDir) -> Result<Value, Error> {
    let path = run.config_path();
    if !path.exists() {
        return Err(Error::RunDir {
            folder: run.folder().to_path_buf(),
            why: "no run here: neither config.toml nor report.json is inside; give a directory that neokd train wrote"
                .to_string(),
        });
    }
    let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
    let bad = |why: &str| Error::Config(format!("{}: {}", path.display(), why.trim_end()));
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| bad(&error.to_string()))?;
    serde_json::to_value(table).map_err(|error| bad(&error.to_string()))
}

/// `report-*.json` in a folder, sorted.
fn further_reports(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
    let names = entries.map_err(Error::io("read", folder))?.into_iter().map(|entry| entry.file_name());
    let mut found: Vec<PathBuf> = names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("report-") && name.ends_with(".json")
        })
        .map(|name| folder.join(name))
        .collect();
    found.sort();
    Ok(found)
}

/// Whether a path is something that [`Run::read`] reads, or no folder at all.
pub(crate) fn is_run(source: &Path) -> bool {
    let run = RunDir::at(source);
    !source.is_dir() || run.config_path().exists() || run.report_path().exists()
}

/// The run directories below a folder, sorted.
///
/// # Errors
/// [`Error::Io`] if the folder itself cannot be read.
pub fn runs_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    find(folder, DEPTH, &mut found).map_err(Error::io("read", folder))?;
    Ok(found)
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut below = Vec::new();
    let (mut has_config, mut has_trace) = (false, false);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        has_config |= name == "config.toml";
        has_trace |= matches!(name.as_str(), "metrics.jsonl" | "report.json" | "checkpoints");
        // A link could lead back up.
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            below.push(entry.path());
        }
    }
    if has_config && has_trace {
        found.push(folder.to_path_buf());
    } else if depth > 0 {
        below.sort();
        for folder in below {
            // A folder that may not be read holds no run that may be read.
            let _ = find(&folder, depth - 1, found);
        }
    }
    Ok(())
}

/// The last part of a path, also of `.`.
pub(crate) fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| "run".to_string(), |name| name.to_string_lossy().into_owned())
}
