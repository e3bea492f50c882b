//! One process at a time: who writes a run or a journal holds a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// A lock, held until it is dropped or its process ends, however it ends: the system keeps it, not the file, which says who
/// holds it. Of a killed process the file stays behind and is taken over.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the file at `path`, which is made if it is not there.
    ///
    /// A file system that knows no locks gives none: there two processes do not see each other.
    ///
    /// # Errors
    /// [`Error::Busy`] names the process that holds it; [`Error::Config`] a file that is something else, which is left as it
    /// is; [`Error::Io`] the file.
    pub fn take(path: &Path) -> Result<Self, Error> {
        if path.symlink_metadata().is_ok_and(|data| !data.is_file()) {
            return Err(foreign(path));
        }
        loop {
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let mut file = open.map_err(Error::io("open", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // Where a locked file cannot be read the holder has no name.
                    let _ = file.take(20).read_to_string(&mut holder);
                    return Err(Error::Busy { path: path.to_path_buf(), holder: holder.trim().to_string() });
                }
                Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
            }
            // Its last holder may have removed it between the two: then this is the lock of nothing.
            if !is_there(&file, path) {
                continue;
            }
            let mut before = String::new();
            let is_number = (&mut file).take(64).read_to_string(&mut before).is_ok()
                && before.trim().bytes().all(|byte| byte.is_ascii_digit());
            if !is_number {
                return Err(foreign(path));
            }
            let id = format!("{}\n", std::process::id());
            let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(id.as_bytes()));
            written.map_err(Error::io("write", path))?;
            return Ok(Self { file, path: path.to_path_buf() });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before the lock is given back, so that nobody can hold what is no longer there and not know it.
        if cfg!(unix) && is_there(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn foreign(path: &Path) -> Error {
    let why = "is no lock of neokd, which wants to keep one there; move it away";
    Error::Config(format!("{}: {why}", path.display()))
}

/// Whether the path still names the open file.
#[cfg(unix)]
fn is_there(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let number = |data: std::fs::Metadata| (data.dev(), data.ino());
    file.metadata().ok().map(number) == path.metadata().ok().map(number)
}

#[cfg(not(unix))]
fn is_there(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_refused_while_it_is_held_and_taken_again_when_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        std::fs::write(&path, "4711\n").unwrap();
        let held = Lock::take(&path).unwrap();
        let refused = Lock::take(&path).unwrap_err();
        assert_eq!(refused.exit_code(), 5);
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        assert!(!path.exists(), "no file stays behind");
        drop(Lock::take(&path).unwrap());
        std::fs::write(&path, "something of the user's\n").unwrap();
        let foreign = Lock::take(&path).unwrap_err();
        assert_eq!(foreign.exit_code(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something of the user's\n");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(matches!(Lock::take(&path), Err(Error::Io { .. })));
    }
}
