//! The threat model: how far a pixel image may be moved.

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::random::RandomKey;

/// How the size of a perturbation is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Largest change of any pixel.
    #[default]
    Linf,
    /// Euclidean length of the change of the whole image.
    L2,
}

impl fmt::Display for Norm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
        })
    }
}

/// A ball around the clean image, intersected with the pixel cube `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    /// `linf` (default) or `l2`.
    #[serde(default)]
    pub norm: Norm,
    /// Radius in pixel units (pixels are in `[0, 1]`); in a file a number or a fraction such as `"8/255"`.
    #[serde(with = "crate::fraction")]
    pub epsilon: f64,
}

impl Threat {
    /// The Linf ball of radius `epsilon`.
    pub fn linf(epsilon: f64) -> Self {
        Self { norm: Norm::Linf, epsilon }
    }

    /// The L2 ball of radius `epsilon`.
    pub fn l2(epsilon: f64) -> Self {
        Self { norm: Norm::L2, epsilon }
    }

    /// Why this threat makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let epsilon = self.epsilon;
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Some(format!("epsilon = {epsilon}: must be a finite number, 0 or larger, in pixel units"));
        }
        (self.norm == Norm::Linf && epsilon > 1.0).then(|| {
            format!(
                "epsilon = {epsilon}: pixels are in [0, 1], an Linf ball of 1 holds every image; did you mean \
                 {epsilon}/255?"
            )
        })
    }

    /// What should be looked at before its numbers are relied on, if anything; it may be meant.
    pub fn warning(&self) -> Option<String> {
        (self.norm == Norm::Linf && self.epsilon > 0.5).then(|| {
            format!(
                "epsilon {}: in an Linf ball of more than 0.5 every image can be made grey; pixels are in [0, 1]",
                self.epsilon
            )
        })
    }

    /// The nearest point of the ball, then of the pixel cube.
    ///
    /// Clipping to the cube moves every pixel towards the clean one, so the result is in both.
    ///
    /// # Shapes
    /// - all: `[batch, channels, height, width]`
    pub fn project(&self, clean: &Tensor<4>, candidate: Tensor<4>) -> Tensor<4> {
        let change = candidate - clean.clone();
        let change = match self.norm {
            Norm::Linf => change.clamp(-self.epsilon, self.epsilon),
            Norm::L2 => {
                let length = lengths(&change).clamp_min(f64::from(f32::MIN_POSITIVE));
                let shrink = length.recip().mul_scalar(self.epsilon).clamp_max(1.0);
                change * shrink
            }
        };
        (clean.clone() + change).clamp(0.0, 1.0)
    }

    /// One ascent step of length `step_size` along `gradient`: its sign for Linf, its direction for L2.
    ///
    /// # Shapes
    /// - all: `[batch, channels, height, width]`
    pub fn ascend(&self, from: Tensor<4>, gradient: Tensor<4>, step_size: f64) -> Tensor<4> {
        from + self.direction(gradient).mul_scalar(step_size)
    }

    /// The steepest change of size 1: the gradient's sign for Linf, its direction for L2.
    ///
    /// # Shapes
    /// - all: `[batch, channels, height, width]`
    pub fn direction(&self, gradient: Tensor<4>) -> Tensor<4> {
        match self.norm {
            Norm::Linf => gradient.sign(),
            Norm::L2 => unit_length(gradient),
        }
    }

    /// A point drawn uniformly from the ball around each image, clipped to the pixel cube.
    ///
    /// # Shapes
    /// - `clean` and output: `[batch, channels, height, width]`
    pub(crate) fn random_start(&self, clean: &Tensor<4>, examples: &[u64], key: RandomKey) -> Tensor<4> {
        let [_, channels, height, width] = clean.dims();
        let (shape, device) = ([channels, height, width], clean.device());
        let change = match self.norm {
            Norm::Linf => key.uniform(examples, shape, &device),
            Norm::L2 => key.unit_ball(examples, shape, &device),
        };
        self.project(clean, clean.clone() + change.mul_scalar(self.epsilon))
    }

    /// A random point on the surface of the ball around each image, clipped to the pixel cube.
    ///
    /// # Shapes
    /// - `clean` and output: `[batch, channels, height, width]`
    pub(crate) fn random_edge(&self, clean: &Tensor<4>, examples: &[u64], key: RandomKey) -> Tensor<4> {
        let [batch, channels, height, width] = clean.dims();
        let (shape, device) = ([channels, height, width], clean.device());
        let change = match self.norm {
            Norm::Linf => {
                let change = key.uniform(examples, shape, &device);
                let largest = change.clone().abs().flatten::<2>(1, 3).max_dim(1).reshape([batch, 1, 1, 1]);
                change / largest.clamp_min(f64::from(f32::MIN_POSITIVE))
            }
            Norm::L2 => unit_length(key.unit_ball(examples, shape, &device)),
        };
        self.project(clean, clean.clone() + change.mul_scalar(self.epsilon))
    }

    /// Size of each image's change, in this threat's norm.
    ///
    /// # Shapes
    /// - `clean`, `moved`: `[batch, channels, height, width]`; output: `[batch]`
    pub fn sizes(&self, clean: &Tensor<4>, moved: &Tensor<4>) -> Tensor<1> {
        let change = moved.clone() - clean.clone();
        match self.norm {
            Norm::Linf => change.abs().flatten::<2>(1, 3).max_dim(1).squeeze_dim(1),
            Norm::L2 => lengths(&change).reshape([-1]),
        }
    }
}

/// One number per image, to be multiplied with its pixels.
pub(crate) fn per_image_factor(factor: Tensor<1>) -> Tensor<4> {
    factor.reshape([-1, 1, 1, 1])
}

/// Each image divided by its length; what is shorter than the smallest float stays about zero.
fn unit_length(change: Tensor<4>) -> Tensor<4> {
    let length = lengths(&change).clamp_min(f64::from(f32::MIN_POSITIVE));
    change / length
}

/// Euclidean length per image, `[batch, 1, 1, 1]`.
pub(crate) fn lengths(change: &Tensor<4>) -> Tensor<4> {
    let batch = change.dims()[0];
    change.clone().square().flatten::<2>(1, 3).sum_dim(1).sqrt().reshape([batch, 1, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radius_in_levels_of_255_is_refused_and_a_large_one_is_a_warning() {
        let linf = Threat::linf;
        assert!(linf(8.0).problem().unwrap().contains("did you mean 8/255?"));
        assert_eq!((linf(1.0).problem(), linf(0.3).warning()), (None, None));
        assert!(linf(0.6).warning().unwrap().contains("grey"));
        // An L2 ball is larger than a pixel.
        assert_eq!((Threat::l2(1.5).problem(), Threat::l2(1.5).warning()), (None, None));
    }
}
