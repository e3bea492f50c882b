//! Results on the host: the places where an attack waits for its device.

use burn::tensor::{Bool, Int, Tensor};

use crate::error::AttackError;

/// Truth values.
///
/// # Errors
/// [`AttackError::Read`].
pub(crate) fn read_bools(mask: Tensor<1, Bool>) -> Result<Vec<bool>, AttackError> {
    mask.into_data().convert::<bool>().try_into_vec().map_err(|error| AttackError::Read(format!("{error:?}")))
}

/// Numbers.
///
/// # Errors
/// [`AttackError::Read`].
pub(crate) fn read_floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, AttackError> {
    tensor.into_data().convert::<f32>().try_into_vec().map_err(|error| AttackError::Read(format!("{error:?}")))
}

/// Counts.
///
/// # Errors
/// [`AttackError::Read`].
pub(crate) fn read_counts(counts: Tensor<1, Int>) -> Result<Vec<u64>, AttackError> {
    let counts: Vec<i64> =
        counts.into_data().convert::<i64>().try_into_vec().map_err(|error| AttackError::Read(format!("{error:?}")))?;
    Ok(counts.into_iter().map(|count| count as u64).collect())
}
