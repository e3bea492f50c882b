//! What can be wrong with NumPy files of images. Each message names the file and the array.

use super::DataErrorKind;

/// Why a NumPy file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NumpyError {
    /// A file that is no zip archive, or a damaged one.
    #[error("{file} is no complete .npz archive ({why}): copy it again, or save it with numpy.savez")]
    Archive {
        /// The file.
        file: String,
        /// What the reader said.
        why: String,
    },

    /// An archive without images and labels under names that are known.
    #[error(
        "{file} holds {holds}, and no images with labels: name them images and labels, x_test and y_test, or x and y"
    )]
    NoPair {
        /// The file.
        file: String,
        /// Names of what it holds, shortened.
        holds: String,
    },

    /// Images whose labels are not beside them.
    #[error("{file}: no labels beside it: save them as {expected}, or both into one .npz")]
    NoLabels {
        /// The file of images.
        file: String,
        /// Where its labels may be.
        expected: String,
    },

    /// An array that is damaged, or of another type or shape.
    #[error("{file}: array {array:?} {why}")]
    Array {
        /// The file.
        file: String,
        /// The array's name.
        array: String,
        /// What is wrong with it, and what helps.
        why: String,
    },
}

impl NumpyError {
    pub(super) fn kind(&self) -> DataErrorKind {
        match self {
            Self::NoLabels { .. } => DataErrorKind::Missing,
            _ => DataErrorKind::Malformed,
        }
    }
}
