//! Which files a tree has, whether it is a folder or a zip archive.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::archive::{Zip, ZipLimits};
use crate::provenance::hex;
use crate::{DataError, TreeError, sha256_hex};

/// ImageNet has 1.4 million files.
const MAX_FILES: usize = 4_000_000;

/// No single file may be larger, in bytes. The largest image of ImageNet has 16 MB.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// No archive may unpack to more, in bytes (1 TiB).
const MAX_ARCHIVE: u64 = 1 << 40;

/// The folders that count.
pub(super) const WNIDS: &str = "wnids.txt";
const PARTS: [&str; 3] = ["train", "val", "test"];

/// Parts of a path from the folder that holds `train`, at most: `train/WNID/images/FILE`.
const DEPTH: usize = 4;

/// One file of a tree.
pub(super) struct Listed {
    /// Its path from the folder that holds `train`, with `/` between the parts.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// When it was last changed, in nanoseconds; 0 in an archive.
    changed: u128,
    /// Where the zip archive lists it.
    position: usize,
}

/// All files of a tree in the rising order of their paths.
pub(crate) struct Listing<'a> {
    pub(super) label: String,
    pub(super) files: Vec<Listed>,
    /// Folders without anything in them.
    pub(super) empty: Vec<String>,
    store: Store<'a>,
}

enum Store<'a> {
    Folder(PathBuf),
    /// The archive, its size and the SHA-256 of its bytes.
    Zip(Zip<'a>, ArchiveDigest),
}

/// Size and SHA-256 of a zip archive.
pub(super) struct ArchiveDigest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A zip archive in memory whose SHA-256 is already known.
pub(crate) fn zip_in_memory<'a>(label: &str, bytes: &'a [u8], sha256: &str) -> Result<Listing<'a>, DataError> {
    let digest = ArchiveDigest { bytes: bytes.len() as u64, sha256: sha256.to_owned() };
    from_zip(label, Zip::open(label, Cursor::new(bytes), LIMITS)?, digest)
}

const LIMITS: ZipLimits = ZipLimits { entries: MAX_FILES, entry_bytes: MAX_FILE, bytes: MAX_ARCHIVE };

impl Listing<'_> {
    /// Lists the folder or zip archive at `path`. No image is read.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let label = path.display().to_string();
        if path.metadata().map_err(DataError::io("open", path))?.is_dir() {
            return walk(label, base_of(path)?);
        }
        let digest = hash_file(path)?;
        let file = File::open(path).map_err(DataError::io("open", path))?;
        from_zip(&label, Zip::open(&label, BufReader::new(file), LIMITS)?, digest)
    }

    /// What a cache made from this tree is recognised by.
    pub(super) fn fingerprint(&self) -> String {
        if let Store::Zip(_, digest) = &self.store {
            return format!("zip {}", digest.sha256);
        }
        let mut hasher = Sha256::new();
        for file in &self.files {
            hasher.update(format!("{}\0{}\0{}\n", file.path, file.bytes, file.changed));
        }
        format!("folder {}", hex(&hasher.finalize()))
    }

    /// Size and SHA-256 of the archive; none for a folder.
    pub(super) fn archive(&self) -> Option<&ArchiveDigest> {
        match &self.store {
            Store::Zip(_, digest) => Some(digest),
            Store::Folder(_) => None,
        }
    }

    /// All bytes of a file, which is not larger than [`MAX_FILE`].
    pub(super) fn read(&mut self, file: usize) -> Result<Vec<u8>, DataError> {
        let listed = &self.files[file];
        match &mut self.store {
            Store::Zip(zip, _) => Ok(zip.read(listed.position)?),
            Store::Folder(folder) => read_file(&self.label, folder, listed),
        }
    }

    /// Label, folder and files; none for an archive.
    pub(super) fn into_folder(self) -> Option<(String, PathBuf, Vec<Listed>)> {
        match self.store {
            Store::Folder(folder) => Some((self.label, folder, self.files)),
            Store::Zip(..) => None,
        }
    }
}

/// All bytes of a file below `folder`, which is not larger than [`MAX_FILE`].
pub(super) fn read_file(label: &str, folder: &Path, listed: &Listed) -> Result<Vec<u8>, DataError> {
    let path = folder.join(&listed.path);
    let file = File::open(&path).map_err(DataError::io("open", &path))?;
    let mut bytes = Vec::with_capacity(usize::try_from(listed.bytes.min(MAX_FILE)).unwrap_or(0));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(DataError::io("read", &path))?;
    match bytes.len() as u64 > MAX_FILE {
        true => {
            let (tree, file) = (label.to_owned(), listed.path.clone());
            Err(TreeError::FileTooLarge { tree, file, limit: MAX_FILE }.into())
        }
        false => Ok(bytes),
    }
}

fn from_zip<'a>(label: &str, zip: Zip<'a>, digest: ArchiveDigest) -> Result<Listing<'a>, DataError> {
    let mut files: Vec<Listed> = Vec::new();
    for (position, (name, bytes)) in zip.files().enumerate() {
        let hidden = name.split('/').any(|part| part.starts_with('.')) || name.starts_with("__MACOSX/");
        if !hidden {
            files.push(Listed { path: name.to_owned(), bytes, changed: 0, position });
        }
    }
    strip_folder_around(&mut files);
    files.retain(|file| counts(&file.path));
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(Listing { label: label.to_owned(), files, empty: Vec::new(), store: Store::Zip(zip, digest) })
}

/// Takes off the one folder that holds everything, unless it is a part itself.
fn strip_folder_around(files: &mut [Listed]) {
    let Some((around, _)) = files.first().and_then(|file| file.path.split_once('/')) else { return };
    let around = format!("{around}/");
    let is_part = PARTS.iter().any(|part| around.strip_suffix('/') == Some(part));
    if is_part || !files.iter().all(|file| file.path.starts_with(&around)) {
        return;
    }
    for file in files {
        file.path.drain(..around.len());
    }
}

fn counts(path: &str) -> bool {
    path == WNIDS || path.split_once('/').is_some_and(|(part, _)| PARTS.contains(&part))
}

/// `folder`, or the only folder in it that holds `train`.
fn base_of(folder: &Path) -> Result<PathBuf, DataError> {
    if folder.join("train").is_dir() {
        return Ok(folder.into());
    }
    let mut holders = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let path = entry.map_err(DataError::io("list", folder))?.path();
        if path.join("train").is_dir() {
            holders.push(path);
        }
    }
    match holders.pop() {
        Some(only) if holders.is_empty() => Ok(only),
        _ => Err(TreeError::NoTrain { tree: folder.display().to_string() }.into()),
    }
}

fn walk<'a>(label: String, base: PathBuf) -> Result<Listing<'a>, DataError> {
    let mut listing = Listing { label, files: Vec::new(), empty: Vec::new(), store: Store::Folder(base.clone()) };
    for part in PARTS {
        if base.join(part).is_dir() {
            walk_folder(&mut listing, &base, part, 1)?;
        }
    }
    let wnids = base.join(WNIDS);
    if wnids.is_file() {
        add(&mut listing, WNIDS.to_owned(), &wnids)?;
    }
    listing.files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(listing)
}

fn walk_folder(listing: &mut Listing<'_>, base: &Path, relative: &str, depth: usize) -> Result<(), DataError> {
    let folder = base.join(relative);
    let mut is_empty = true;
    for entry in fs::read_dir(&folder).map_err(DataError::io("list", &folder))? {
        let entry = entry.map_err(DataError::io("list", &folder))?;
        let name = entry.file_name().into_string().map_err(|_| TreeError::FileName { path: entry.path() })?;
        if name.starts_with('.') {
            continue;
        }
        is_empty = false;
        let path = format!("{relative}/{name}");
        // Links in a folder are the user's own, and followed; they cannot lead in a circle because the depth is
        // bounded.
        if entry.path().is_dir() {
            if depth >= DEPTH {
                let (tree, expected) = (listing.label.clone(), "no folder that deep");
                return Err(TreeError::Misplaced { tree, file: path, expected }.into());
            }
            walk_folder(listing, base, &path, depth + 1)?;
        } else {
            add(listing, path, &entry.path())?;
        }
    }
    if is_empty {
        listing.empty.push(relative.to_owned());
    }
    Ok(())
}

fn add(listing: &mut Listing<'_>, path: String, on_disk: &Path) -> Result<(), DataError> {
    if listing.files.len() >= MAX_FILES {
        return Err(TreeError::TooManyFiles { tree: listing.label.clone(), limit: MAX_FILES }.into());
    }
    let metadata = on_disk.metadata().map_err(DataError::io("look at", on_disk))?;
    if !metadata.is_file() {
        let (tree, expected) = (listing.label.clone(), "a regular file");
        return Err(TreeError::Misplaced { tree, file: path, expected }.into());
    }
    let since_epoch = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = since_epoch.map_or(0, |time| time.as_nanos());
    listing.files.push(Listed { path, bytes: metadata.len(), changed, position: 0 });
    Ok(())
}

fn hash_file(path: &Path) -> Result<ArchiveDigest, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(ArchiveDigest { bytes, sha256: hex(&hasher.finalize()) }),
            Ok(read) => {
                bytes += read as u64;
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DataError::io("read", path)(error)),
        }
    }
}

/// Digest over path, size and content of files, as a folder's provenance states it.
#[derive(Default)]
pub(super) struct ContentDigest {
    hasher: Sha256,
    bytes: u64,
}

impl ContentDigest {
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.update(format!("{path}\0{}\0{}\n", bytes.len(), sha256_hex(bytes)));
    }

    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.hasher.finalize()))
    }
}
