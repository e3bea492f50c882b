//! A training run frozen in one file: weights, optimizer, position and configuration.
//!
//! The file is safetensors: `model/NAME` and `optimizer/NAME` tensors, what else a configuration makes
//! a run remember (`average/NAME`, `predictions/averages`), and a JSON header entry with the rest.
//! Random state needs no place in it, since every draw is a function of (seed, purpose, epoch or step,
//! example); the schedule needs none, since the rate is a function of the step. The header's SHA-256
//! covers everything, and the file is replaced atomically.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_evaluate::accuracy::Versions;
use neokd_evaluate::{Error, files};
use neokd_model::weights::{self, HostTensor, Metadata, TensorMap, WeightsError};
use neokd_model::{Backbone, ModelConfig, MultiExit, Network};
use serde::{Deserialize, Serialize};

use crate::RunConfig;
use crate::options::predictions::Predictions;
use crate::run::origin::{Origin, Recipe};
use crate::run::progress::Progress;
use crate::training::optimizer::{Optimizer, OptimizerState};

const PROGRESS_KEY: &str = "neokd.progress";
const CONFIG_KEY: &str = "neokd.config";
const PREDICTIONS_KEY: &str = "predictions/averages";
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u32,
    progress: Progress,
    optimizer_scalars: BTreeMap<String, i64>,
    /// What wrote it; absent in old files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    versions: Option<Versions>,
}

/// A training state in memory.
pub struct TrainingState<M = Network> {
    /// The network, tracked.
    pub model: M,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The average of its weights, untracked, where one is kept.
    pub average: Option<M>,
    /// What the network said before, for a loss that asks for it.
    pub predictions: Option<Predictions>,
    /// Where training stands.
    pub progress: Progress,
}

impl<M: MultiExit> TrainingState<M> {
    /// The state before the first step.
    pub fn start<B: Backbone<Network = M>>(config: &RunConfig<B>, device: &Device) -> Self {
        let seed = neokd_evaluate::seeds::key(config.seed, neokd_evaluate::seeds::Purpose::Weights, 0);
        let model = config.model.init(seed, device).train();
        Self {
            average: config.training.ema.map(|_| model.valid()),
            model,
            optimizer: Optimizer::new(&config.training.optimizer),
            predictions: predictions(config),
            progress: Progress::default(),
        }
    }

    /// The network that stands for the run at this point: the average where one is kept.
    pub fn for_evaluation(&self) -> &M {
        self.average.as_ref().unwrap_or(&self.model)
    }

    /// Writes the state to `path`, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`].
    pub fn save<B: Backbone<Network = M>>(&self, config: &RunConfig<B>, path: &Path) -> Result<(), Error> {
        let damaged = |why: String| Error::Checkpoint { file: path.to_path_buf(), why };
        let model = weights::collect(&self.model).map_err(Error::weights(path))?;
        let optimizer = self.optimizer.to_state();
        let header = Header {
            schema: SCHEMA,
            progress: self.progress.clone(),
            optimizer_scalars: optimizer.scalars,
            versions: Some(Versions::current()),
        };
        let metadata = Metadata::from([
            (weights::MODEL_KEY.to_string(), weights::model_toml(&config.model).map_err(Error::weights(path))?),
            (CONFIG_KEY.to_string(), config.to_toml()?),
            (PROGRESS_KEY.to_string(), serde_json::to_string(&header).map_err(|error| damaged(error.to_string()))?),
        ]);
        let mut tensors = prefixed("model/", model);
        tensors.append(&mut prefixed("optimizer/", optimizer.tensors));
        if let Some(average) = &self.average {
            tensors.append(&mut prefixed("average/", weights::collect(average).map_err(Error::weights(path))?));
        }
        tensors.extend(self.predictions.iter().map(|kept| (PREDICTIONS_KEY.to_string(), kept.to_host())));
        let bytes = weights::encode(&tensors, &metadata).map_err(Error::weights(path))?;
        files::write_atomically(path, &bytes)
    }

    /// Reads a state for the given configuration; it remembers in what configuration and program differ from those that wrote
    /// it, as what goes on from there is not what an uninterrupted run would have been.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is truncated, damaged, of another network or of another schema.
    pub fn load<B: Backbone<Network = M>>(config: &RunConfig<B>, path: &Path, device: &Device) -> Result<Self, Error> {
        let contents = Contents::read(path)?;
        contents.check_network(config)?;
        let network = apply(&contents.model, contents.weights, path, device)?;
        let mut saved = contents.training.ok_or_else(|| no_training_state(path))?;
        if let Some(Origin::Trained(then)) = &contents.origin {
            let changed = then.differences(&Recipe::of(config, then.steps)?).into_iter();
            saved.header.progress.changed.extend(changed.map(|what| format!("{what}, from step {} on", then.steps)));
        }
        let state = OptimizerState { tensors: saved.optimizer, scalars: saved.header.optimizer_scalars };
        let optimizer = Optimizer::new(&config.training.optimizer).with_state(state, device).map_err(|name| {
            let why = "does not fit training.optimizer; resume with the configuration that wrote it";
            Error::Checkpoint { file: path.to_path_buf(), why: format!("optimizer state {name} {why}") }
        })?;
        let average = match config.training.ema {
            Some(_) => Some(apply(&config.model, saved.average, path, device)?.valid()),
            None => None,
        };
        let unfit = |why: &str| Error::Checkpoint { file: path.to_path_buf(), why: why.to_string() };
        let predictions = match (predictions(config), saved.predictions) {
            (Some(empty), Some(stored)) => Some(empty.restored(stored).ok_or_else(|| {
                unfit("its running averages are of another number of exits or classes; it belongs to another run")
            })?),
            (Some(_), None) => {
                return Err(unfit(
                    "it lacks the running averages that training.loss needs; resume with the configuration that wrote \
                     it",
                ));
            }
            (None, _) => None,
        };
        Ok(Self { model: network.train(), average, optimizer, predictions, progress: saved.header.progress })
    }
}

/// Room for the predictions that the configured loss wants remembered, if it does.
fn predictions<B: Backbone>(config: &RunConfig<B>) -> Option<Predictions> {
    let exits = config.model.exits();
    let remember = config.training.loss.init(exits).ok()?.remember();
    remember.map(|_| Predictions::new(exits, config.model.classes()))
}

/// The network in a checkpoint or weights file, for evaluation: of a checkpoint with averaged weights,
/// the average.
///
/// # Errors
/// As [`Contents::read`] and [`Contents::network`].
pub fn load_network(path: &Path, device: &Device) -> Result<(ModelConfig, Network), Error> {
    Contents::<ModelConfig>::read(path)?.network(device)
}

/// What a checkpoint or a weights file holds, decoded and checked once.
pub struct Contents<B = ModelConfig> {
    path: PathBuf,
    model: B,
    weights: TensorMap,
    origin: Option<Origin>,
    training: Option<Saved>,
}

/// What a checkpoint holds beside the network.
struct Saved {
    header: Header,
    optimizer: TensorMap,
    /// Of the weights; empty where none is kept.
    average: TensorMap,
    predictions: Option<HostTensor>,
}

impl<B: Backbone> Contents<B> {
    /// Reads a file whole and checks its checksum.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Checkpoint`] if it is damaged or of another schema.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::decode(path, &files::read(path)?)
    }

    /// As [`read`](Self::read), from the bytes of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let unfit = |why: String| Error::Checkpoint { file: path.to_path_buf(), why };
        let (mut tensors, metadata) = weights::decode(bytes).map_err(Error::weights(path))?;
        let model = weights::read_model(&metadata).map_err(Error::weights(path))?;
        let mut origin = Origin::read(&metadata);
        let training = match metadata.get(PROGRESS_KEY) {
            None => None,
            Some(text) => {
                let header: Header = serde_json::from_str(text).map_err(|error| unfit(format!("header: {error}")))?;
                if header.schema != SCHEMA {
                    return Err(unfit(format!(
                        "checkpoint schema {} is not {SCHEMA}; resume with the neokd version that wrote it",
                        header.schema
                    )));
                }
                let recipe = metadata.get(CONFIG_KEY).and_then(|config| Recipe::of_toml(config, header.progress.step));
                origin = recipe.map(|recipe| {
                    let changed = header.progress.changed.clone();
                    Origin::Trained(Recipe { versions: header.versions.clone(), changed, ..recipe })
                });
                Some(Saved {
                    header,
                    optimizer: take(&mut tensors, "optimizer/"),
                    average: take(&mut tensors, "average/"),
                    predictions: tensors.remove(PREDICTIONS_KEY),
                })
            }
        };
        let weights = if training.is_some() { take(&mut tensors, "model/") } else { tensors };
        Ok(Self { path: path.to_path_buf(), model, weights, origin, training })
    }

    /// The network's configuration.
    pub fn model(&self) -> &B {
        &self.model
    }

    /// Where the weights come from, if the file says so.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// How far the run had come when this checkpoint was written.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if these are weights alone.
    pub fn progress(&self) -> Result<&Progress, Error> {
        let saved = self.training.as_ref().ok_or_else(|| no_training_state(&self.path))?;
        Ok(&saved.header.progress)
    }

    /// Makes sure that this is the network of `config`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is another.
    pub fn check_network(&self, config: &RunConfig<B>) -> Result<(), Error> {
        match self.model == config.model {
            true => Ok(()),
            false => Err(Error::Checkpoint {
                file: self.path.clone(),
                why: "this checkpoint holds another network than the run's config.toml; use it with the run that \
                      wrote it"
                    .to_string(),
            }),
        }
    }

    /// The network, for evaluation: of a checkpoint with averaged weights, the average.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] lists the tensors that do not fit it.
    pub fn network(self, device: &Device) -> Result<(B, B::Network), Error> {
        let contents = self.for_evaluation();
        let network = apply(&contents.model, contents.weights, &contents.path, device)?;
        Ok((contents.model, network))
    }

    /// As [`network`](Self::network), but the weights of the last step, averaged or not.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn last_network(self, device: &Device) -> Result<(B, B::Network), Error> {
        let network = apply(&self.model, self.weights, &self.path, device)?;
        Ok((self.model, network))
    }

    /// The same with the average in the place of the weights, where there is one.
    fn for_evaluation(mut self) -> Self {
        if let Some(saved) = self.training.as_mut().filter(|saved| !saved.average.is_empty()) {
            self.weights = std::mem::take(&mut saved.average);
        }
        self
    }
}

impl Contents {
    /// As [`network`](Self::network), also where the tensors have the original code's names.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] lists the tensors that do not fit, under the names that fit more of them.
    pub fn network_of_any_names(self, device: &Device) -> Result<(ModelConfig, Network), Error> {
        let contents = self.for_evaluation();
        let ours = match weights::apply(contents.model.init(0, device), contents.weights.clone()) {
            Err(WeightsError::Mismatch(report)) => report,
            result => return Ok((contents.model, result.map_err(Error::weights(&contents.path))?)),
        };
        let found = weights::from_pytorch(&contents.model, contents.weights, device).map_err(|theirs| match theirs {
            WeightsError::Mismatch(theirs) if theirs.count() < ours.count() => WeightsError::Mismatch(theirs),
            WeightsError::Mismatch(_) => WeightsError::Mismatch(ours),
            other => other,
        });
        Ok((contents.model, found.map_err(Error::weights(&contents.path))?))
    }
}

fn apply<B: Backbone>(model: &B, weights: TensorMap, path: &Path, device: &Device) -> Result<B::Network, Error> {
    weights::apply(model.init(0, device), weights).map_err(Error::weights(path))
}

fn no_training_state(path: &Path) -> Error {
    let why = "no training state inside: these are weights; --resume needs a checkpoint from a run directory";
    Error::Checkpoint { file: path.to_path_buf(), why: why.to_string() }
}

fn prefixed(prefix: &str, tensors: TensorMap) -> TensorMap {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Takes the tensors whose names begin with `prefix` out of `tensors`, and the prefix off their names.
fn take(tensors: &mut TensorMap, prefix: &str) -> TensorMap {
    let (inside, rest) = std::mem::take(tensors).into_iter().partition(|(name, _)| name.starts_with(prefix));
    *tensors = rest;
    let inside: TensorMap = inside;
    inside.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect()
}
