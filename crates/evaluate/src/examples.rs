//! `examples.safetensors`: a few test images, clean and attacked, with what every exit says to them.
//!
//! Tensors, all 32-bit floats: `images` and `adversarial` of `[images, channels, height, width]` in
//! `[0, 1]`, `labels` of `[images]`, and `logits_clean.I` and `logits_adversarial.I` of
//! `[images, classes]` for every exit `I`. The header entry `neokd.examples` says which attack it was.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use neokd_attack::{Attack, Norm, Scenario, Threat};
use neokd_datasets::Images;
use neokd_model::weights::{self, HostTensor, Metadata, TensorMap};
use neokd_model::{ExitLogits, Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::{Error, batches, files};

/// Images in a file, unless fewer were scored.
pub const COUNT: usize = 8;
/// Name of the file in a run directory.
pub const FILE: &str = "examples.safetensors";
/// Version of the file's header entry.
pub const SCHEMA: &str = "neokd.examples/1";

const KEY: &str = "neokd.examples";
/// A file may be so large, in bytes; a picture may have so many pixels to a side.
const MAX_BYTES: u64 = 64 << 20;
const MAX_SIDE: usize = 1024;

/// The attack that made the adversarial images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// [`SCHEMA`].
    pub schema: String,
    /// Objective of the attack.
    pub objective: String,
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
}

/// Images with what was made of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// The attack, where the file says so.
    pub about: Option<About>,
    /// `[images, channels, height, width]`, in `[0, 1]`.
    pub images: HostTensor,
    /// The same images, attacked.
    pub adversarial: HostTensor,
    /// What each image shows.
    pub labels: Vec<usize>,
    /// `[images, classes]` per exit, on the clean images.
    pub logits_clean: Vec<HostTensor>,
    /// `[images, classes]` per exit, on the adversarial images.
    pub logits_adversarial: Vec<HostTensor>,
}

impl Examples {
    /// Attacks the first `count` images of a set; as part of any batch they get the same pixels.
    ///
    /// # Errors
    /// [`Error::Attack`] or [`Error::Device`].
    pub fn make<M: MultiExit>(
        model: &Frozen<M>,
        set: &dyn Images,
        count: usize,
        (attack, threat, key): (&Attack, &Threat, u64),
        device: &Device,
    ) -> Result<Self, Error> {
        let indices: Vec<usize> = (0..count.min(set.len())).collect();
        let data = batches::collect(set, &indices, device)?;
        let logits_clean = host_logits(&model.forward(data.batch.pixels.clone()))?;
        let outcome = neokd_attack::run(&Scenario::new(model, &data.batch, threat, key), attack)?;
        let objective = attack.objective.to_string();
        Ok(Self {
            about: Some(About { schema: SCHEMA.to_string(), objective, norm: threat.norm, epsilon: threat.epsilon }),
            images: host(data.batch.pixels)?,
            adversarial: host(outcome.adversarial.pixels)?,
            labels: data.labels,
            logits_clean,
            logits_adversarial: host_logits(&outcome.logits)?,
        })
    }

    /// Writes them to `path`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`] names the file.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let labels = self.labels.iter().map(|label| *label as f32).collect();
        let mut tensors = TensorMap::from([
            ("images".to_string(), self.images.clone()),
            ("adversarial".to_string(), self.adversarial.clone()),
            ("labels".to_string(), HostTensor { shape: vec![self.labels.len()], values: labels }),
        ]);
        for (name, logits) in [("clean", &self.logits_clean), ("adversarial", &self.logits_adversarial)] {
            let named = logits.iter().enumerate().map(|(exit, rows)| (format!("logits_{name}.{exit}"), rows.clone()));
            tensors.extend(named);
        }
        let mut header = Metadata::new();
        if let Some(about) = &self.about {
            let text = serde_json::to_string(about);
            header.insert(KEY.to_string(), text.map_err(|error| unusable(path, error.to_string()))?);
        }
        files::write_atomically(path, &weights::encode(&tensors, &header).map_err(Error::weights(path))?)
    }

    /// Reads a file, and checks that its tensors belong together.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        if size > MAX_BYTES {
            return Err(unusable(
                path,
                format!("{size} bytes, more than the {MAX_BYTES} that example images may have"),
            ));
        }
        let (mut tensors, header) =
            weights::decode(&files::read(path)?).map_err(|error| unusable(path, error.to_string()))?;
        let mut take =
            |name: &str| tensors.remove(name).ok_or_else(|| unusable(path, format!("tensor {name} is missing")));
        let (images, adversarial, labels) = (take("images")?, take("adversarial")?, take("labels")?);
        let labels: Vec<usize> = labels.values.iter().map(|label| *label as usize).collect();
        let mut exits = |name: &str| -> Vec<HostTensor> {
            (0..).map_while(|exit| tensors.remove(&format!("logits_{name}.{exit}"))).collect()
        };
        let (logits_clean, logits_adversarial) = (exits("clean"), exits("adversarial"));
        let about = header.get(KEY).and_then(|text| serde_json::from_str(text).ok());
        let found = Self { about, images, adversarial, labels, logits_clean, logits_adversarial };
        match found.problem() {
            Some(why) => Err(unusable(path, why)),
            None => Ok(found),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What an exit answers to an image: the class, and whether it is right.
    pub fn answer(&self, logits: &HostTensor, image: usize) -> (usize, bool) {
        let classes = logits.shape[1];
        let row = &logits.values[image * classes..(image + 1) * classes];
        let label = (0..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        (label, label == self.labels[image])
    }

    fn problem(&self) -> Option<String> {
        let n = self.len();
        let [count, channels, height, width] = self.images.shape[..] else {
            return Some(format!("images are {:?}, not [images, channels, height, width]", self.images.shape));
        };
        if count != n || !matches!(channels, 1 | 3) || height.max(width) > MAX_SIDE || height.min(width) == 0 {
            return Some(format!(
                "images are {:?}: {n} of 1 or 3 channels, at most {MAX_SIDE} pixels to a side, are expected",
                self.images.shape
            ));
        }
        if self.adversarial.shape != self.images.shape {
            return Some(format!("adversarial is {:?}, images are {:?}", self.adversarial.shape, self.images.shape));
        }
        let fits = |logits: &&HostTensor| logits.shape.len() == 2 && logits.shape[0] == n && logits.shape[1] > 0;
        let all = || self.logits_clean.iter().chain(&self.logits_adversarial);
        if self.logits_clean.len() != self.logits_adversarial.len() || all().filter(fits).count() != all().count() {
            return Some(format!("logits are not [{n}, classes] for the same exits, clean and adversarial"));
        }
        None
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<HostTensor, Error> {
    let shape = tensor.dims().to_vec();
    let values = tensor.into_data().try_into_vec().map_err(|error| Error::unreadable(&error))?;
    Ok(HostTensor { shape, values })
}

fn host_logits(logits: &ExitLogits) -> Result<Vec<HostTensor>, Error> {
    logits.as_slice().iter().map(|logits| host(logits.clone())).collect()
}

fn unusable(path: &Path, why: String) -> Error {
    let why = format!("{why}; neokd evaluate RUN writes it again");
    Error::Checkpoint { file: path.to_path_buf(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], value: f32) -> HostTensor {
        HostTensor { shape: shape.to_vec(), values: vec![value; shape.iter().product()] }
    }

    fn two_images() -> Examples {
        let about =
            About { schema: SCHEMA.to_string(), objective: "average".to_string(), norm: Norm::L2, epsilon: 0.5 };
        Examples {
            about: Some(about),
            images: tensor(&[2, 3, 4, 5], 0.25),
            adversarial: tensor(&[2, 3, 4, 5], 0.5),
            labels: vec![0, 3],
            logits_clean: vec![tensor(&[2, 4], 1.0)],
            logits_adversarial: vec![tensor(&[2, 4], 0.0)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        two_images().write(&path).unwrap();
        let read = Examples::read(&path).unwrap();
        assert_eq!(read, two_images());
        assert_eq!(read.answer(&read.logits_clean[0], 0), (0, true));
        assert_eq!(read.answer(&read.logits_clean[0], 1), (0, false));
    }

    #[test]
    fn tensors_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let spoil: [fn(&mut Examples); 4] = [
            |examples| examples.images = tensor(&[2, 2, 4, 5], 0.0),
            |examples| examples.adversarial = tensor(&[2, 3, 5, 4], 0.0),
            |examples| examples.labels.push(1),
            |examples| examples.logits_clean[0] = tensor(&[8], 0.0),
        ];
        for spoil in spoil {
            let mut examples = two_images();
            spoil(&mut examples);
            examples.write(&path).unwrap();
            let error = Examples::read(&path).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("neokd evaluate"), "{error}");
        }
    }
}
