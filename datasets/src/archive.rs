//! Archives that are not believed: entries are read into memory, never unpacked to a path, and refused by their names,
//! kinds and sizes before their bytes are read.
//!
//! Refused are names that leave the folder, links and devices, a name that is there twice, and more bytes or entries
//! than the caller's limits.

mod zip;

use std::collections::HashSet;
use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;

pub(crate) use self::zip::{Zip, ZipLimits};
use crate::{ArchiveError, DataError};

/// No name of an entry may be longer, in bytes.
const MAX_NAME: usize = 1024;

/// What may be in a tar archive beside the wanted files: readme files, lists of class names, headers, padding.
const TAR_SLACK: u64 = 16 << 20;

/// A tar archive of a data set has a dozen entries.
const TAR_ENTRIES: usize = 1000;

/// The name of an entry as a relative path with `/` between its parts, without `.` parts; empty for the folder itself.
///
/// # Errors
/// A name that is not text, is empty or too long, or leads out of the folder on any system.
pub(crate) fn clean_name(archive: &str, name: &[u8]) -> Result<String, ArchiveError> {
    let shown = shorten(&String::from_utf8_lossy(name));
    let bad = || ArchiveError::BadName { archive: archive.into(), entry: shown.clone(), limit: MAX_NAME };
    let text = std::str::from_utf8(name).map_err(|_| bad())?;
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(bad());
    }
    let drive = text.as_bytes().get(1) == Some(&b':');
    if text.starts_with('/') || text.contains('\\') || drive || text.split('/').any(|part| part == "..") {
        return Err(ArchiveError::Leaves { archive: archive.into(), entry: shown });
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

/// The files called `wanted` in the gzipped tar archive `bytes`, whichever folder of it they lie in, each at most its
/// limit.
///
/// The whole archive is read, so that its checksum is checked. `archive` names it in errors.
///
/// # Errors
/// An archive that breaks a rule of this module, that cannot be read to its end, or that lacks a wanted file.
pub(crate) fn untar_gz(archive: &str, bytes: &[u8], wanted: &[(&str, u64)]) -> Result<Vec<Vec<u8>>, DataError> {
    let limit = wanted.iter().map(|(_, limit)| limit).sum::<u64>() + TAR_SLACK;
    let mut tar = tar::Archive::new(Bounded { inner: MultiGzDecoder::new(bytes), left: limit, exceeded: false });
    let found = read_entries(archive, &mut tar, wanted);
    let mut rest = tar.into_inner();
    let drained = found.and_then(|found| {
        io::copy(&mut rest, &mut io::sink()).map_err(|source| damaged(archive, source))?;
        Ok(found)
    });
    if rest.exceeded {
        return Err(ArchiveError::TooLarge { archive: archive.into(), limit }.into());
    }
    let files = drained?.into_iter().zip(wanted);
    let file = |(file, (name, _)): (Option<Vec<u8>>, &(&str, u64))| {
        file.ok_or_else(|| ArchiveError::Missing { archive: archive.into(), entry: (*name).into() }.into())
    };
    files.map(file).collect()
}

fn read_entries<R: Read>(
    archive: &str,
    tar: &mut tar::Archive<R>,
    wanted: &[(&str, u64)],
) -> Result<Vec<Option<Vec<u8>>>, ArchiveError> {
    let damaged = |source| damaged(archive, source);
    let mut found: Vec<Option<Vec<u8>>> = wanted.iter().map(|_| None).collect();
    let mut names = HashSet::new();
    for (number, entry) in tar.entries().map_err(damaged)?.enumerate() {
        let entry = entry.map_err(damaged)?;
        if number >= TAR_ENTRIES {
            return Err(ArchiveError::TooManyEntries { archive: archive.into(), limit: TAR_ENTRIES });
        }
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let name = clean_name(archive, &entry.path_bytes())?;
        if let Some(found) = irregular(kind) {
            return Err(ArchiveError::NotAFile { archive: archive.into(), entry: name, found });
        }
        if !kind.is_file() {
            continue;
        }
        let base = name.rsplit('/').next().unwrap_or_default();
        let position = wanted.iter().position(|(wanted, _)| *wanted == base);
        let twice = !names.insert(name.clone()) || position.is_some_and(|position| found[position].is_some());
        if twice {
            return Err(ArchiveError::Duplicate { archive: archive.into(), entry: name });
        }
        if let Some(position) = position {
            found[position] = Some(read_limited(archive, &name, entry.size(), wanted[position].1, entry)?);
        }
    }
    Ok(found)
}

/// What an entry of a tar archive is, if neither file nor folder.
fn irregular(kind: tar::EntryType) -> Option<&'static str> {
    use tar::EntryType;
    match kind {
        EntryType::Regular | EntryType::Directory => None,
        EntryType::Symlink => Some("symbolic link"),
        EntryType::Link => Some("hard link"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Some("device"),
        _ => Some("special entry"),
    }
}

/// All bytes of an entry that announces `claimed` of them.
fn read_limited(
    archive: &str,
    entry: &str,
    claimed: u64,
    limit: u64,
    reader: impl Read,
) -> Result<Vec<u8>, ArchiveError> {
    let too_large =
        |claimed| ArchiveError::EntryTooLarge { archive: archive.into(), entry: entry.into(), claimed, limit };
    if claimed > limit {
        return Err(too_large(claimed));
    }
    let entry_damaged = |source| ArchiveError::EntryDamaged { archive: archive.into(), entry: entry.into(), source };
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(entry_damaged)?;
    let found = bytes.len() as u64;
    if found > limit {
        return Err(too_large(found));
    }
    if found != claimed {
        return Err(entry_damaged(io::Error::other(format!("{found} bytes where {claimed} are announced"))));
    }
    Ok(bytes)
}

fn damaged(archive: &str, source: io::Error) -> ArchiveError {
    ArchiveError::Damaged { archive: archive.into(), format: "tar.gz", source }
}

fn shorten(name: &str) -> String {
    name.chars().take(120).collect()
}

/// Ends with an error once more than `left` bytes were asked for, so that a bomb stops early.
struct Bounded<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("more bytes than allowed"));
            }
        }
        Ok(read)
    }
}
