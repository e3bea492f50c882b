//! A network's configuration from a TOML file or from the header of a weights file.

use std::path::Path;

use neokd_model::{ModelConfig, weights};

use crate::{Error, files};

/// Reads `model.toml` (the keys of a configuration's `[model]` section, or a whole configuration), or
/// the configuration that a weights file or checkpoint carries.
///
/// # Errors
/// [`Error::Io`], [`Error::Config`] or [`Error::Checkpoint`], naming the file.
pub fn read(path: &Path) -> Result<ModelConfig, Error> {
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
