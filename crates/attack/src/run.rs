//! The public call: search, audit, judge.

use burn::tensor::Tensor;
use neokd_model::{ExitLogits, Frozen, MultiExit};

use crate::audit::Audit;
use crate::max_average::MaxAverage;
use crate::objective::{Average, Single};
use crate::passes::Passes;
use crate::pgd::Pgd;
use crate::random::RandomKey;
use crate::{Batch, Target, Threat};

/// Why an attack gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// The attacked exit does not exist.
    #[error("objective single:{exit}: the network has {exits} exits, counted from 0")]
    NoSuchExit {
        /// The exit asked for.
        exit: usize,
        /// How many there are.
        exits: usize,
    },
    /// The objective does not depend on the pixels.
    #[error("the objective has no gradient with respect to the pixels: the network detaches its input")]
    NoGradient,
    /// A pixel is NaN or infinite.
    #[error("the attack made pixels that are not finite: the network's gradient or its weights are not")]
    NotFinite,
    /// A pixel left `[0, 1]`.
    #[error(
        "the attack made pixels from {lowest} to {highest}, outside [0, 1]: a fault of the attack, please report it"
    )]
    OutOfRange {
        /// Smallest pixel.
        lowest: f64,
        /// Largest pixel.
        highest: f64,
    },
    /// A perturbation is larger than epsilon.
    #[error(
        "the attack moved an image by {largest}, more than epsilon {epsilon}: a fault of the attack, please report it"
    )]
    OutOfBall {
        /// Size of the largest perturbation.
        largest: f64,
        /// The radius allowed.
        epsilon: f64,
    },
    /// The device could not be read.
    #[error("cannot read back from the device: {0}")]
    Read(String),
}

/// An attack with all its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    /// What is maximised.
    pub target: Target,
    /// How.
    pub pgd: Pgd,
}

/// Adversarial pixels, audited.
#[derive(Clone, Debug)]
pub struct Adversarial {
    /// `[batch, channels, height, width]`, in the ball and in `[0, 1]`.
    pub pixels: Tensor<4>,
    /// What was measured on them.
    pub audit: Audit,
    /// What they cost.
    pub passes: Passes,
}

/// Adversarial pixels and what the network says to them.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The pixels.
    pub adversarial: Adversarial,
    /// Logits of all exits on them, from a forward pass of their own.
    pub logits: ExitLogits,
}

/// Searches and audits; the caller judges. For training, where the network's own pass follows.
///
/// # Errors
/// [`AttackError`]: an exit that does not exist, no gradient, or a broken rule.
pub fn perturb<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    attack: &Attack,
    threat: &Threat,
    key: u64,
) -> Result<Adversarial, AttackError> {
    if let [example] = batch.examples[..] {
        return perturb_alone(model, batch, example, attack, threat, key);
    }
    let key = RandomKey::new(key);
    let (pixels, passes) = match attack.target {
        Target::Single(exit) if exit >= model.exits() => {
            return Err(AttackError::NoSuchExit { exit, exits: model.exits() });
        }
        // A single attack draws what it draws as a part of max-average; the average attack draws its own.
        Target::Single(exit) => attack.pgd.search(model, batch, &Single(exit), threat, key.for_attack(exit as u64))?,
        Target::Average => attack.pgd.search(model, batch, &Average, threat, key.for_attack(u64::MAX))?,
        Target::MaxAverage => MaxAverage(attack.pgd).search(model, batch, threat, key)?,
    };
    let audit = Audit::check(batch, &pixels, threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

/// Matrix kernels round otherwise for a single row than for several, so a lone image is attacked
/// beside a copy of itself: its pixels are then the same bits as in any batch.
fn perturb_alone<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    example: u64,
    attack: &Attack,
    threat: &Threat,
    key: u64,
) -> Result<Adversarial, AttackError> {
    let pair = Batch {
        pixels: batch.pixels.clone().repeat_dim(0, 2),
        labels: batch.labels.clone().repeat_dim(0, 2),
        examples: vec![example; 2],
    };
    let both = perturb(model, &pair, attack, threat, key)?;
    Ok(Adversarial { pixels: both.pixels.narrow(0, 0, 1), ..both })
}

/// Searches, audits and judges with a forward pass of its own: an attack is never its own judge.
///
/// The same `key`, attack and example give the same pixels in any batch.
///
/// # Errors
/// As [`perturb`].
pub fn run<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    attack: &Attack,
    threat: &Threat,
    key: u64,
) -> Result<Outcome, AttackError> {
    let mut adversarial = perturb(model, batch, attack, threat, key)?;
    let logits = model.forward(adversarial.pixels.clone());
    adversarial.passes += Passes::forward(batch.len());
    Ok(Outcome { adversarial, logits })
}
