//! Everything that can be wrong with data, one variant a cause; each message names the file, what it holds, what it should
//! hold, and what to do about it. The system's or the decompressor's own words are the error's source, not part of its message.

mod archive;
mod numpy;
mod tensors;
mod tree;

use std::io;
use std::path::PathBuf;

pub use archive::ArchiveError;
pub use numpy::NumpyError;
pub use tensors::TensorsError;
pub use tree::TreeError;

/// The groups of causes a caller may want to tell apart, for instance to choose an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataErrorKind {
    /// The request itself: an unknown name, an index past the end, a size of zero.
    Request,
    /// Data that has not been imported, or files that are not where they should be.
    Missing,
    /// Bytes that are not a valid file of their format.
    Malformed,
    /// Well-formed bytes that are not the known ones, or that changed since they were imported.
    Unverified,
    /// Well-formed parts that contradict each other.
    Inconsistent,
    /// The operating system refused: see [`DataError::io_error`] for its reason.
    Io,
}

/// What went wrong while reading, checking, importing or generating data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No dataset of this name is in the manifest.
    #[error("unknown dataset \"{name}\"; the known ones are {known}")]
    UnknownDataset {
        /// The name that was asked for.
        name: String,
        /// The known names, comma-separated.
        known: String,
    },

    /// The dataset is known but its files are not in the library folder.
    #[error("{dataset} is not in {}: {obtain}", folder.display())]
    NotImported {
        /// Name of the dataset.
        dataset: &'static str,
        /// Folder that would hold it.
        folder: PathBuf,
        /// How to get and import it.
        obtain: &'static str,
    },

    /// An import of a dataset that ships inside the binary.
    #[error("{dataset} is built in and needs no import: leave the import out and load it by name")]
    BuiltIn {
        /// Name of the dataset.
        dataset: &'static str,
    },

    /// The import source is a file, but the dataset does not come in one.
    #[error("{} is not a folder: give the folder that holds the dataset's files", folder.display())]
    NotAFolder {
        /// The path that was given.
        folder: PathBuf,
    },

    /// One of the dataset's files is absent from a folder.
    #[error("{} has no {file} for {dataset}; looked for {looked_for}: {obtain}", folder.display())]
    MissingFile {
        /// Name of the dataset.
        dataset: &'static str,
        /// The file's canonical name.
        file: &'static str,
        /// Folder that was searched.
        folder: PathBuf,
        /// The spellings that were tried, comma-separated.
        looked_for: String,
        /// How to get the dataset.
        obtain: &'static str,
    },

    /// The library folder already holds other data under this name.
    #[error(
        "{} already holds different data for {dataset}, and an import never overwrites: move that folder away, then import again",
        folder.display()
    )]
    AlreadyImported {
        /// Name of the dataset.
        dataset: &'static str,
        /// Folder that holds it.
        folder: PathBuf,
    },

    /// The record of an unverified import cannot be used.
    #[error("{} is not a valid import record ({reason}): move its folder away and import the dataset again", file.display())]
    BadRecord {
        /// The record.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file of an unverified import is no longer the one that was imported.
    #[error(
        "{file} has SHA-256 {found}, but {expected} was imported: it changed since; restore it, or move its \
         folder away and import again"
    )]
    ChangedSinceImport {
        /// The file.
        file: String,
        /// Digest of its uncompressed bytes.
        found: String,
        /// Digest in the import record.
        expected: String,
    },

    /// A file whose uncompressed size is not the known one.
    #[error(
        "{file} holds {found} bytes uncompressed, but the known file has {expected}: get it again from its \
         origin, or accept it unverified at import"
    )]
    SizeMismatch {
        /// The file.
        file: String,
        /// Uncompressed size in bytes.
        found: u64,
        /// Size in the manifest.
        expected: u64,
    },

    /// A file whose uncompressed bytes are not the known ones.
    #[error(
        "{file} has SHA-256 {found} uncompressed, but the known file has {expected}: get it again from its \
         origin, or accept it unverified at import"
    )]
    DigestMismatch {
        /// The file.
        file: String,
        /// Digest of its uncompressed bytes.
        found: String,
        /// Digest in the manifest.
        expected: String,
    },

    /// A file without a single byte.
    #[error("{file} is empty, but should hold {expected}: get it again from its origin")]
    Empty {
        /// The file.
        file: String,
        /// What it should hold.
        expected: &'static str,
    },

    /// A file that ends too early.
    #[error("{file} is cut short: {found} bytes where {expected} are needed; get it again from its origin")]
    Truncated {
        /// The file.
        file: String,
        /// Uncompressed size in bytes.
        found: u64,
        /// Bytes that its header calls for, or the size of the header itself.
        expected: u64,
    },

    /// A file that goes on after the data its header announces.
    #[error(
        "{file} has bytes after its data: {found} or more where its header calls for {expected}; get it again from its origin"
    )]
    TrailingBytes {
        /// The file.
        file: String,
        /// Uncompressed bytes seen before reading stopped.
        found: u64,
        /// Bytes that its header calls for.
        expected: u64,
    },

    /// Bytes after the end of the gzip stream.
    #[error("{file} has {extra} bytes after its gzip stream, expected none: get it again from its origin")]
    TrailingCompressedBytes {
        /// The file.
        file: String,
        /// How many bytes follow the stream.
        extra: u64,
    },

    /// A file that is neither IDX images nor IDX labels.
    #[error(
        "{file} starts with 0x{found:08x}, but IDX {expected_kind} start with 0x{expected:08x}: this is another \
         format (or a download page); check which file it is"
    )]
    WrongMagic {
        /// The file.
        file: String,
        /// First four bytes, big-endian.
        found: u32,
        /// The magic number that was expected.
        expected: u32,
        /// "images" or "labels".
        expected_kind: &'static str,
    },

    /// Labels where images belong, or images where labels belong.
    #[error("{file} is mislabelled: it holds IDX {found}, but {expected} belong there; were the two files exchanged?")]
    Mislabelled {
        /// The file.
        file: String,
        /// What it holds, "images" or "labels".
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },

    /// A header that announces zero images, rows or columns.
    #[error("{file} announces {dimension} = 0, expected at least 1: get it again from its origin")]
    ZeroDimension {
        /// The file.
        file: String,
        /// Which size is zero.
        dimension: &'static str,
    },

    /// A header or a file that calls for more memory than is allowed.
    #[error(
        "{file} calls for {claimed} bytes, more than the limit of {limit}: its header is damaged or it is another file"
    )]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes it calls for (saturated).
        claimed: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// A gzip stream that cannot be decompressed.
    #[error("{file} is damaged: it starts as gzip but does not decompress; get it again from its origin")]
    BadGzip {
        /// The file.
        file: String,
        /// What the decompressor said.
        source: io::Error,
    },

    /// A label that names no class.
    #[error(
        "{file}: label {index} is {value}, but there are {classes} classes (0 to {}): check that this is the right file",
        classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// The file or image set.
        file: String,
        /// Position of the label, from 0.
        index: usize,
        /// The label.
        value: i128,
        /// Number of classes.
        classes: usize,
    },

    /// Images and labels that do not pair up.
    #[error(
        "{images_file} holds {images} images but {labels_file} holds {labels} labels: they must come from the same set"
    )]
    CountMismatch {
        /// Where the images are.
        images_file: String,
        /// How many.
        images: usize,
        /// Where the labels are.
        labels_file: String,
        /// How many.
        labels: usize,
    },

    /// Images of another shape than the dataset's.
    #[error(
        "{file} holds {found_images} images of shape {found:?}, but the dataset has {expected_images} of \
         {expected:?} (channels, height, width): check that this is the right file"
    )]
    ShapeMismatch {
        /// The file.
        file: String,
        /// Shape found.
        found: [usize; 3],
        /// Images found.
        found_images: usize,
        /// Shape in the manifest.
        expected: [usize; 3],
        /// Images in the manifest.
        expected_images: usize,
    },

    /// A pixel buffer whose length is not images times shape.
    #[error(
        "{name}: {found} pixels where {images} images of shape {shape:?} need {expected}: pass one byte a pixel, image by image"
    )]
    PixelCount {
        /// Name of the image set.
        name: String,
        /// Length of the buffer.
        found: usize,
        /// Length it should have (saturated).
        expected: usize,
        /// Number of images (labels).
        images: usize,
        /// Channels, height, width.
        shape: [usize; 3],
    },

    /// A set without images, or with an empty shape.
    #[error("{name}: {what} is 0, expected at least 1")]
    EmptySet {
        /// Name of the image set.
        name: String,
        /// Which size is zero.
        what: &'static str,
    },

    /// More classes than a label can name.
    #[error("{name}: {classes} classes, but labels are 16-bit and name at most 65536")]
    TooManyClasses {
        /// Name of the image set.
        name: String,
        /// Number of classes.
        classes: usize,
    },

    /// An image that the set does not have.
    #[error("{name}: index {index} asked for, but the set has {len} images (0 to {})", len.saturating_sub(1))]
    IndexOutOfRange {
        /// Name of the image set.
        name: String,
        /// The index.
        index: usize,
        /// Images in the set.
        len: usize,
    },

    /// More generated data than is sensible.
    #[error(
        "{claimed} pixels of generated data in one part, but at most {limit} are allowed: ask for fewer or smaller images"
    )]
    TooMuchToGenerate {
        /// Pixels asked for (saturated).
        claimed: u64,
        /// The limit.
        limit: u64,
    },

    /// A split table whose first line is not a valid header.
    #[error("{file}: the first line is {found:?}, expected \"{expected}\"; restore the file from version control")]
    SplitHeader {
        /// The table.
        file: String,
        /// The line, shortened.
        found: String,
        /// The form it must have.
        expected: &'static str,
    },

    /// A line of a split table that is not an index.
    #[error("{file}, line {line}: {found:?} is not an image index; restore the file from version control")]
    SplitSyntax {
        /// The table.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The line, shortened.
        found: String,
    },

    /// An index of a split table past the last training image.
    #[error(
        "{file}, line {line}: index {index}, but there are {training_images} training images; restore the file \
         from version control"
    )]
    SplitRange {
        /// The table.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The index.
        index: u32,
        /// Number of training images in the header.
        training_images: u32,
    },

    /// An index that a split table lists twice.
    #[error("{file}, line {line}: index {index} is listed twice; restore the file from version control")]
    SplitDuplicate {
        /// The table.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The index.
        index: u32,
    },

    /// An index of a split table that is smaller than the one before it.
    #[error(
        "{file}, line {line}: index {index} comes after {previous}, but indices must rise; restore the file from version control"
    )]
    SplitOrder {
        /// The table.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The index.
        index: u32,
        /// The index before it.
        previous: u32,
    },

    /// A split that would leave no image to validate on, or none to train on.
    #[error("{file}: {validation} of {training_images} images held out; both parts need at least one image")]
    SplitEmptyPart {
        /// The table.
        file: String,
        /// Images held out.
        validation: usize,
        /// Images in all.
        training_images: usize,
    },

    /// A split table for another number of training images.
    #[error("{file} splits {expected} training images, but the set has {found}: the table belongs to another dataset")]
    SplitSize {
        /// The table.
        file: String,
        /// Training images found.
        found: usize,
        /// Training images in the table's header.
        expected: usize,
    },

    /// A class with fewer images than are to be held out.
    #[error("{name}: class {class} has {found} images, but {wanted} are to be held out: hold out fewer")]
    ClassTooSmall {
        /// Name of the image set.
        name: String,
        /// The class.
        class: usize,
        /// Images it has.
        found: usize,
        /// Images wanted for validation.
        wanted: usize,
    },

    /// A parameter of an augmentation that makes no sense.
    #[error("augmentation: {parameter} is {value}, expected {expected}")]
    AugmentationParameter {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },

    /// An archive that is damaged or not to be trusted.
    #[error(transparent)]
    Archive(#[from] ArchiveError),

    /// A tree of image files that cannot be used.
    #[error(transparent)]
    Tree(#[from] TreeError),

    /// A safetensors file that cannot be used.
    #[error(transparent)]
    Tensors(#[from] TensorsError),

    /// A NumPy file that cannot be used.
    #[error(transparent)]
    Numpy(#[from] NumpyError),

    /// The operating system refused to read or write.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl DataError {
    /// The group that this cause belongs to.
    #[must_use]
    pub fn kind(&self) -> DataErrorKind {
        match self {
            Self::UnknownDataset { .. }
            | Self::BuiltIn { .. }
            | Self::NotAFolder { .. }
            | Self::EmptySet { .. }
            | Self::TooManyClasses { .. }
            | Self::TooMuchToGenerate { .. }
            | Self::IndexOutOfRange { .. }
            | Self::ClassTooSmall { .. }
            | Self::AugmentationParameter { .. } => DataErrorKind::Request,
            Self::NotImported { .. } | Self::MissingFile { .. } => DataErrorKind::Missing,
            Self::BadRecord { .. }
            | Self::Empty { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::TrailingCompressedBytes { .. }
            | Self::WrongMagic { .. }
            | Self::Mislabelled { .. }
            | Self::ZeroDimension { .. }
            | Self::TooLarge { .. }
            | Self::BadGzip { .. }
            | Self::LabelOutOfRange { .. }
            | Self::SplitHeader { .. }
            | Self::SplitSyntax { .. }
            | Self::SplitRange { .. }
            | Self::SplitDuplicate { .. }
            | Self::SplitOrder { .. } => DataErrorKind::Malformed,
            Self::ChangedSinceImport { .. } | Self::SizeMismatch { .. } | Self::DigestMismatch { .. } => {
                DataErrorKind::Unverified
            }
            Self::AlreadyImported { .. }
            | Self::CountMismatch { .. }
            | Self::ShapeMismatch { .. }
            | Self::PixelCount { .. }
            | Self::SplitEmptyPart { .. }
            | Self::SplitSize { .. } => DataErrorKind::Inconsistent,
            Self::Archive(error) => error.kind(),
            Self::Tree(error) => error.kind(),
            Self::Tensors(error) => error.kind(),
            Self::Numpy(error) => error.kind(),
            Self::Io { .. } => DataErrorKind::Io,
        }
    }

    /// The system's own error when the cause is [`DataErrorKind::Io`] (permission, no space, ...), otherwise none.
    ///
    /// A damaged gzip stream also carries an [`io::Error`], but as a matter of content: it is not reported here.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
