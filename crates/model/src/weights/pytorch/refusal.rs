//! Why a PyTorch file is not read.

use crate::weights::WeightsError;

/// Why a file is not read, before the file has a name.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is damaged, or something else.
    Damaged(String),
    /// It names a function that only an attack has a use for.
    Call(String),
    /// It holds other weights.
    Weights(WeightsError),
}

impl From<WeightsError> for Refusal {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error)
    }
}
