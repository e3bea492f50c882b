//! A network's configuration from a TOML file or from the header of a weights file.

use std::path::Path;

use neokd_evaluate::{Error, files};
use neokd_model::{ModelConfig, weights};

use crate::RunConfig;
use crate::config::preset;
use crate::run::run_dir::RunDir;

/// Reads `model.toml` (the keys of a configuration's `[model]` section, or a whole configuration), the network of a preset
/// or of a run directory, or the configuration that a weights file or checkpoint carries.
///
/// # Errors
/// [`Error::Io`], [`Error::Config`] or [`Error::Checkpoint`], naming the file.
pub fn read(path: &Path) -> Result<ModelConfig, Error> {
    if let Some(name) = path.to_str().filter(|name| !path.exists() && preset(name).is_some()) {
        return Ok(RunConfig::load(name, &[])?.model);
    }
    if path.is_dir() {
        return Ok(RunDir::open(path)?.1.model);
    }
    let bytes = files::read(path)?;
    if path.extension().is_some_and(|end| end == "safetensors") {
        let (_, metadata) = weights::decode(&bytes).map_err(Error::weights(path))?;
        return weights::read_model(&metadata).map_err(Error::weights(path));
    }
    let source = path.display().to_string();
    let text =
        String::from_utf8(bytes).map_err(|_| Error::Config(format!("{source}: not UTF-8 text; a model is TOML")))?;
    crate::config::parse_model(&source, &text)
}

/// Makes sure that the network in `file`, given as `--model`, is the one that `weights` carry.
///
/// # Errors
/// [`Error::Config`] names both files and the first key that differs, with both values.
pub fn check_same(file: &Path, asked: &ModelConfig, weights: &Path, carried: &ModelConfig) -> Result<(), Error> {
    if asked == carried {
        return Ok(());
    }
    let table = |model: &ModelConfig| toml::Table::try_from(model).unwrap_or_default();
    let (asked, carried) = (table(asked), table(carried));
    let differs = asked.keys().chain(carried.keys()).find(|key| asked.get(*key) != carried.get(*key));
    let value = |table: &toml::Table, key: &str| table.get(key).map_or("absent".to_string(), ToString::to_string);
    let what = differs.map_or_else(String::new, |key| {
        format!(": {key} is {} there and {} in the weights' header", value(&asked, key), value(&carried, key))
    });
    Err(Error::Config(format!(
        "--model {}: is not the network of {}{what}; leave --model out, or give weights of that network",
        file.display(),
        weights.display()
    )))
}
