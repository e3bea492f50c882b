//! Files that are either whole or not there.

use std::io::Write;
use std::path::Path;

use crate::Error;

/// How the names of files begin that are not whole yet.
const WRITING: &str = ".writing-";

/// Writes `bytes` to `path` so that a crash or a full disk leaves either the old file or the new
/// one: a temporary file beside it, flushed to the disk, then renamed.
///
/// # Errors
/// [`Error::Io`] names the path; the old file, if any, is untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = folder_of(path);
    let write = || -> std::io::Result<()> {
        if path.exists() && !path.is_file() {
            return Err(std::io::Error::other("it is there and no regular file; name another"));
        }
        let mut file = temporary(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    write().map_err(Error::io("write", path))
}

/// Whether a name is that of a file that was being written when its process was killed.
pub fn is_left_over(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(WRITING)
}

/// Removes what killed processes left half written in a folder; call it only where nobody else is writing.
///
/// # Errors
/// [`Error::Io`] names the file or the folder.
pub fn sweep(folder: &Path) -> Result<(), Error> {
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if is_left_over(&entry.file_name()) {
            std::fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Makes sure that `path`, given by `flag`, overwrites nothing.
///
/// # Errors
/// [`Error::Config`] names the path and the flag.
pub fn refuse_existing(flag: &str, path: &Path) -> Result<(), Error> {
    match path.symlink_metadata().is_ok() {
        true => Err(Error::Config(format!("{}: exists already; choose another {flag}", path.display()))),
        false => Ok(()),
    }
}

/// Reads a file whole.
///
/// # Errors
/// [`Error::Io`] names the path.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// The folder that a file lies in; the parent of a bare name is the empty path, which cannot be opened.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file that others may read as far as the user's mask allows; the default is private.
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_lies_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("x")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/x")), Path::new("a"));
    }
}
