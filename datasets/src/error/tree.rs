//! What can be wrong with a tree of image files. Each message names the tree and the file, folder or line.

use std::path::PathBuf;

use super::DataErrorKind;

/// Why a tree of image files is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// No folder with images to train on.
    #[error("{tree} has no train/CLASS/*.png or *.jpg: give the folder (or zip) that holds train, and val or test")]
    NoTrain {
        /// The tree.
        tree: String,
    },

    /// No labelled images to test on.
    #[error(
        "{tree} has no val/CLASS or test/CLASS with images: add one of them; a test folder without class folders has \
         no labels and does not count"
    )]
    NoTest {
        /// The tree.
        tree: String,
    },

    /// A file that is not where an image of some class would be.
    #[error("{tree}: {file} is out of place, expected {expected}: move it, or remove it")]
    Misplaced {
        /// The tree.
        tree: String,
        /// The file, relative to the tree.
        file: String,
        /// Where files are expected.
        expected: &'static str,
    },

    /// A file among the images that is none.
    #[error("{tree}: {file} ends in neither .png nor .jpg nor .jpeg: convert it, or remove it")]
    NotAnImage {
        /// The tree.
        tree: String,
        /// The file, relative to the tree.
        file: String,
    },

    /// A name that is not text.
    #[error("{} is not named in UTF-8: rename it", path.display())]
    FileName {
        /// The file.
        path: PathBuf,
    },

    /// A class that has no images to train on.
    #[error("{tree}: class {class} has no training image: copy the tree again, or remove the class everywhere")]
    EmptyClass {
        /// The tree.
        tree: String,
        /// The class.
        class: String,
    },

    /// A class that is not among those to train on.
    #[error("{tree}: {file} is of class {class}, which is not among the {classes} classes to train on: check the tree")]
    UnknownClass {
        /// The tree.
        tree: String,
        /// The file, or the file and line, that names the class.
        file: String,
        /// The class.
        class: String,
        /// Number of classes to train on.
        classes: usize,
    },

    /// Classes that are not those of the dataset.
    #[error("{tree}: its classes are not those of {dataset}, the first that differs is {class}: check that this is it")]
    OtherClasses {
        /// The tree.
        tree: String,
        /// The dataset.
        dataset: &'static str,
        /// A class that only one of the two has.
        class: String,
    },

    /// A text file of the tree that is not text or too long.
    #[error("{tree}: {file} is not UTF-8 text of at most {limit} bytes: get it again from its origin")]
    NotText {
        /// The tree.
        tree: String,
        /// The file.
        file: String,
        /// Most bytes it may have.
        limit: u64,
    },

    /// A line of a text file that does not have its form.
    #[error("{tree}: {file}, line {line} is {found:?}, expected {expected}: get the file again from its origin")]
    Line {
        /// The tree.
        tree: String,
        /// The file.
        file: &'static str,
        /// Line, from 1.
        line: usize,
        /// The line, shortened.
        found: String,
        /// Its form.
        expected: &'static str,
    },

    /// Something that a text file lists twice.
    #[error("{tree}: {file}, line {line} lists {item} again: get the file again from its origin")]
    ListedTwice {
        /// The tree.
        tree: String,
        /// The file.
        file: &'static str,
        /// Line, from 1.
        line: usize,
        /// What it lists.
        item: String,
    },

    /// An image that a text file lists and the tree does not hold.
    #[error("{tree}: {file} lists {item}, which is not there: copy the tree again")]
    ListedNotThere {
        /// The tree.
        tree: String,
        /// The text file.
        file: &'static str,
        /// What it lists.
        item: String,
    },

    /// An image that the tree holds and no text file lists.
    #[error("{tree}: {item} is not listed in {file}: remove it, or get the list again from its origin")]
    NotListed {
        /// The tree.
        tree: String,
        /// The text file.
        file: &'static str,
        /// The image.
        item: String,
    },

    /// An image file that cannot be decoded.
    #[error("{tree}: {file} cannot be decoded as PNG or JPEG: replace it, or remove it")]
    ImageDamaged {
        /// The tree.
        tree: String,
        /// The file.
        file: String,
        /// What the decoder said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// An image that is larger than is sensible, itself or when scaled.
    #[error(
        "{tree}: {file} has {width}x{height} pixels, too large or too narrow to decode and scale: replace or remove it"
    )]
    ImageTooLarge {
        /// The tree.
        tree: String,
        /// The file.
        file: String,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },

    /// An image file of more bytes than are allowed.
    #[error("{tree}: {file} has more than {limit} bytes: replace it, or remove it")]
    FileTooLarge {
        /// The tree.
        tree: String,
        /// The file.
        file: String,
        /// The limit.
        limit: u64,
    },

    /// A shape that images cannot be decoded to.
    #[error("images cannot be decoded to shape {shape:?}: ask for 1 or 3 channels and sides of 1 to {max_side}")]
    BadShape {
        /// Channels, height, width.
        shape: [usize; 3],
        /// Longest side.
        max_side: usize,
    },

    /// More decoded bytes than are allowed.
    #[error(
        "{tree}: {images} images of shape {shape:?} need more than the limit of {limit} bytes in memory: leave them \
         in the files of a folder, or ask for a smaller shape"
    )]
    TooLarge {
        /// The tree.
        tree: String,
        /// Images in all parts.
        images: usize,
        /// Channels, height, width.
        shape: [usize; 3],
        /// The limit in bytes.
        limit: u64,
    },

    /// A file that is not as long as it was when the tree was listed.
    #[error(
        "{tree}: {file} had {expected} bytes when the tree was listed and has {found} now: leave the tree alone \
         while it is in use"
    )]
    Changed {
        /// The tree.
        tree: String,
        /// The file.
        file: String,
        /// Its size when it was listed.
        expected: u64,
        /// Its size now.
        found: u64,
    },

    /// A zip archive whose images are to stay in it.
    #[error(
        "{tree} is a zip archive, and images are only left in the files of a folder: unpack it and give the folder"
    )]
    ZipNotStreamed {
        /// The archive.
        tree: String,
    },

    /// A shorter side that does not cover the wanted size.
    #[error(
        "images cannot be scaled to a shorter side of {resize} and cut to shape {shape:?}: ask for {least} to {most}"
    )]
    BadResize {
        /// Shorter side of the scaled image.
        resize: usize,
        /// Channels, height, width.
        shape: [usize; 3],
        /// Least shorter side.
        least: usize,
        /// Greatest shorter side.
        most: usize,
    },

    /// More files than are allowed.
    #[error("{tree} holds more than {limit} files: give the folder of the dataset itself")]
    TooManyFiles {
        /// The tree.
        tree: String,
        /// The limit.
        limit: usize,
    },
}

impl TreeError {
    pub(super) fn kind(&self) -> DataErrorKind {
        match self {
            Self::NoTrain { .. } | Self::NoTest { .. } => DataErrorKind::Missing,
            Self::BadShape { .. } | Self::BadResize { .. } | Self::TooLarge { .. } | Self::ZipNotStreamed { .. } => {
                DataErrorKind::Request
            }
            Self::EmptyClass { .. }
            | Self::UnknownClass { .. }
            | Self::OtherClasses { .. }
            | Self::ListedNotThere { .. }
            | Self::NotListed { .. }
            | Self::Changed { .. } => DataErrorKind::Inconsistent,
            _ => DataErrorKind::Malformed,
        }
    }
}
