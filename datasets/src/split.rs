//! The validation split: which training images are held out.
//!
//! MNIST and Fashion-MNIST have a committed table. For every other set the table is drawn from the labels each time it
//! is loaded, by the same rule ([`SplitTable::generate`]) and with the same [`SEED`]: the same labels in the same order
//! give the same table, and reports carry its SHA-256.
//!
//! A table's first line is a header such as
//!
//! ```text
//! # neokd-split 1 dataset=mnist training_images=60000 per_class=500 seed=1
//! ```
//!
//! (`per_class=10%` where a tenth of each class is held out), and every further line is the index of one held-out
//! image, counted from 0 in the training file, in rising order. The committed tables were made by
//! [`SplitTable::generate`] with [`PER_CLASS`] and [`SEED`]; `examples/write_split.rs` calls it.

use serde::Serialize;

use crate::held_out::SplitRule;
pub use crate::held_out::{HeldOut, PER_CLASS, TENTH};
use crate::manifest::KnownDataset;
use crate::random::{below, stream};
use crate::{DataError, ImageSet, Images, sha256_hex};

/// Seed of every table that this crate commits or draws by itself.
pub const SEED: u64 = 1;

const HEADER_FORM: &str = "# neokd-split 1 dataset=NAME training_images=COUNT per_class=COUNT[%] seed=SEED";

/// What [`SplitRecord::file`] says of a table that is not committed.
const DRAWN: &str = "drawn from the labels";

/// A parsed or generated table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTable {
    file: String,
    dataset: String,
    training_images: u32,
    held_out: HeldOut,
    seed: u64,
    validation: Vec<u32>,
    sha256: String,
}

/// What a report says about the split it used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SplitRecord {
    /// The committed table, relative to this crate; or that it was drawn from the labels.
    pub file: String,
    /// SHA-256 of the table's text, lower-case hexadecimal.
    pub sha256: String,
    /// Images to train on.
    pub train_images: usize,
    /// Images held out.
    pub validation_images: usize,
    /// Images of each class that the generator held out: `per_class`, or `percent` of them.
    #[serde(flatten)]
    pub held_out: HeldOut,
    /// Seed of the generator.
    pub seed: u64,
}

impl SplitTable {
    /// The committed table of `dataset`; none where the table is drawn from the labels.
    ///
    /// # Errors
    /// Those of [`Self::parse`], if the table was damaged before this binary was built.
    pub fn committed(dataset: &KnownDataset) -> Result<Option<Self>, DataError> {
        match dataset.split {
            SplitRule::Committed(file, text) => Self::parse(file, text).map(Some),
            SplitRule::Drawn(_) => Ok(None),
        }
    }

    /// The table of `dataset` whose training images are `training`: the committed one, or the one that its rule draws.
    ///
    /// # Errors
    /// Those of [`Self::parse`] and [`Self::generate`].
    pub fn of(dataset: &KnownDataset, training: &dyn Images) -> Result<Self, DataError> {
        match dataset.split {
            SplitRule::Committed(file, text) => Self::parse(file, text),
            SplitRule::Drawn(held_out) => Self::drawn(dataset.name, training, held_out),
        }
    }

    /// A table that no file fixes: drawn with [`SEED`] from the labels of `training` by [`Self::generate`].
    ///
    /// # Errors
    /// Those of [`Self::generate`].
    pub fn drawn(dataset: &str, training: &dyn Images, held_out: HeldOut) -> Result<Self, DataError> {
        Self::generate(DRAWN, dataset, training, held_out, SEED)
    }

    /// Draws images of each class of `training`, without replacement. Only the labels and their order count.
    ///
    /// Class by class in the order of the labels, the class's indices in rising order are shuffled by the first steps
    /// (as many as are held out) of Fisher and Yates: step i exchanges entry i with a uniformly drawn entry from i on.
    /// The draws come from ChaCha8, keyed by `seed` (8 bytes little-endian, then zeros) on stream 0, as 32-bit integers
    /// with rejection of the biased tail.
    ///
    /// # Errors
    /// A class with fewer images than are held out, or a part that would be left empty.
    pub fn generate(
        file: &str,
        dataset: &str,
        training: &dyn Images,
        held_out: HeldOut,
        seed: u64,
    ) -> Result<Self, DataError> {
        let mut rng = stream(seed, 0);
        let mut validation = Vec::new();
        for (class, mut members) in members_by_class(training).into_iter().enumerate() {
            let wanted = held_out.count(members.len());
            if members.len() < wanted {
                let (name, found) = (training.name().to_owned(), members.len());
                return Err(DataError::ClassTooSmall { name, class, found, wanted });
            }
            for step in 0..wanted {
                let other = step + below(&mut rng, (members.len() - step) as u32) as usize;
                members.swap(step, other);
            }
            validation.extend_from_slice(&members[..wanted]);
        }
        validation.sort_unstable();
        Self::parse(file, &render(dataset, training.len(), held_out, seed, &validation))
    }

    /// The table in `text`; `file` names it in errors and records.
    ///
    /// # Errors
    /// A malformed header or index, an index out of range, listed twice or out of order, a part left empty.
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let header = Header::parse(first).ok_or_else(|| DataError::SplitHeader {
            file: file.into(),
            found: shorten(first),
            expected: HEADER_FORM,
        })?;
        let validation = parse_indices(file, lines, header.training_images)?;
        if validation.is_empty() || validation.len() >= header.training_images as usize {
            return Err(DataError::SplitEmptyPart {
                file: file.into(),
                validation: validation.len(),
                training_images: header.training_images as usize,
            });
        }
        Ok(Self {
            file: file.into(),
            dataset: header.dataset.into(),
            training_images: header.training_images,
            held_out: header.held_out,
            seed: header.seed,
            validation,
            sha256: sha256_hex(text.as_bytes()),
        })
    }

    /// The table as text: what [`Self::parse`] reads and what is committed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let training_images = self.training_images as usize;
        render(&self.dataset, training_images, self.held_out, self.seed, &self.validation)
    }

    /// The held-out indices, rising.
    #[must_use]
    pub fn validation(&self) -> &[u32] {
        &self.validation
    }

    /// What reports say about this table.
    #[must_use]
    pub fn record(&self) -> SplitRecord {
        SplitRecord {
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            train_images: self.training_images as usize - self.validation.len(),
            validation_images: self.validation.len(),
            held_out: self.held_out,
            seed: self.seed,
        }
    }

    /// The images of `training` that are not held out, and those that are, both in their original order.
    ///
    /// # Errors
    /// If the table was made for another number of training images.
    pub fn apply(&self, training: &ImageSet) -> Result<(ImageSet, ImageSet), DataError> {
        let (kept, held_out) = self.parts(training.len())?;
        let validation = training.select(&held_out)?.named(&format!("{} validation", self.dataset));
        Ok((training.select(&kept)?, validation))
    }

    /// The indices of `training_images` images that are not held out, and of those that are, both rising.
    ///
    /// # Errors
    /// If the table was made for another number of training images.
    pub fn parts(&self, training_images: usize) -> Result<(Vec<usize>, Vec<usize>), DataError> {
        let expected = self.training_images as usize;
        if training_images != expected {
            return Err(DataError::SplitSize { file: self.file.clone(), found: training_images, expected });
        }
        let held_out: Vec<usize> = self.validation.iter().map(|&index| index as usize).collect();
        let mut is_held_out = vec![false; expected];
        for &index in &held_out {
            is_held_out[index] = true;
        }
        let kept = (0..expected).filter(|&index| !is_held_out[index]).collect();
        Ok((kept, held_out))
    }
}

struct Header<'a> {
    dataset: &'a str,
    training_images: u32,
    held_out: HeldOut,
    seed: u64,
}

impl<'a> Header<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.strip_prefix("# neokd-split 1 ")?.split(' ');
        let mut value = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
        let header = Self {
            dataset: value("dataset")?,
            training_images: value("training_images")?.parse().ok()?,
            held_out: HeldOut::parse(value("per_class")?)?,
            seed: value("seed")?.parse().ok()?,
        };
        fields.next().is_none().then_some(header)
    }
}

fn parse_indices<'a>(
    file: &str,
    lines: impl Iterator<Item = &'a str>,
    training_images: u32,
) -> Result<Vec<u32>, DataError> {
    let mut indices: Vec<u32> = Vec::new();
    for (text, line) in lines.zip(2..) {
        let file = file.to_owned();
        // Only the spelling that `render` writes: no sign, no leading zero, no space.
        let parsed = text.parse::<u32>().ok().filter(|index| index.to_string() == text);
        let Some(index) = parsed else {
            return Err(DataError::SplitSyntax { file, line, found: shorten(text) });
        };
        if index >= training_images {
            return Err(DataError::SplitRange { file, line, index, training_images });
        }
        match indices.last() {
            Some(&previous) if previous == index => return Err(DataError::SplitDuplicate { file, line, index }),
            Some(&previous) if previous > index => {
                return Err(DataError::SplitOrder { file, line, index, previous });
            }
            _ => indices.push(index),
        }
    }
    Ok(indices)
}

fn members_by_class(set: &dyn Images) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); set.classes()];
    for (&label, index) in set.labels().iter().zip(0_u32..) {
        members[usize::from(label)].push(index);
    }
    members
}

fn render(dataset: &str, training_images: usize, held_out: HeldOut, seed: u64, validation: &[u32]) -> String {
    let mut text = format!(
        "# neokd-split 1 dataset={dataset} training_images={training_images} per_class={held_out} seed={seed}\n"
    );
    for index in validation {
        text += &index.to_string();
        text.push('\n');
    }
    text
}

/// At most 60 characters of a line, so that a hostile file does not fill the terminal.
fn shorten(line: &str) -> String {
    line.chars().take(60).collect()
}
