//! The directory of one run: `config.toml`, `metrics.jsonl`, `checkpoints/`, `weights.safetensors`,
//! `report.json`, `autoattack.jsonl`, `examples.safetensors`, `model-card.md`; and `.lock`, which says who trains it.

use std::path::{Path, PathBuf};

use neokd_evaluate::lock::Lock;
use neokd_evaluate::{Error, files};
use neokd_model::Backbone;

use crate::RunConfig;

/// A run's directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    folder: PathBuf,
}

impl RunDir {
    /// Makes the directory of a new run and writes its configuration, the file that makes it a run. What a start that was
    /// killed before that left behind is no obstacle.
    ///
    /// # Errors
    /// [`Error::RunDir`] if the folder already holds anything; [`Error::Io`].
    pub fn create<B: Backbone>(folder: &Path, config: &RunConfig<B>) -> Result<Self, Error> {
        let run = Self { folder: folder.to_path_buf() };
        let holds_a_run = run.config_path().exists();
        let names = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
        if holds_a_run {
            let resume = folder.display();
            return Err(run.wrong(format!("holds another run; choose another --out, or go on with --resume {resume}")));
        }
        if let Some(name) = names.into_iter().find(|name| !files::is_left_over(name)) {
            let why = "is not empty, and no run: it holds";
            return Err(run.wrong(format!("{why} {}; choose another --out", name.display())));
        }
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        files::write_atomically(&run.config_path(), config.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Makes this process the only one that trains this run, until the lock is dropped, and removes what killed ones
    /// left half written.
    ///
    /// # Errors
    /// [`Error::Busy`] names the process that trains it; [`Error::Io`].
    pub fn occupy(&self) -> Result<Lock, Error> {
        let lock = Lock::take(&self.folder.join(".lock"))?;
        let checkpoints = self.checkpoints();
        std::fs::create_dir_all(&checkpoints).map_err(Error::io("create", &checkpoints))?;
        [&self.folder, &checkpoints].into_iter().try_for_each(|folder| files::sweep(folder))?;
        Ok(lock)
    }

    /// Opens an existing run and reads its configuration.
    ///
    /// # Errors
    /// [`Error::RunDir`] if it is no run; [`Error::Config`] if its configuration was damaged.
    pub fn open(folder: &Path) -> Result<(Self, RunConfig), Error> {
        Self::open_as(folder)
    }

    /// As [`open`](Self::open), the run of a network of one's own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as<B: Backbone>(folder: &Path) -> Result<(Self, RunConfig<B>), Error> {
        let run = Self { folder: folder.to_path_buf() };
        let path = run.config_path();
        if !path.exists() {
            return Err(
                run.wrong("no run here: config.toml is missing; give the directory that neokd train wrote".into())
            );
        }
        let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
        let config = RunConfig::from_toml(&path.display().to_string(), &text, &[])?;
        Ok((run, config))
    }

    /// The files of a directory, which need not be a run.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// A directory below `parent` that does not exist yet: `NAME-001`, `NAME-002`, ...
    pub fn fresh(parent: &Path, name: &str) -> PathBuf {
        let numbered = (1..).map(|number| parent.join(format!("{name}-{number:03}")));
        numbered.into_iter().find(|path| !path.exists()).unwrap_or_else(|| parent.join(name))
    }

    /// The directory itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `config.toml`, fully resolved.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    /// `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.jsonl")
    }

    /// `report.json`.
    pub fn report_path(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// `autoattack.jsonl`: finished batches of `neokd evaluate --full`.
    pub fn journal_path(&self) -> PathBuf {
        self.folder.join("autoattack.jsonl")
    }

    /// `weights.safetensors`: the trained network alone.
    pub fn weights_path(&self) -> PathBuf {
        self.folder.join("weights.safetensors")
    }

    /// `model-card.md`: what the weights are.
    pub fn card_path(&self) -> PathBuf {
        self.folder.join("model-card.md")
    }

    /// The newest training state.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.checkpoints().join("last.safetensors")
    }

    /// The network of the best look at held-out images, where one is kept.
    pub fn best_path(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    fn wrong(&self, why: String) -> Error {
        Error::RunDir { folder: self.folder.clone(), why }
    }
}
