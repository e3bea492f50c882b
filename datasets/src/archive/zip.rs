//! Zip archives: the directory is checked before any entry is read.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::{clean_name, read_limited};
use crate::ArchiveError;

/// What a zip archive may call for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZipLimits {
    /// Entries, folders included.
    pub(crate) entries: usize,
    /// Uncompressed bytes of one entry.
    pub(crate) entry_bytes: u64,
    /// Uncompressed bytes of all entries.
    pub(crate) bytes: u64,
}

/// A file on disk or in memory.
pub(crate) trait ReadSeek: Read + Seek {}

impl<R: Read + Seek> ReadSeek for R {}

/// An archive whose entries were all checked by name, kind and size; their bytes are read one by one.
pub(crate) struct Zip<'a> {
    label: String,
    inner: ::zip::ZipArchive<Box<dyn ReadSeek + 'a>>,
    /// Cleaned name, announced size and index of every file, folders left out.
    files: Vec<(String, u64, usize)>,
    entry_limit: u64,
}

impl<'a> Zip<'a> {
    /// Reads the directory of the archive and checks every entry in it.
    ///
    /// # Errors
    /// An archive that breaks a rule of the parent module.
    pub(crate) fn open(label: &str, reader: impl ReadSeek + 'a, limits: ZipLimits) -> Result<Self, ArchiveError> {
        let reader: Box<dyn ReadSeek + 'a> = Box::new(reader);
        let inner = ::zip::ZipArchive::new(reader).map_err(|error| damaged(label, error))?;
        if inner.len() > limits.entries {
            return Err(ArchiveError::TooManyEntries { archive: label.into(), limit: limits.entries });
        }
        let mut zip = Self { label: label.into(), inner, files: Vec::new(), entry_limit: limits.entry_bytes };
        zip.check_entries(limits)?;
        Ok(zip)
    }

    fn check_entries(&mut self, limits: ZipLimits) -> Result<(), ArchiveError> {
        let archive = || self.label.clone();
        let (mut names, mut total) = (HashSet::new(), 0_u64);
        for index in 0..self.inner.len() {
            let entry = self.inner.by_index_data(index).map_err(|error| damaged(&self.label, error))?;
            let name = clean_name(&self.label, entry.name_raw())?;
            if let Some(found) = irregular(entry.is_symlink(), entry.unix_mode()) {
                return Err(ArchiveError::NotAFile { archive: archive(), entry: name, found });
            }
            if entry.is_dir() {
                continue;
            }
            if let Some(found) = unsupported(entry.encrypted(), entry.compression()) {
                return Err(ArchiveError::Unsupported { archive: archive(), entry: name, found });
            }
            let (claimed, limit) = (entry.size(), limits.entry_bytes);
            if claimed > limit {
                return Err(ArchiveError::EntryTooLarge { archive: archive(), entry: name, claimed, limit });
            }
            total = total.saturating_add(claimed);
            if total > limits.bytes {
                return Err(ArchiveError::TooLarge { archive: archive(), limit: limits.bytes });
            }
            if !names.insert(name.clone()) {
                return Err(ArchiveError::Duplicate { archive: archive(), entry: name });
            }
            self.files.push((name, claimed, index));
        }
        // Of entries with exactly the same name the reader keeps one, and says only that there were more.
        match self.inner.has_duplicate_names() {
            true => Err(ArchiveError::Duplicate { archive: archive(), entry: "(one of its names)".into() }),
            false => Ok(()),
        }
    }

    /// Name and announced size of every file, in the order of the archive.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, bytes, _)| (name.as_str(), *bytes))
    }

    /// The bytes of file number `position` of [`Self::files`].
    ///
    /// # Errors
    /// A damaged entry, or one that holds more or less than it announced.
    pub(crate) fn read(&mut self, position: usize) -> Result<Vec<u8>, ArchiveError> {
        let (name, claimed, index) = &self.files[position];
        let entry = self.inner.by_index(*index).map_err(|error| ArchiveError::EntryDamaged {
            archive: self.label.clone(),
            entry: name.clone(),
            source: error.into(),
        })?;
        read_limited(&self.label, name, *claimed, self.entry_limit, entry)
    }
}

fn damaged(archive: &str, error: ::zip::result::ZipError) -> ArchiveError {
    ArchiveError::Damaged { archive: archive.into(), format: "zip", source: error.into() }
}

/// What an entry is, if neither file nor folder, by the Unix mode that it may carry.
fn irregular(symlink: bool, mode: Option<u32>) -> Option<&'static str> {
    const KIND: u32 = 0o170_000;
    match mode.map_or(0, |mode| mode & KIND) {
        0o120_000 => Some("symbolic link"),
        _ if symlink => Some("symbolic link"),
        0 | 0o100_000 | 0o040_000 => None,
        _ => Some("device"),
    }
}

fn unsupported(encrypted: bool, compression: ::zip::CompressionMethod) -> Option<String> {
    match compression {
        _ if encrypted => Some("encrypted".into()),
        ::zip::CompressionMethod::Stored | ::zip::CompressionMethod::Deflated => None,
        other => Some(format!("compressed with {other}")),
    }
}
