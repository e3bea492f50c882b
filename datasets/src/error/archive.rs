//! What can be wrong with an archive, apart from the data in it. Each message names the archive and, where there is
//! one, the entry.

use std::io;

use super::DataErrorKind;

/// Why an archive is refused. Nothing is ever unpacked to where an entry's name points.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// An entry whose name leads out of the archive's own folder.
    #[error(
        "{archive}: entry {entry:?} leaves the archive's folder, expected a relative path without \"..\", drive or \
         backslash: do not unpack this archive; get it again from its origin"
    )]
    Leaves {
        /// The archive.
        archive: String,
        /// The entry's name, shortened.
        entry: String,
    },

    /// An entry without a usable name.
    #[error(
        "{archive}: entry {entry:?} has no usable name, expected UTF-8 of 1 to {limit} bytes without control \
         characters: get the archive again from its origin"
    )]
    BadName {
        /// The archive.
        archive: String,
        /// The entry's name as far as it is text, shortened.
        entry: String,
        /// Most bytes of a name.
        limit: usize,
    },

    /// An entry that is neither a file nor a folder.
    #[error(
        "{archive}: entry {entry:?} is a {found}, expected only files and folders: get the archive from its origin"
    )]
    NotAFile {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
        /// Such as "symbolic link".
        found: &'static str,
    },

    /// A name that stands for two entries.
    #[error("{archive}: entry {entry:?} is there more than once, expected once: get the archive again from its origin")]
    Duplicate {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
    },

    /// An entry that announces more bytes than are allowed.
    #[error(
        "{archive}: entry {entry:?} calls for {claimed} bytes, more than the limit of {limit}: the archive is damaged \
         or made to fill the memory; get it from its origin"
    )]
    EntryTooLarge {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
        /// Bytes that it announces, or that were seen before reading stopped.
        claimed: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// An archive that unpacks to more bytes than are allowed.
    #[error(
        "{archive} unpacks to more than the limit of {limit} bytes: it is another file, or made to fill the memory"
    )]
    TooLarge {
        /// The archive.
        archive: String,
        /// The limit in bytes.
        limit: u64,
    },

    /// An archive with more entries than are allowed.
    #[error("{archive} has more than the limit of {limit} entries: it is another file, or made to fill the memory")]
    TooManyEntries {
        /// The archive.
        archive: String,
        /// The limit.
        limit: usize,
    },

    /// An entry that is encrypted or compressed in a way that is not supported.
    #[error("{archive}: entry {entry:?} is {found}, expected stored or deflated: pack the files again without that")]
    Unsupported {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
        /// What it is.
        found: String,
    },

    /// A file that the archive should hold and does not.
    #[error("{archive} holds no file called {entry}: check that it is the right archive")]
    Missing {
        /// The archive.
        archive: String,
        /// Name of the file.
        entry: String,
    },

    /// An archive that cannot be read to its end.
    #[error("{archive} is damaged: it cannot be read as {format}; get it again from its origin")]
    Damaged {
        /// The archive.
        archive: String,
        /// Such as "tar.gz".
        format: &'static str,
        /// What the reader said.
        source: io::Error,
    },

    /// An entry whose bytes cannot be read.
    #[error("{archive}: entry {entry:?} is damaged; get the archive again from its origin")]
    EntryDamaged {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
        /// What the reader said.
        source: io::Error,
    },
}

impl ArchiveError {
    pub(super) fn kind(&self) -> DataErrorKind {
        DataErrorKind::Malformed
    }
}
