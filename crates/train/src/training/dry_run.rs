//! What a run will cost, before it starts: steps and passes by arithmetic, time and memory from one
//! real step on a few images.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use neokd_attack::Passes;
use neokd_datasets::{DataSplits, Images};
use neokd_evaluate::Error;
use neokd_model::{Backbone, MultiExit};
use serde::Serialize;

use crate::RunConfig;
use crate::options::training_attack::TrainingObjective;
use crate::run::checkpoint::TrainingState;
use crate::training::fit::{Fit, Length};

/// Images of the probing step, at most: enough to keep two cores busy, few enough to be quick.
const PROBE_IMAGES: u64 = 16;

/// Multiply-adds of the probing step, where fewer images than that would need more.
const PROBE_MULTIPLY_ADDS: u64 = 300_000_000_000;

/// A run's costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Passes over the training images.
    pub epochs: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Images of one step.
    pub batch_size: usize,
    /// Passes per training image and visit: attack, clean and adversarial pass.
    pub passes_per_image: Passes,
    /// Parameters of the network.
    pub parameters: u64,
    /// Estimated time of the training in seconds, from one step on a few images.
    pub estimated_seconds: f64,
    /// Estimated peak memory in bytes: this process after that step, scaled to the batch size.
    pub estimated_bytes: Option<u64>,
}

impl Plan {
    /// Makes the plan; runs one small step on the device, after one to warm up.
    ///
    /// # Errors
    /// As training.
    pub fn make<B: Backbone, S: Images>(
        config: &RunConfig<B>,
        data: &DataSplits<S>,
        device: &Device,
    ) -> Result<Self, Error> {
        let length = Length::of(config, data.train.len());
        let mut probe = config.clone();
        probe.training.batch_size = probe_images(config).min(data.train.len());
        let fit = Fit::new(&probe, data, device)?;
        let mut state = TrainingState::start(&probe, device);
        let costs = state.model.costs();
        let before = resident();
        fit.trial_step(&mut state)?;
        let started = Instant::now();
        fit.trial_step(&mut state)?;
        let per_image = started.elapsed() / probe.training.batch_size as u32;
        let images = length.steps() as f64 * length.batch_size as f64;
        Ok(Self {
            epochs: length.epochs,
            steps_per_epoch: length.steps_per_epoch,
            steps: length.steps(),
            batch_size: length.batch_size,
            passes_per_image: passes(config, costs.len()),
            parameters: costs.last().map_or(0, |cost| cost.parameters),
            estimated_seconds: per_image.as_secs_f64() * images,
            estimated_bytes: memory(before, probe.training.batch_size, length.batch_size),
        })
    }
}

/// Passes of one training image: the attack's, then a clean and an adversarial one with gradients, with
/// AWP twice.
fn passes<B>(config: &RunConfig<B>, exits: usize) -> Passes {
    let attack = &config.training.attack;
    let searches = if attack.objective == TrainingObjective::RandomExit { 1 } else { exits };
    let search = attack.inside_the_ball(&config.threat).passes(searches);
    let learning = if config.training.awp.is_some() { Passes::gradient(4) } else { Passes::gradient(2) };
    search + learning
}

/// A large network under a long attack is probed with fewer images, but two at least, for batch-norm.
fn probe_images<B: Backbone>(config: &RunConfig<B>) -> usize {
    let costs = config.model.costs();
    let passes = passes(config, costs.len());
    let image = costs.last().map_or(0, |cost| cost.multiply_adds) * (passes.forward + 2 * passes.backward);
    (PROBE_MULTIPLY_ADDS / image.max(1)).clamp(2, PROBE_IMAGES) as usize
}

fn memory(before: Option<u64>, probed: usize, batch: usize) -> Option<u64> {
    let (before, after) = (before?, resident()?);
    Some(before + after.saturating_sub(before) * batch as u64 / probed as u64)
}

/// Largest resident size of this process so far, in bytes, where the system tells.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Starts the count of [`resident`] anew, where the system can.
pub fn forget_peak() {
    // What cannot be reset is only reported too large.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// `1 h 02 min`, `3 min 20 s`, `12 s`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}
