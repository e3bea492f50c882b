//! The IDX format of MNIST and its relatives: images (magic 0x00000803) and labels (0x00000801), raw or gzipped.
//!
//! A file is not believed: its header is checked against the bytes that are really there before anything of the size it
//! claims is allocated, and a gzip stream is decompressed no further than one byte past what its header calls for.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::{DataError, ImageSet};

/// No file may call for more than this many bytes uncompressed (1 GiB; the largest known IDX set has 47 MB).
pub const MAX_BYTES: u64 = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What an IDX file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned bytes in three dimensions: image, row, column.
    Images,
    /// Unsigned bytes in one dimension.
    Labels,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Images, Self::Labels];

    /// The four bytes such a file starts with, big-endian.
    #[must_use]
    pub fn magic(self) -> u32 {
        match self {
            Self::Images => 0x0000_0803,
            Self::Labels => 0x0000_0801,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Labels => "labels",
        }
    }

    /// What an empty file should hold.
    fn expected(self) -> &'static str {
        match self {
            Self::Images => "IDX images",
            Self::Labels => "IDX labels",
        }
    }

    fn dimensions(self) -> &'static [&'static str] {
        match self {
            Self::Images => &["images", "rows", "columns"],
            Self::Labels => &["labels"],
        }
    }

    fn header_len(self) -> usize {
        4 + 4 * self.dimensions().len()
    }
}

/// The images of one file: `count * height * width` bytes, image by image, row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    /// Number of images, at least 1.
    pub count: usize,
    /// Rows of an image, at least 1.
    pub height: usize,
    /// Columns of an image, at least 1.
    pub width: usize,
    /// One byte a pixel, 0 to 255.
    pub pixels: Vec<u8>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({} of {}x{})", self.count, self.height, self.width)
    }
}

/// Whether `bytes` start as a gzip stream.
#[must_use]
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&GZIP_MAGIC)
}

/// The raw IDX bytes in `bytes`, decompressed where they are gzipped, with the header checked and the length exact.
///
/// `file` names the source in errors.
///
/// # Errors
/// A malformed file, by its cause: empty, truncated, mislabelled, wrong magic, a zero size, too large, trailing bytes,
/// damaged gzip.
pub fn unpack<'a>(kind: Kind, bytes: &'a [u8], file: &str) -> Result<Cow<'a, [u8]>, DataError> {
    if is_gzip(bytes) {
        return gunzip(kind, bytes, file).map(Cow::Owned);
    }
    let expected = announced_len(kind, bytes, file)?;
    check_len(bytes.len() as u64, expected, file)?;
    Ok(Cow::Borrowed(bytes))
}

/// The images in `bytes` (raw or gzipped IDX); `file` names the source in errors.
///
/// # Errors
/// See [`unpack`].
pub fn parse_images(bytes: &[u8], file: &str) -> Result<Images, DataError> {
    let raw = unpack(Kind::Images, bytes, file)?;
    let (header, _) = raw.split_at(Kind::Images.header_len());
    let size = |dimension: usize| be_u32(header, 4 + 4 * dimension) as usize;
    Ok(Images { count: size(0), height: size(1), width: size(2), pixels: raw[header.len()..].to_vec() })
}

/// The labels in `bytes` (raw or gzipped IDX), each below `classes`; `file` names the source in errors.
///
/// # Errors
/// See [`unpack`]; also a label that names no class, with its index and value.
pub fn parse_labels(bytes: &[u8], classes: usize, file: &str) -> Result<Vec<u16>, DataError> {
    let raw = unpack(Kind::Labels, bytes, file)?;
    let labels: Vec<u16> = raw[Kind::Labels.header_len()..].iter().copied().map(u16::from).collect();
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(labels),
        Some(index) => {
            Err(DataError::LabelOutOfRange { file: file.into(), index, value: labels[index].into(), classes })
        }
    }
}

/// The images in the file at `path`, raw or gzipped.
///
/// # Errors
/// See [`parse_images`]; also when the file cannot be read.
pub fn read_images(path: &Path) -> Result<Images, DataError> {
    parse_images(&read_file(path)?, &path.display().to_string())
}

/// The labels in the file at `path`, raw or gzipped, each below `classes`.
///
/// # Errors
/// See [`parse_labels`]; also when the file cannot be read.
pub fn read_labels(path: &Path, classes: usize) -> Result<Vec<u16>, DataError> {
    parse_labels(&read_file(path)?, classes, &path.display().to_string())
}

/// One channel of `images` and their `labels` as an [`ImageSet`] called `name`; `files` name the two sources in errors.
///
/// # Errors
/// When the two do not pair up, and those of [`ImageSet::new`].
pub fn image_set(
    name: &str,
    classes: usize,
    images: Images,
    labels: Vec<u16>,
    files: [&str; 2],
) -> Result<ImageSet, DataError> {
    if images.count != labels.len() {
        return Err(DataError::CountMismatch {
            images_file: files[0].into(),
            images: images.count,
            labels_file: files[1].into(),
            labels: labels.len(),
        });
    }
    ImageSet::new(name, [1, images.height, images.width], classes, images.pixels, labels)
}

/// All bytes of a file of at most [`MAX_BYTES`].
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    let claimed = bytes.len() as u64;
    if claimed > MAX_BYTES {
        return Err(DataError::TooLarge { file: path.display().to_string(), claimed, limit: MAX_BYTES });
    }
    Ok(bytes)
}

fn gunzip(kind: Kind, bytes: &[u8], file: &str) -> Result<Vec<u8>, DataError> {
    let bad_gzip = |source| DataError::BadGzip { file: file.into(), source };
    let mut decoder = GzDecoder::new(bytes);
    let mut raw = Vec::new();
    let header_len = kind.header_len() as u64;
    (&mut decoder).take(header_len).read_to_end(&mut raw).map_err(bad_gzip)?;
    let expected = announced_len(kind, &raw, file)?;

    // One byte more than expected: it shows trailing bytes, and reading to the end is what checks the stream's CRC.
    (&mut decoder).take(expected - header_len + 1).read_to_end(&mut raw).map_err(bad_gzip)?;
    check_len(raw.len() as u64, expected, file)?;
    match decoder.into_inner().len() as u64 {
        0 => Ok(raw),
        extra => Err(DataError::TrailingCompressedBytes { file: file.into(), extra }),
    }
}

/// Length of the whole raw file according to the header at the start of `raw`.
fn announced_len(kind: Kind, raw: &[u8], file: &str) -> Result<u64, DataError> {
    if raw.is_empty() {
        return Err(DataError::Empty { file: file.into(), expected: kind.expected() });
    }
    // The magic first: a labels file in the place of an images file may be shorter than the header of the latter.
    if raw.len() >= 4 {
        check_magic(kind, be_u32(raw, 0), file)?;
    }
    if raw.len() < kind.header_len() {
        return Err(DataError::Truncated {
            file: file.into(),
            found: raw.len() as u64,
            expected: kind.header_len() as u64,
        });
    }
    let mut payload = 1_u64;
    for (position, &dimension) in kind.dimensions().iter().enumerate() {
        let size = u64::from(be_u32(raw, 4 + 4 * position));
        if size == 0 {
            return Err(DataError::ZeroDimension { file: file.into(), dimension });
        }
        payload = payload.saturating_mul(size);
    }
    let claimed = payload.saturating_add(kind.header_len() as u64);
    if claimed > MAX_BYTES {
        return Err(DataError::TooLarge { file: file.into(), claimed, limit: MAX_BYTES });
    }
    Ok(claimed)
}

fn check_magic(kind: Kind, found: u32, file: &str) -> Result<(), DataError> {
    if found == kind.magic() {
        return Ok(());
    }
    let file = file.to_owned();
    Err(match Kind::ALL.into_iter().find(|other| other.magic() == found) {
        Some(other) => DataError::Mislabelled { file, found: other.name(), expected: kind.name() },
        None => DataError::WrongMagic { file, found, expected: kind.magic(), expected_kind: kind.name() },
    })
}

fn check_len(found: u64, expected: u64, file: &str) -> Result<(), DataError> {
    let file = file.to_owned();
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Err(DataError::Truncated { file, found, expected }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(DataError::TrailingBytes { file, found, expected }),
    }
}

/// Four bytes of `bytes` from `at`, big-endian. The callers have checked that they are there.
fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}
