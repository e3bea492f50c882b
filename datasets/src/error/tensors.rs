//! What can be wrong with a safetensors file of images. Each message names the file and the tensor.

use super::DataErrorKind;

/// Why a safetensors file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
    /// A file that is not safetensors.
    #[error("{file} is not a valid safetensors file: write it again with a safetensors library")]
    Damaged {
        /// The file.
        file: String,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },

    /// A tensor that is not in the file.
    #[error(
        "{file} has no tensor \"{tensor}\", it holds {holds}: name the images \"images\" and their labels \"labels\""
    )]
    Missing {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: &'static str,
        /// Names of the tensors in the file, shortened.
        holds: String,
    },

    /// A tensor of a type that is not read.
    #[error("{file}: tensor \"{tensor}\" is of type {found}, expected {expected}: convert it before saving")]
    Type {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: &'static str,
        /// Its type.
        found: String,
        /// The types that are read.
        expected: &'static str,
    },

    /// A tensor of another shape.
    #[error("{file}: tensor \"{tensor}\" has shape {found:?}, expected {expected}: reshape it before saving")]
    Shape {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have, in words.
        expected: &'static str,
    },

    /// A pixel that is not a number from 0 to 1.
    #[error(
        "{file}: value {at} of image {image} is {value}, expected a number from 0 to 1: divide pixels of 0 to 255 by \
         255, and leave normalisation to the network"
    )]
    Pixel {
        /// The file or set.
        file: String,
        /// The image, from 0.
        image: usize,
        /// Position in the image, `[channels, height, width]` flattened.
        at: usize,
        /// The value.
        value: f32,
    },

    /// A pixel that 8 bits cannot hold exactly.
    #[error(
        "{name}: value {at} of image {image} is {value}, which is no multiple of 1/255: use the images as floats, or \
         round them yourself before saving"
    )]
    NotEightBit {
        /// Name of the set.
        name: String,
        /// The image, from 0.
        image: usize,
        /// Position in the image, `[channels, height, width]` flattened.
        at: usize,
        /// The value.
        value: f32,
    },
}

impl TensorsError {
    pub(super) fn kind(&self) -> DataErrorKind {
        match self {
            Self::NotEightBit { .. } => DataErrorKind::Request,
            _ => DataErrorKind::Malformed,
        }
    }
}
