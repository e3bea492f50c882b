//! Where weights come from, as the header of their file says, so that a number about them can say it too.

use neokd_evaluate::Error;
use neokd_evaluate::accuracy::Versions;
use neokd_model::Backbone;
use neokd_model::weights::{self, Metadata, WeightsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::RunConfig;

/// Key of the header entry: JSON of [`Origin`].
const KEY: &str = "neokd.origin";

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Origin {
    /// A training run.
    Trained(Recipe),
    /// `neokd convert`; how they were trained is not known.
    Converted {
        /// Name of the file, without its folder.
        file: String,
        /// SHA-256 of the file.
        sha256: String,
        /// The entry of the file that holds the weights; empty for the whole file.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        key: String,
    },
}

/// What a training run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The configuration, seed included; without the folder of the images, which is of one machine, and without how it is
    /// evaluated, which changes no weights.
    pub config: Value,
    /// SHA-256 of the training images and labels ([`Images::digest`](neokd_datasets::Images::digest)); a checkpoint does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_digest: Option<String>,
    /// What computed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// Steps that were done.
    pub steps: u64,
    /// What was changed in the configuration or the program on the way, and at which step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

impl Recipe {
    /// Of so many steps of a run.
    ///
    /// # Errors
    /// [`Error::Config`] if JSON cannot hold the configuration.
    pub fn of<B: Backbone>(config: &RunConfig<B>, steps: u64) -> Result<Self, Error> {
        let unwritable = |error| {
            Error::Config(format!("the configuration cannot be written as JSON: {error}; leave out what is new"))
        };
        Ok(Self::new(serde_json::to_value(config).map_err(unwritable)?, steps))
    }

    /// Of the configuration that a checkpoint holds as TOML; nothing, if that is none.
    pub(crate) fn of_toml(config: &str, steps: u64) -> Option<Self> {
        toml::from_str(config).ok().map(|config| Self::new(config, steps))
    }

    fn new(mut config: Value, steps: u64) -> Self {
        if let Some(data) = config.get_mut("data").and_then(Value::as_object_mut) {
            data.remove("path");
        }
        if let Some(config) = config.as_object_mut() {
            config.remove("evaluation");
        }
        Self { config, training_digest: None, versions: Some(Versions::current()), steps, changed: Vec::new() }
    }

    /// What differs in another recipe, a sentence a key; steps and what either does not say are not compared.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare("", &self.config, &now.config, &mut found);
        if let (Some(then), Some(now)) = (&self.versions, &now.versions)
            && then != now
        {
            found.push(format!("neokd was {} with Burn {}, is {} with {}", then.neokd, then.burn, now.neokd, now.burn));
        }
        found
    }

    fn text(&self, pointer: &str) -> String {
        let text = match self.config.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "?".to_string(),
        };
        plain(&text)
    }
}

impl Origin {
    /// Bytes of a weights file that says where its weights come from.
    ///
    /// # Errors
    /// As [`weights::collect`] and [`weights::encode`]; [`WeightsError::Header`] if JSON cannot hold the origin.
    pub fn encode<B: Backbone>(&self, model: &B, network: &B::Network) -> Result<Vec<u8>, WeightsError> {
        let origin = serde_json::to_string(self).map_err(|error| unfit(&error))?;
        let header = [(weights::MODEL_KEY.to_string(), weights::model_toml(model)?), (KEY.to_string(), origin)];
        weights::encode(&weights::collect(network)?, &Metadata::from(header))
    }

    /// What a header says; nothing, if it says nothing, or nothing that this version understands: the weights are as good.
    pub fn read(header: &Metadata) -> Option<Self> {
        header.get(KEY).and_then(|text| serde_json::from_str(text).ok())
    }
}

/// Text from a file for a terminal: short, and without anything that a terminal obeys.
fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().take(100).map(visible).collect()
}

/// In one sentence.
impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trained(recipe) => {
                let [loss, data, seed] = ["/training/loss/kind", "/data/name", "/seed"].map(|at| recipe.text(at));
                write!(out, "trained by {loss} on {data}, seed {seed}, {} steps", recipe.steps)?;
                if let Some(versions) = &recipe.versions {
                    write!(out, ", with neokd {}", plain(&versions.neokd))?;
                }
                match &recipe.changed[..] {
                    [] => Ok(()),
                    changed => write!(out, "; changed on the way: {}", plain(&changed.join("; "))),
                }
            }
            Self::Converted { file, sha256, key } => {
                let entry = if key.is_empty() { String::new() } else { format!(", entry {}", plain(key)) };
                let (file, sha256) = (plain(file), plain(sha256));
                write!(out, "converted from {file}{entry}, SHA-256 {sha256}; how they were trained is not known")
            }
        }
    }
}

fn compare(key: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    let (Value::Object(before), Value::Object(after)) = (then, now) else {
        if then != now {
            found.push(format!("{key} was {then}, is {now}"));
        }
        return;
    };
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in keys {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let absent = Value::Null;
        compare(&key, before.get(name).unwrap_or(&absent), after.get(name).unwrap_or(&absent), found);
    }
}

fn unfit(why: &dyn std::fmt::Display) -> WeightsError {
    WeightsError::Header { key: KEY.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weights_file_says_where_it_comes_from_and_not_where_the_images_lay() {
        let set = ["data.path=\"pictures-of-somebody\"".to_string(), "data.name=\"mine\"".to_string()];
        let config = RunConfig::load("mnist-quick", &set).unwrap();
        let recipe = Recipe::of(&config, 7).unwrap();
        let converted = Origin::Converted { file: "a.pth".into(), sha256: "0".repeat(64), key: "ema".into() };
        for origin in [Origin::Trained(recipe), converted] {
            let model = &config.model;
            let bytes = origin.encode(model, &model.init(1, &burn::tensor::Device::flex())).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("somebody"));
            assert_eq!(Origin::read(&weights::decode(&bytes).unwrap().1), Some(origin));
        }
        let changed =
            RunConfig::load("mnist-quick", &["seed=2".to_string(), "training.clip_norm=1".to_string()]).unwrap();
        let [then, now] = [&config, &changed].map(|config| Recipe::of(config, 7).unwrap());
        let found = then.differences(&now);
        assert!(found.contains(&"seed was 1, is 2".to_string()), "{found:?}");
        assert!(found.contains(&"training.clip_norm was null, is 1.0".to_string()), "{found:?}");
        assert!(then.differences(&then).is_empty());
        assert_eq!(Origin::read(&Metadata::new()), None);
        let later = Metadata::from([(KEY.to_string(), "{\"how\": \"grown\"}".to_string())]);
        assert_eq!(Origin::read(&later), None);
        let loss = serde_json::json!({"training": {"loss": {"kind": format!("\u{1b}[31m{}", "x".repeat(3000))}}});
        let hostile = Origin::Trained(Recipe { config: loss, ..then });
        let said = hostile.to_string();
        assert!(said.len() < 300 && !said.contains('\u{1b}'), "{said}");
    }
}
