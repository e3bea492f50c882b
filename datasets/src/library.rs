//! The library folder: one sub-folder a dataset, re-hashed whenever it is loaded.
//!
//! A file put there by hand is as good as an imported one: what counts is its digest. Data with other digests load only if an
//! import recorded that the user accepted them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::data_splits::DataSplits;
use crate::manifest::{KnownDataset, find, known};
use crate::record::read_record;
use crate::{DataError, ImageSet, Provenance, SplitTable, Trust, source};

/// Decoded images, beside the archive that they were decoded from.
const CACHE_NAME: &str = "decoded.images";

/// What the library folder holds of a dataset, judged by names only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Compiled into this binary.
    Embedded,
    /// All its files are there. [`verify`] says whether they still have the known digests.
    Imported,
    /// All its files are there, and are not the known ones: the user accepted them at import.
    ImportedUnverified,
    /// Some of its files are missing.
    Incomplete {
        /// Canonical names of the missing files.
        missing: Vec<&'static str>,
    },
    /// Nothing is there; [`KnownDataset::obtain`] says how to get it.
    Absent,
}

/// One line of [`list`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatusEntry {
    /// The dataset.
    pub dataset: &'static KnownDataset,
    /// What is there of it.
    pub status: Status,
    /// The folder that holds it, or would hold it.
    pub folder: PathBuf,
}

/// Every known dataset and whether it can be loaded from the library folder `dir`. Nothing is hashed, so this is quick.
///
/// # Errors
/// When `dir` cannot be searched; a `dir` that does not exist holds nothing.
pub fn list(dir: &Path) -> Result<Vec<StatusEntry>, DataError> {
    let entry = |dataset: &'static KnownDataset| {
        let folder = dir.join(dataset.name);
        Ok(StatusEntry { dataset, status: status(dataset, &folder)?, folder })
    };
    known().iter().map(entry).collect()
}

pub(crate) fn status(dataset: &'static KnownDataset, folder: &Path) -> Result<Status, DataError> {
    if dataset.is_embedded() {
        return Ok(Status::Embedded);
    }
    let missing = source::missing(dataset, folder)?;
    Ok(if missing.len() == dataset.format.files().len() {
        Status::Absent
    } else if !missing.is_empty() {
        Status::Incomplete { missing }
    } else if read_record(dataset, folder)?.is_some() {
        Status::ImportedUnverified
    } else {
        Status::Imported
    })
}

/// The dataset called `name`, from the binary or from the library folder `dir`, with its validation split.
///
/// # Errors
/// An unknown name, a dataset that is not there, and everything that [`verify`] finds.
pub fn load(name: &str, dir: &Path) -> Result<DataSplits, DataError> {
    let dataset = find(name)?;
    let (all, test, provenance) = load_known(dataset, dir)?;
    let table = SplitTable::of(dataset, &all)?;
    let (train, validation) = table.apply(&all)?;
    let class_names = dataset.class_names.iter().map(|&name| name.to_owned()).collect();
    Ok(DataSplits { train, validation, test, class_names, provenance, split: Some(table.record()) })
}

/// All training images and the test images of `name`, without a validation split, and their origin.
///
/// For making a split table, and for looking at data. To train, use [`load`]: it keeps the held-out images out.
///
/// # Errors
/// Those of [`load`].
pub fn load_unsplit(name: &str, dir: &Path) -> Result<(ImageSet, ImageSet, Provenance), DataError> {
    load_known(find(name)?, dir)
}

pub(crate) fn load_known(
    dataset: &'static KnownDataset,
    dir: &Path,
) -> Result<(ImageSet, ImageSet, Provenance), DataError> {
    match source::embedded(dataset) {
        Some(sources) => {
            let unpacked = source::unpack(dataset, &sources)?;
            unpacked.check_known(dataset)?;
            let (train, test) = unpacked.decode(dataset, None)?;
            Ok((train, test, provenance(dataset, Trust::Embedded, &unpacked)))
        }
        None => load_folder(dataset, &dir.join(dataset.name)),
    }
}

fn load_folder(dataset: &'static KnownDataset, folder: &Path) -> Result<(ImageSet, ImageSet, Provenance), DataError> {
    if status(dataset, folder)? == Status::Absent {
        return Err(DataError::NotImported { dataset: dataset.name, folder: folder.into(), obtain: dataset.obtain });
    }
    let sources = source::read(dataset, folder)?;
    let unpacked = source::unpack(dataset, &sources)?;
    let trust = match (unpacked.check_known(dataset), read_record(dataset, folder)?) {
        (Ok(()), _) => Trust::Verified,
        (Err(_), Some(recorded)) => {
            unpacked.check_recorded(&recorded)?;
            Trust::Unverified
        }
        (Err(unknown), None) => return Err(unknown),
    };
    let (train, test) = unpacked.decode(dataset, Some(&folder.join(CACHE_NAME)))?;
    Ok((train, test, provenance(dataset, trust, &unpacked)))
}

pub(crate) fn provenance(dataset: &KnownDataset, trust: Trust, unpacked: &source::Unpacked<'_>) -> Provenance {
    Provenance { dataset: dataset.name.into(), trust, files: unpacked.files.clone() }
}

/// Hashes and parses every file of `name` again, and says how far its bytes are known.
///
/// # Errors
/// An unknown name, a dataset that is not there or lacks a file, a malformed file, a digest that is neither the manifest's nor
/// the one recorded when the user accepted an unverified import.
pub fn verify(name: &str, dir: &Path) -> Result<Provenance, DataError> {
    load_unsplit(name, dir).map(|(_, _, provenance)| provenance)
}

/// The library folder to use where the user names none: `$NEOKD_DATA`, else `$XDG_DATA_HOME/neokd`, else
/// `$HOME/.local/share/neokd`; none if no variable helps.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    data_dir_from(|variable| std::env::var_os(variable))
}

/// [`default_data_dir`] with the environment as an argument. Empty variables count as unset, and so does a relative
/// `XDG_DATA_HOME`, as the XDG base directory specification asks.
#[must_use]
pub fn data_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("NEOKD_DATA")
        .or_else(|| path("XDG_DATA_HOME").filter(|home| home.is_absolute()).map(|home| home.join("neokd")))
        .or_else(|| path("HOME").map(|home| home.join(".local/share/neokd")))
}
