//! Adversarial images that any command reads back as `--data`: `--out` of `neokd attack`, `--save-adversarial` of
//! `neokd evaluate`.
//!
//! `images` are 32-bit floats `[images, channels, height, width]`, `labels` 64-bit integers, and `right` bytes
//! `[images, exits]`: 1 where an exit is right about the image. Of several runs, `images` holds per example the
//! one that most exits are wrong about, the earliest of equals, `run` says whose it is, and `images.R` and
//! `right.R` are those of run `R`. Of attacks that look for the nearest adversarial image there is `distances`, or
//! `distances.R`, 32-bit floats `[images, searches]`: how far that is in the threat's norm, 0 where the image is wrong
//! as it is, infinite where none was found. The header entry `neokd.attack` lists the runs with the passes
//! they spent and what their searches break.

use std::path::Path;

use neokd_attack::{Norm, Passes};
use neokd_datasets::{Values, encode_safetensors};
use serde::Serialize;
use serde_json::json;

use crate::attack_run::AttackRun;
use crate::outcome::ImageOutcomes;
use crate::{Error, files};

const KEY: &str = "neokd.attack";

/// The attack that made some images, as the header names it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    /// Name of the attack.
    pub attack: String,
    /// What it maximised.
    pub objective: String,
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
    /// How hard it tried, in words.
    pub settings: String,
    /// What it spent.
    pub passes: Passes,
    /// What each of its searches for the nearest adversarial image breaks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<String>,
}

impl About {
    /// Of a run and what it found.
    pub fn of(run: &AttackRun, found: &ImageOutcomes) -> Self {
        let exits = found.whole.right.len();
        Self {
            attack: run.name.to_string(),
            objective: run.objective(),
            norm: run.threat.norm,
            epsilon: run.threat.epsilon,
            settings: run.settings(),
            passes: found.passes,
            distances: run.searches(exits).into_iter().take(found.distances.len()).collect(),
        }
    }
}

/// The adversarial images of one attack, and what every exit makes of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    pixels: Vec<f32>,
    right: Vec<u8>,
    /// Per search for the nearest adversarial image, how far that of each image is.
    distances: Vec<Vec<f32>>,
}

impl From<ImageOutcomes> for Kept {
    fn from(found: ImageOutcomes) -> Self {
        let n = found.whole.right.first().map_or(0, |exit| exit.0.len());
        let of_image = |image: usize| found.whole.right.iter().map(move |exit| u8::from(exit.0[image]));
        let right = (0..n).flat_map(of_image).collect();
        let distances = found.distances.into_iter().map(|search| search.0).collect();
        Self { pixels: found.pixels, right, distances }
    }
}

/// Writes the adversarial images of some runs; `labels` are those of the images, `shape` is channels, height and width.
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn write(path: &Path, runs: Vec<(About, Kept)>, labels: &[usize], shape: [usize; 3]) -> Result<(), Error> {
    let n = labels.len();
    let image = shape.iter().product::<usize>();
    let images_shape = vec![n, shape[0], shape[1], shape[2]];
    let (about, kept): (Vec<About>, Vec<Kept>) = runs.into_iter().unzip();
    let exits = kept.first().map_or(0, |kept| kept.right.len() / n.max(1));
    let chosen: Vec<usize> = (0..n).map(|example| worst(&kept, example, exits)).collect();

    let (mut images, mut outcome) = (Vec::with_capacity(n * image), Vec::with_capacity(n * exits));
    for (example, &run) in chosen.iter().enumerate() {
        images.extend_from_slice(&kept[run].pixels[example * image..][..image]);
        outcome.extend_from_slice(&kept[run].right[example * exits..][..exits]);
    }
    let mut tensors = vec![
        ("images".to_string(), images_shape.clone(), Values::Floats(images)),
        ("labels".to_string(), vec![n], integers(labels)),
        ("right".to_string(), vec![n, exits], Values::Bytes(outcome)),
    ];
    for (run, Kept { distances, .. }) in kept.iter().enumerate().filter(|(_, kept)| !kept.distances.is_empty()) {
        let name = if kept.len() > 1 { format!("distances.{run}") } else { "distances".to_string() };
        let of_image = |image: usize| distances.iter().map(move |search| search[image]);
        let values = (0..n).flat_map(of_image).collect();
        tensors.push((name, vec![n, distances.len()], Values::Floats(values)));
    }
    if kept.len() > 1 {
        tensors.push(("run".to_string(), vec![n], integers(&chosen)));
        for (run, Kept { pixels, right, .. }) in kept.into_iter().enumerate() {
            tensors.push((format!("images.{run}"), images_shape.clone(), Values::Floats(pixels)));
            tensors.push((format!("right.{run}"), vec![n, exits], Values::Bytes(right)));
        }
    }
    let about = json!({ "runs": about }).to_string();
    files::write_atomically(path, &encode_safetensors(tensors, KEY, about)?)
}

/// The run that leaves the fewest exits right.
fn worst(kept: &[Kept], example: usize, exits: usize) -> usize {
    let left =
        |run: &usize| kept[*run].right[example * exits..][..exits].iter().map(|right| u32::from(*right)).sum::<u32>();
    (0..kept.len()).min_by_key(left).unwrap_or(0)
}

fn integers(values: &[usize]) -> Values {
    Values::Integers(values.iter().map(|&value| value as i64).collect())
}
