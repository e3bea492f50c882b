//! A training run frozen in one file: weights, optimizer, position and configuration.
//!
//! The file is safetensors: `model/NAME` and `optimizer/NAME` tensors, what else a configuration makes
//! a run remember (`average/NAME`, `predictions/averages`), and a JSON header entry with the rest.
//! Random state needs no place in it, since every draw is a function of (seed, purpose, epoch or step,
//! example); the schedule needs none, since the rate is a function of the step. The header's SHA-256
//! covers everything, and the file is replaced atomically.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use neokd_attack::Passes;
use neokd_model::weights::{self, HostTensor, Metadata, TensorMap};
use neokd_model::{ModelConfig, Network};
use serde::{Deserialize, Serialize};

use crate::best::Best;
use crate::optimizer::{Optimizer, OptimizerState};
use crate::predictions::Predictions;
use crate::{Error, RunConfig, files};

const PROGRESS_KEY: &str = "neokd.progress";
const CONFIG_KEY: &str = "neokd.config";
const PREDICTIONS_KEY: &str = "predictions/averages";
const SCHEMA: u32 = 1;

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are complete.
    pub epoch: u64,
    /// Steps done in the current epoch.
    pub position: u64,
    /// Steps done in all.
    pub step: u64,
    /// Passes spent on training so far, attacks included.
    pub passes: Passes,
    /// Wall time spent on training so far, in seconds, over all sessions.
    pub seconds: f64,
    /// The best look at held-out images so far, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The first step at which catastrophic overfitting was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u32,
    progress: Progress,
    optimizer_scalars: BTreeMap<String, i64>,
}

/// A training state in memory.
pub struct TrainingState {
    /// The network, tracked.
    pub model: Network,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The average of its weights, untracked, where one is kept.
    pub average: Option<Network>,
    /// What the network said before, for a loss that asks for it.
    pub predictions: Option<Predictions>,
    /// Where training stands.
    pub progress: Progress,
}

impl TrainingState {
    /// The state before the first step.
    pub fn start(config: &RunConfig, device: &Device) -> Self {
        let seed = crate::seeds::key(config.seed, crate::seeds::Purpose::Weights, 0);
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
    pub fn judged(&self) -> &Network {
        self.average.as_ref().unwrap_or(&self.model)
    }

    /// Writes the state to `path`, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`].
    pub fn save(&self, config: &RunConfig, path: &Path) -> Result<(), Error> {
        let damaged = |why: String| Error::Checkpoint { file: path.to_path_buf(), why };
        let model = weights::collect(&self.model).map_err(Error::weights(path))?;
        let optimizer = self.optimizer.to_state();
        let header = Header { schema: SCHEMA, progress: self.progress.clone(), optimizer_scalars: optimizer.scalars };
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

    /// Reads a state for the given configuration.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is truncated, damaged, of another network or of another schema.
    pub fn load(config: &RunConfig, path: &Path, device: &Device) -> Result<Self, Error> {
        let unfit = |why: String| Error::Checkpoint { file: path.to_path_buf(), why };
        let contents = Contents::read(path)?;
        if contents.model != config.model {
            return Err(unfit(
                "this checkpoint holds another network than the run's config.toml; resume with the run that wrote it"
                    .into(),
            ));
        }
        let model = config.model.init(0, device);
        let model = weights::apply(model, contents.weights).map_err(Error::weights(path))?.train();
        let state = OptimizerState { tensors: contents.optimizer, scalars: contents.header.optimizer_scalars };
        let optimizer = Optimizer::new(&config.training.optimizer).with_state(state, device).map_err(|name| {
            unfit(format!(
                "optimizer state {name} does not fit training.optimizer; resume with the configuration that wrote it"
            ))
        })?;
        let average = match config.training.ema {
            Some(_) => {
                let fresh = config.model.init(0, device);
                Some(weights::apply(fresh, contents.average).map_err(Error::weights(path))?.valid())
            }
            None => None,
        };
        let predictions = match (predictions(config), contents.predictions) {
            (Some(empty), Some(stored)) => Some(empty.restored(stored).ok_or_else(|| {
                unfit(
                    "its running averages are of another number of exits or classes; it belongs to another run".into(),
                )
            })?),
            (Some(_), None) => {
                return Err(unfit(
                    "it lacks the running averages that training.loss needs; resume with the configuration that wrote it"
                        .into(),
                ));
            }
            (None, _) => None,
        };
        Ok(Self { model, average, optimizer, predictions, progress: contents.header.progress })
    }
}

/// Room for the predictions that the configured loss wants remembered, if it does.
fn predictions(config: &RunConfig) -> Option<Predictions> {
    let exits = config.model.exits();
    let remember = config.training.loss.init(exits).ok()?.remember();
    remember.map(|_| Predictions::new(exits, config.model.classes()))
}

/// The average where a training state has one, the network itself where it has none.
fn judged(tensors: &TensorMap) -> TensorMap {
    let average = without_prefix("average/", tensors);
    if average.is_empty() { without_prefix("model/", tensors) } else { average }
}

/// The network in a checkpoint or weights file, for evaluation: of a checkpoint with averaged weights,
/// the average.
///
/// # Errors
/// [`Error::Io`] or [`Error::Checkpoint`].
pub fn load_network(path: &Path, device: &Device) -> Result<(ModelConfig, Network), Error> {
    load_one(path, device, judged)
}

/// As [`load_network`], but of a checkpoint the weights of the last step, averaged or not.
///
/// # Errors
/// As [`load_network`].
pub fn load_last(path: &Path, device: &Device) -> Result<(ModelConfig, Network), Error> {
    load_one(path, device, |tensors| without_prefix("model/", tensors))
}

fn load_one(
    path: &Path,
    device: &Device,
    of_checkpoint: impl FnOnce(&TensorMap) -> TensorMap,
) -> Result<(ModelConfig, Network), Error> {
    let bytes = files::read(path)?;
    let (tensors, metadata) = weights::decode(&bytes).map_err(Error::weights(path))?;
    let config = weights::read_model(&metadata).map_err(Error::weights(path))?;
    let tensors = if metadata.contains_key(PROGRESS_KEY) { of_checkpoint(&tensors) } else { tensors };
    let network = weights::apply(config.init(0, device), tensors).map_err(Error::weights(path))?;
    Ok((config, network))
}

/// How far the run had come when this checkpoint was written.
///
/// # Errors
/// As [`TrainingState::load`].
pub fn progress(path: &Path) -> Result<Progress, Error> {
    Ok(Contents::read(path)?.header.progress)
}

struct Contents {
    model: ModelConfig,
    weights: TensorMap,
    optimizer: TensorMap,
    average: TensorMap,
    predictions: Option<HostTensor>,
    header: Header,
}

impl Contents {
    fn read(path: &Path) -> Result<Self, Error> {
        let unfit = |why: String| Error::Checkpoint { file: path.to_path_buf(), why };
        let bytes = files::read(path)?;
        let (tensors, metadata) = weights::decode(&bytes).map_err(Error::weights(path))?;
        let text = metadata.get(PROGRESS_KEY).ok_or_else(|| {
            unfit(
                "no training state inside: these are weights; --resume needs a checkpoint from a run directory".into(),
            )
        })?;
        let header: Header = serde_json::from_str(text).map_err(|error| unfit(format!("header: {error}")))?;
        if header.schema != SCHEMA {
            return Err(unfit(format!(
                "checkpoint schema {} is not {SCHEMA}; resume with the neokd version that wrote it",
                header.schema
            )));
        }
        Ok(Self {
            model: weights::read_model(&metadata).map_err(Error::weights(path))?,
            weights: without_prefix("model/", &tensors),
            optimizer: without_prefix("optimizer/", &tensors),
            average: without_prefix("average/", &tensors),
            predictions: tensors.get(PREDICTIONS_KEY).cloned(),
            header,
        })
    }
}

fn prefixed(prefix: &str, tensors: TensorMap) -> TensorMap {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

fn without_prefix(prefix: &str, tensors: &TensorMap) -> TensorMap {
    let inside =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())));
    inside.collect()
}
