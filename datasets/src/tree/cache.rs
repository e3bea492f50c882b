//! The file that keeps decoded images. Its format is in the documentation of the parent module.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data_splits::DataSplits;
use crate::manifest::KnownDataset;
use crate::split::TENTH;
use crate::{DataError, FileDigest, ImageSet, Provenance, SplitTable, TreeError};

const MAGIC: &[u8; 15] = b"neokd-images-1\n";

/// To be raised whenever decoding gives other pixels than before, or refuses files that it took.
const RULES: u32 = 2;

/// A header has a name for each class and little else.
const MAX_HEADER: u64 = 64 << 20;

const DIGEST_LEN: u64 = 32;

const PARTS: [&str; 3] = ["train", "validation", "test"];

/// A decoded tree.
pub(crate) struct Decoded {
    /// Digest of what it was decoded from.
    pub(crate) source: FileDigest,
    pub(crate) class_names: Vec<String>,
    pub(crate) train: ImageSet,
    /// None where validation images are to be drawn from the training images.
    pub(crate) validation: Option<ImageSet>,
    pub(crate) test: ImageSet,
}

impl Decoded {
    /// Whether these are the classes and parts of `dataset`.
    ///
    /// # Errors
    /// A class that only one of the two has, or a validation set that `dataset` does not have.
    pub(crate) fn check_classes(&self, tree: &str, dataset: &'static KnownDataset) -> Result<(), TreeError> {
        let found: BTreeSet<&str> = self.class_names.iter().map(String::as_str).collect();
        let known: BTreeSet<&str> = dataset.class_names.iter().copied().collect();
        if let Some(class) = found.symmetric_difference(&known).next() {
            let class = (*class).to_owned();
            return Err(TreeError::OtherClasses { tree: tree.into(), dataset: dataset.name, class });
        }
        if self.validation.is_some() {
            let expected = "no labelled images besides train and val";
            return Err(TreeError::Misplaced { tree: tree.into(), file: "test".into(), expected });
        }
        Ok(())
    }

    /// With a tenth of each class held out for validation, unless the tree has a validation set.
    pub(super) fn split(self, name: &str, provenance: Provenance) -> Result<DataSplits, DataError> {
        let Self { class_names, train, validation, test, .. } = self;
        let (train, validation, split) = match validation {
            Some(validation) => (train, validation, None),
            None => {
                let table = SplitTable::drawn(name, &train, TENTH)?;
                let (train, validation) = table.apply(&train)?;
                (train, validation, Some(table.record()))
            }
        };
        Ok(DataSplits { train, validation, test, class_names, provenance, split })
    }
}

/// What a cache must have been made from and for.
pub(super) struct Key {
    pub(super) source: String,
    pub(super) shape: [usize; 3],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    rules: u32,
    key: String,
    source: FileDigest,
    shape: [usize; 3],
    class_names: Vec<String>,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    images: u64,
}

/// The images in the cache at `path`; none if there is no cache, if it is damaged, or if it belongs to something else.
///
/// # Errors
/// A cache that is there and that the operating system does not let us read.
pub(super) fn read(path: &Path, name: &str, key: &Key, max_bytes: u64) -> Result<Option<Decoded>, DataError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(DataError::io("open", path)(error)),
    };
    let len = file.metadata().map_err(DataError::io("look at", path))?.len();
    let mut reader = Hashed { inner: BufReader::with_capacity(1 << 20, file), hasher: Sha256::new() };
    match parse(&mut reader, len, name, key, max_bytes) {
        Ok(decoded) => Ok(decoded),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

fn parse(
    reader: &mut Hashed<impl Read>,
    len: u64,
    name: &str,
    key: &Key,
    max_bytes: u64,
) -> io::Result<Option<Decoded>> {
    let (mut magic, mut header_len) = ([0; MAGIC.len()], [0; 8]);
    reader.read_exact(&mut magic)?;
    reader.read_exact(&mut header_len)?;
    let header_len = u64::from_le_bytes(header_len);
    if magic != *MAGIC || header_len > MAX_HEADER.min(len) {
        return Ok(None);
    }
    let header = read_vec(reader, header_len)?;
    let Ok(header) = serde_json::from_slice::<Header>(&header) else { return Ok(None) };
    let fits = header.rules == RULES && header.key == key.source && header.shape == key.shape;
    let before = MAGIC.len() as u64 + 8 + header_len;
    if !fits || expected_len(&header, before, max_bytes) != Some(len) {
        return Ok(None);
    }
    let mut sets = Vec::new();
    for part in &header.parts {
        let pixels = read_vec(reader, part.images * image_len(header.shape))?;
        let labels = read_vec(reader, part.images * 2)?;
        let labels = labels.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let set_name = format!("{name} {}", part.name);
        sets.push(ImageSet::new(&set_name, header.shape, header.class_names.len(), pixels, labels).ok());
    }
    let digest = reader.hasher.clone().finalize();
    let mut stored = [0; DIGEST_LEN as usize];
    reader.read_exact(&mut stored)?;
    if digest[..] != stored {
        return Ok(None);
    }
    let names: Vec<&str> = header.parts.iter().map(|part| part.name.as_str()).collect();
    let mut sets = sets.into_iter().flatten();
    let (train, validation, test) = match names[..] {
        ["train", "test"] => (sets.next(), None, sets.next()),
        ["train", "validation", "test"] => (sets.next(), sets.next(), sets.next()),
        _ => return Ok(None),
    };
    let Header { source, class_names, .. } = header;
    let whole = train.zip(test).map(|(train, test)| Decoded { source, class_names, train, validation, test });
    Ok(whole)
}

/// Length of the whole file; none if the header asks for the impossible.
fn expected_len(header: &Header, before: u64, max_bytes: u64) -> Option<u64> {
    let mut pixels = 0_u64;
    let mut total = before.checked_add(DIGEST_LEN)?;
    for part in &header.parts {
        let bytes = part.images.checked_mul(image_len(header.shape))?;
        pixels = pixels.checked_add(bytes)?;
        total = total.checked_add(bytes)?.checked_add(part.images.checked_mul(2)?)?;
    }
    (pixels <= max_bytes).then_some(total)
}

fn image_len(shape: [usize; 3]) -> u64 {
    shape.iter().fold(1_u64, |len, &size| len.saturating_mul(size as u64))
}

/// Exactly `len` bytes, which the length of the file vouches for.
fn read_vec(reader: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    match reader.take(len).read_to_end(&mut bytes)? as u64 == len {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Leaves `decoded` at `path`, whole or not at all. A folder that must not be written to is left without a cache.
///
/// # Errors
/// Refusals of the operating system other than for want of permission.
pub(super) fn write(path: &Path, key: &Key, decoded: &Decoded) -> Result<(), DataError> {
    match try_write(path, key, decoded) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            Ok(())
        }
        result => result.map_err(DataError::io("write", path)),
    }
}

fn try_write(path: &Path, key: &Key, decoded: &Decoded) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".decoded-");
    // Temporary files are private by default, but this one becomes the cache: leave it to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    let mut writer = Hashed { inner: BufWriter::with_capacity(1 << 20, file), hasher: Sha256::new() };

    let sets = [Some(&decoded.train), decoded.validation.as_ref(), Some(&decoded.test)];
    let sets = || PARTS.into_iter().zip(sets).filter_map(|(name, set)| Some((name, set?)));
    let header = Header {
        rules: RULES,
        key: key.source.clone(),
        source: decoded.source.clone(),
        shape: key.shape,
        class_names: decoded.class_names.clone(),
        parts: sets().map(|(name, set)| Part { name: name.into(), images: set.len() as u64 }).collect(),
    };
    let header = serde_json::to_vec(&header)?;
    writer.write_all(MAGIC)?;
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    for (_, set) in sets() {
        writer.write_all(set.pixels())?;
        let labels: Vec<u8> = set.labels().iter().flat_map(|label| label.to_le_bytes()).collect();
        writer.write_all(&labels)?;
    }
    let Hashed { mut inner, hasher } = writer;
    inner.write_all(&hasher.finalize())?;
    let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Hashes what passes through.
struct Hashed<T> {
    inner: T,
    hasher: Sha256,
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
