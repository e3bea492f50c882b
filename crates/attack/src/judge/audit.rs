//! Whether a perturbation kept to its rules. A violation is an error, never a number in a table.

use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::AttackError;
use crate::threat::Threat;

/// How far rounding in 32-bit floats may carry a perturbation beyond epsilon, relative to pixels of
/// size 1; L2 sums many such roundings.
const SLACK: f64 = 2e-6;

/// What was measured on a batch of adversarial pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Largest perturbation of any image, in the threat's norm and pixel units.
    pub largest: f64,
    /// Smallest pixel value.
    pub lowest: f64,
    /// Largest pixel value.
    pub highest: f64,
}

impl Audit {
    /// Measures adversarial pixels against the threat.
    ///
    /// # Errors
    /// [`AttackError::NotFinite`], [`AttackError::OutOfRange`] or [`AttackError::OutOfBall`].
    pub fn check(batch: &Batch, pixels: &Tensor<4>, threat: &Threat) -> Result<Self, AttackError> {
        let sizes = threat.sizes(&batch.pixels, pixels).max();
        let finite: Tensor<4, Bool> = pixels.clone().is_finite();
        let finite: Tensor<1, Int> = finite.int().min();
        // One read for all four numbers: each read of a GPU waits for its queue.
        let measured = Tensor::cat(vec![finite.float(), sizes, pixels.clone().min(), pixels.clone().max()], 0);
        let values =
            measured.into_data().try_into_vec::<f32>().map_err(|error| AttackError::Read(format!("{error:?}")))?;
        if values[0] == 0.0 {
            return Err(AttackError::NotFinite);
        }
        let audit = Self { largest: values[1].into(), lowest: values[2].into(), highest: values[3].into() };
        if audit.lowest < 0.0 || audit.highest > 1.0 {
            return Err(AttackError::OutOfRange { lowest: audit.lowest, highest: audit.highest });
        }
        match audit.largest > threat.epsilon * (1.0 + SLACK) + SLACK {
            true => Err(AttackError::OutOfBall { largest: audit.largest, epsilon: threat.epsilon }),
            false => Ok(audit),
        }
    }

    /// The worst of two audits.
    pub fn merge(self, other: Self) -> Self {
        Self {
            largest: self.largest.max(other.largest),
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
        }
    }
}
