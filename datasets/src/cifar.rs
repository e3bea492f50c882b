//! The binary format of CIFAR-10 and CIFAR-100: records of one or two label bytes and 3,072 pixels, without a header.
//!
//! A CIFAR-10 record is a label (0 to 9) and the pixels; a CIFAR-100 record is a coarse label (0 to 19), a fine label
//! (0 to 99) and the pixels. The pixels are 32 rows of 32 of red, then of green, then of blue.

use std::path::Path;

use crate::{DataError, idx};

/// Channels, height and width of every image.
pub const SHAPE: [usize; 3] = [3, 32, 32];

const PIXELS: usize = 3 * 32 * 32;

/// Which of the two formats a file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One label byte, ten classes.
    Cifar10,
    /// A coarse label byte of 20 and a fine one of 100 classes. The fine one is the label.
    Cifar100,
}

impl Kind {
    /// Bytes of a record.
    #[must_use]
    pub fn record_len(self) -> usize {
        self.label_bounds().len() + PIXELS
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(self) -> usize {
        self.label_bounds().last().map_or(0, |(_, bound)| usize::from(*bound))
    }

    /// What each label byte is called and what it must be below; the last one is the label.
    fn label_bounds(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::Cifar10 => &[("labels", 10)],
            Self::Cifar100 => &[("coarse labels", 20), ("fine labels", 100)],
        }
    }
}

/// The records of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct Records {
    /// `[records, 3, 32, 32]`, flattened.
    pub pixels: Vec<u8>,
    /// One label a record: the fine one of CIFAR-100.
    pub labels: Vec<u16>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({})", self.labels.len())
    }
}

/// The records in `bytes`; `file` names the source in errors.
///
/// # Errors
/// No byte at all, a last record that is cut short, a label (coarse ones too) that names no class.
pub fn parse(kind: Kind, bytes: &[u8], file: &str) -> Result<Records, DataError> {
    check_len(kind, bytes.len(), file)?;
    let count = bytes.len() / kind.record_len();
    let mut records = Records { pixels: Vec::with_capacity(count * PIXELS), labels: Vec::with_capacity(count) };
    for (index, record) in bytes.chunks_exact(kind.record_len()).enumerate() {
        let (labels, pixels) = record.split_at(kind.label_bounds().len());
        for (&value, &(what, bound)) in labels.iter().zip(kind.label_bounds()) {
            if value >= bound {
                let file = format!("{file} ({what})");
                let classes = usize::from(bound);
                return Err(DataError::LabelOutOfRange { file, index, value: value.into(), classes });
            }
        }
        records.labels.extend(labels.last().copied().map(u16::from));
        records.pixels.extend_from_slice(pixels);
    }
    Ok(records)
}

/// The records of the file at `path`.
///
/// # Errors
/// Those of [`parse`]; also when the file cannot be read.
pub fn read(kind: Kind, path: &Path) -> Result<Records, DataError> {
    parse(kind, &idx::read_file(path)?, &path.display().to_string())
}

/// Whether `found` bytes are one or more whole records.
pub(crate) fn check_len(kind: Kind, found: usize, file: &str) -> Result<(), DataError> {
    if found == 0 {
        return Err(DataError::Empty { file: file.into(), expected: "CIFAR records" });
    }
    let expected = found.next_multiple_of(kind.record_len());
    match found == expected {
        true => Ok(()),
        false => Err(DataError::Truncated { file: file.into(), found: found as u64, expected: expected as u64 }),
    }
}
