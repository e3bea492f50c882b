//! `--out A.safetensors` of `neokd attack`: adversarial images that any command reads back as `--data`.
//!
//! `images` are 32-bit floats `[images, channels, height, width]`, `labels` 64-bit integers, and `right` bytes
//! `[images, exits]`: 1 where an exit is right about the image. Of several runs, `images` holds per example the
//! one that most exits are wrong about, the earliest of equals, `run` says whose it is, and `images.R` and
//! `right.R` are those of run `R`. Of attacks that look for the nearest adversarial image there is `distances`, or
//! `distances.R`, 32-bit floats `[images, searches]`: how far that is in the threat's norm, 0 where the image is wrong
//! as it is, infinite where none was found. The header entry `neokd.attack` lists the runs with the passes
//! they spent and what their searches break.

use std::path::Path;

use neokd_datasets::{Values, encode_safetensors};
use serde_json::json;

use crate::robustness::{Found, Run, Scored};
use crate::{Error, files};

const KEY: &str = "neokd.attack";

/// Writes the adversarial images of some runs.
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn write(path: &Path, runs: &[Run], scored: &Scored, shape: [usize; 3]) -> Result<(), Error> {
    let n = scored.labels.len();
    let image = shape.iter().product::<usize>();
    let images_shape = vec![n, shape[0], shape[1], shape[2]];
    let rights: Vec<Vec<u8>> = scored.runs.iter().map(|found| right(found, n)).collect();
    let exits = rights.first().map_or(0, |right| right.len() / n.max(1));
    let chosen: Vec<usize> = (0..n).map(|example| worst(&rights, example, exits)).collect();

    let (mut images, mut outcome) = (Vec::with_capacity(n * image), Vec::with_capacity(n * exits));
    for (example, &run) in chosen.iter().enumerate() {
        images.extend_from_slice(&scored.runs[run].pixels[example * image..][..image]);
        outcome.extend_from_slice(&rights[run][example * exits..][..exits]);
    }
    let mut tensors = vec![
        ("images".to_string(), images_shape.clone(), Values::Floats(images)),
        ("labels".to_string(), vec![n], integers(&scored.labels)),
        ("right".to_string(), vec![n, exits], Values::Bytes(outcome)),
    ];
    for (run, found) in scored.runs.iter().enumerate().filter(|(_, found)| !found.distances.is_empty()) {
        let name = if runs.len() > 1 { format!("distances.{run}") } else { "distances".to_string() };
        let of_image = |image: usize| found.distances.iter().map(move |search| search.0[image]);
        let values = (0..n).flat_map(of_image).collect();
        tensors.push((name, vec![n, found.distances.len()], Values::Floats(values)));
    }
    if runs.len() > 1 {
        tensors.push(("run".to_string(), vec![n], integers(&chosen)));
        for (run, (found, right)) in scored.runs.iter().zip(rights).enumerate() {
            tensors.push((format!("images.{run}"), images_shape.clone(), Values::Floats(found.pixels.clone())));
            tensors.push((format!("right.{run}"), vec![n, exits], Values::Bytes(right)));
        }
    }
    let about = runs.iter().zip(&scored.runs).map(|(run, found)| {
        json!({
            "attack": run.name.to_string(), "objective": run.objective(), "norm": run.threat.norm,
            "epsilon": run.threat.epsilon, "settings": run.settings(), "passes": found.passes,
            "distances": run.searches(exits).into_iter().take(found.distances.len()).collect::<Vec<_>>(),
        })
    });
    let about = json!({ "runs": about.collect::<Vec<_>>() }).to_string();
    files::write_atomically(path, &encode_safetensors(tensors, KEY, about)?)
}

/// Per image and exit, 1 where the exit is right.
fn right(found: &Found, n: usize) -> Vec<u8> {
    let of_image = |image: usize| found.whole.right.iter().map(move |exit| u8::from(exit.0[image]));
    (0..n).flat_map(of_image).collect()
}

/// The run that leaves the fewest exits right.
fn worst(rights: &[Vec<u8>], example: usize, exits: usize) -> usize {
    let left =
        |run: &usize| rights[*run][example * exits..][..exits].iter().map(|right| u32::from(*right)).sum::<u32>();
    (0..rights.len()).min_by_key(left).unwrap_or(0)
}

fn integers(values: &[usize]) -> Values {
    Values::Integers(values.iter().map(|&value| value as i64).collect())
}
