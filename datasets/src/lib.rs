//! Image data that can be trusted: every set comes with the digests of its bytes, every split with that of its table.
//!
//! What is here: MNIST inside the binary ([`load`] works on a machine with nothing else on it), a library folder into
//! which other sets are imported after their size and SHA-256 are checked ([`import`]), trees of image files in memory
//! ([`load_tree`]) or left in their files where they are too many ([`open_tree`]), safetensors files
//! ([`load_safetensors`]) and NumPy's ([`load_numpy`]), validation splits that never change ([`split`]), augmentation as
//! a pure function ([`mod@augment`]), and small generated sets for smoke tests ([`synthetic`]).
//!
//! What is not here: tensors, normalisation and the order of batches. Pixels leave as `u8`; the network's first layer
//! normalises them. Nothing is ever downloaded. The environment is read in one function only, [`default_data_dir`].
//!
//! ```
//! let splits = neokd_datasets::synthetic(7, 60, 20, 20, [1, 8, 8], 4)?;
//! assert_eq!(splits.train.len(), 60);
//! assert_eq!(splits.train.image(0).len(), 64);
//! # Ok::<(), neokd_datasets::DataError>(())
//! ```

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod archive;
#[cfg(test)]
mod archive_tests;
pub mod augment;
pub mod cifar;
#[cfg(test)]
mod cifar_tests;
mod data_splits;
mod embedded;
mod error;
mod float_images;
mod held_out;
pub mod idx;
mod image_set;
mod images;
mod import;
mod jpeg;
mod library;
#[cfg(test)]
mod library_tests;
pub mod manifest;
pub mod numpy;
mod provenance;
mod random;
mod record;
mod source;
pub mod split;
mod synthetic;
pub mod tensors;
#[cfg(test)]
mod tiny_imagenet_tests;
pub mod tree;

pub use augment::{Augmentation, augment, augment_batch};
pub use data_splits::DataSplits;
pub use error::{ArchiveError, DataError, DataErrorKind, NumpyError, TensorsError, TreeError};
pub use float_images::FloatImages;
pub use image_set::ImageSet;
pub use images::{Batches, Images, Pixels, View};
pub use import::{Import, import};
pub use jpeg::jpeg_problem;
pub use library::{Status, StatusEntry, data_dir_from, default_data_dir, list, load, load_unsplit, verify};
pub use manifest::{KnownDataset, find, known};
pub use numpy::load_numpy;
pub use provenance::{FileDigest, Provenance, Trust, sha256_hex};
pub use split::{HeldOut, SplitTable};
pub use synthetic::synthetic;
pub use tensors::{TensorImages, Values, encode_safetensors, load_safetensors};
pub use tree::{ImageFiles, Storage, TreeOptions, load_tree, open_tree};
