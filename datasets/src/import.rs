//! Copies a dataset into the library folder after checking it: all of its files or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::library::{load_known, provenance};
use crate::manifest::{KnownDataset, find};
use crate::record::{RECORD_NAME, Record};
use crate::source::{self, Sources};
use crate::{DataError, DataErrorKind, FileDigest, Provenance, Trust};

/// What an import did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Import {
    /// The folder that holds the dataset now.
    pub folder: PathBuf,
    /// Whether its bytes are the known ones, and their digests.
    pub provenance: Provenance,
    /// The same data were there before, and nothing was written.
    pub already_present: bool,
}

/// Copies the files of dataset `name` from the folder `from`, or from the archive `from`, into the library folder
/// `dir`.
///
/// IDX files may be raw or gzipped and carry any of the usual spellings. An archive is stored as it is, and never
/// unpacked to disk. The bytes that are checked are the bytes that are written. With `accept_unverified`, well-formed
/// files of the right shapes are taken although their digests are not the known ones, and a record beside them says so.
///
/// The copy is written and flushed to disk in a folder `.import-*` inside `dir`, which is then renamed: an interruption at any
/// point leaves either the whole dataset or none of it (and perhaps that folder, which is safe to delete).
///
/// # Errors
/// An unknown or embedded dataset, a missing or malformed file, a size or digest that is not the known one, other data in
/// `dir` under this name (never overwritten), and refusals of the operating system.
pub fn import(name: &str, from: &Path, dir: &Path, accept_unverified: bool) -> Result<Import, DataError> {
    let dataset = find(name)?;
    if dataset.is_embedded() {
        return Err(DataError::BuiltIn { dataset: dataset.name });
    }
    import_known(dataset, from, dir, accept_unverified)
}

pub(crate) fn import_known(
    dataset: &'static KnownDataset,
    from: &Path,
    dir: &Path,
    accept_unverified: bool,
) -> Result<Import, DataError> {
    let sources = source::read(dataset, from)?;
    let unpacked = source::unpack(dataset, &sources)?;
    let trust = match unpacked.check_known(dataset) {
        Ok(()) => Trust::Verified,
        Err(_) if accept_unverified => Trust::Unverified,
        Err(unknown) => return Err(unknown),
    };
    unpacked.decode(dataset, None)?;

    let provenance = provenance(dataset, trust, &unpacked);
    let folder = dir.join(dataset.name);
    if holds_something(&folder)? {
        return compare_with_present(dataset, dir, folder, &provenance);
    }
    let record = (trust == Trust::Unverified).then_some(&provenance.files);
    write_folder(dataset, &sources, record, dir, &folder)?;
    Ok(Import { folder, provenance, already_present: false })
}

fn holds_something(folder: &Path) -> Result<bool, DataError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DataError::io("open", folder)(error)),
    }
}

fn compare_with_present(
    dataset: &'static KnownDataset,
    dir: &Path,
    folder: PathBuf,
    wanted: &Provenance,
) -> Result<Import, DataError> {
    match load_known(dataset, dir) {
        Ok((_, _, present)) if present.files == wanted.files => {
            Ok(Import { folder, provenance: present, already_present: true })
        }
        Err(error) if error.kind() == DataErrorKind::Io => Err(error),
        _ => Err(DataError::AlreadyImported { dataset: dataset.name, folder }),
    }
}

fn write_folder(
    dataset: &KnownDataset,
    sources: &Sources,
    record: Option<&Vec<FileDigest>>,
    dir: &Path,
    folder: &Path,
) -> Result<(), DataError> {
    fs::create_dir_all(dir).map_err(DataError::io("create", dir))?;
    let staging = staging_folder(dir).map_err(DataError::io("create a folder in", dir))?;
    for source in sources.all() {
        write_file(&staging.path().join(&source.store_as), &source.bytes)?;
    }
    if let Some(files) = record {
        let record = Record::new(dataset, files);
        let path = staging.path().join(RECORD_NAME);
        let text = serde_json::to_string_pretty(&record).map_err(|error| DataError::Io {
            action: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        write_file(&path, text.as_bytes())?;
    }
    sync_folder(staging.path())?;
    fs::rename(staging.path(), folder).map_err(|error| match error.kind() {
        // Another process imported the same name meanwhile.
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            DataError::AlreadyImported { dataset: dataset.name, folder: folder.into() }
        }
        _ => DataError::io("rename the import to", folder)(error),
    })?;
    // The folder has its final name: from here on it must not be removed.
    let _ = staging.keep();
    sync_folder(dir)
}

/// A new folder in `dir` that is removed again when dropped.
fn staging_folder(dir: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".import-");
    // Temporary folders are private by default, but this one becomes the dataset's: leave it to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(dir)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let mut file = File::create_new(path).map_err(DataError::io("create", path))?;
    file.write_all(bytes).map_err(DataError::io("write", path))?;
    file.sync_all().map_err(DataError::io("flush", path))
}

/// Makes the names in `folder` durable. Only Unix lets a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<(), DataError> {
    if cfg!(unix) {
        File::open(folder).and_then(|handle| handle.sync_all()).map_err(DataError::io("flush", folder))?;
    }
    Ok(())
}
