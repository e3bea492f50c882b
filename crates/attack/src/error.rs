//! Why an attack gave no result.

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
    /// The policy is the objective, and there is none.
    #[error("objective policy: it needs the exit policy that the network is deployed with")]
    NoPolicy,
    /// A policy or criterion does not fit the network.
    #[error("{0}")]
    Misfit(String),
    /// A loss compares more classes than there are.
    #[error("the network has {classes} classes, this attack needs {needed}: take apgd-ce or cw")]
    TooFewClasses {
        /// Classes of the network.
        classes: usize,
        /// Classes that the loss compares.
        needed: usize,
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
