//! The two files that `torch.save` writes: since PyTorch 1.6 a zip archive, before that pickles one after the other. In
//! both, a pickle describes the object and storages of plain bytes hold its numbers.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::ops::Range;

use zip::read::ZipReadOptions;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Pickle, Value};
use super::refusal::Refusal;

const ZIP: &[u8] = b"PK\x03\x04";

/// The number 0x1950a86a20f9469cfc6c as a pickle: how the older files begin.
const LEGACY: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Name of the entry with the object. What stands before it stands before the names of storages, too.
const PICKLE: &str = "data.pkl";

/// A file that was opened: its object, and where its storages are.
pub(super) struct Container<'a> {
    pub(super) pickle: Pickle<'a>,
    bytes: &'a [u8],
    storages: Storages<'a>,
}

enum Storages<'a> {
    /// The archive, and what its names begin with.
    Zip(ZipArchive<Cursor<&'a [u8]>>, String),
    /// Places in the file.
    Legacy(HashMap<&'a str, Range<usize>>),
}

impl<'a> Container<'a> {
    /// Reads what a file says about itself; no storage yet.
    ///
    /// # Errors
    /// A file of another kind, a damaged one, or one that names functions that run code.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Refusal> {
        match bytes {
            zip if zip.starts_with(ZIP) => Self::open_zip(bytes),
            legacy if legacy.get(2..).is_some_and(|rest| rest.starts_with(LEGACY)) => Self::open_legacy(bytes),
            tar if tar.get(257..262) == Some(b"ustar") => Err(damaged(
                "it is a TAR archive, as PyTorch before 0.1.10 wrote them or as files are packed: unpack it",
            )),
            // A plain pickle holds no tensors, but it may be a hostile one that passes for a checkpoint.
            _ => Err(match pickle::read(bytes) {
                Err(call @ Refusal::Call(_)) => call,
                _ => damaged("it is neither a zip archive nor a file of older versions"),
            }),
        }
    }

    fn open_zip(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&format!("{error}")))?;
        let is_pickle = |name: &&[u8]| {
            name.strip_suffix(PICKLE.as_bytes()).is_some_and(|root| root.is_empty() || root.ends_with(b"/"))
        };
        let name = archive.file_names_raw().filter(is_pickle).min_by_key(|name| name.len());
        let root = name.and_then(|name| std::str::from_utf8(&name[..name.len() - PICKLE.len()]).ok());
        let root = root.ok_or_else(|| damaged("the archive has no data.pkl"))?.to_string();
        if let Ok(order) = stored(&mut archive, bytes, &format!("{root}byteorder"))
            && order != b"little"
        {
            return Err(damaged("it was written on a machine of another byte order"));
        }
        let (pickle, _) = pickle::read(stored(&mut archive, bytes, &format!("{root}{PICKLE}"))?)?;
        Ok(Self { pickle, bytes, storages: Storages::Zip(archive, root) })
    }

    /// Magic number, version, system, object, keys, then the storages as their number of elements and bytes.
    fn open_legacy(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut at = 0;
        let mut next = || -> Result<Pickle<'a>, Refusal> {
            let (pickle, length) = pickle::read(&bytes[at..])?;
            at += length;
            Ok(pickle)
        };
        let (_, version, system) = (next()?, next()?, next()?);
        if !matches!(version.root, Value::Int(1001)) {
            return Err(damaged("it is of another version of the older format than 1001"));
        }
        if !matches!(system.get(system.root, "little_endian"), Some(Value::Int(1))) {
            return Err(damaged("it was written on a machine of another byte order"));
        }
        let (pickle, keys) = (next()?, next()?);
        let keys = keys.sequence(keys.root).ok_or_else(|| damaged("it has no list of storages"))?;
        let mut storages = HashMap::new();
        for key in keys {
            let Value::Text(key) = *key else { return Err(damaged("a storage without a name")) };
            let size = pickle.storages.get(key).and_then(|storage| storage.element_size);
            let size = size.ok_or_else(|| damaged("a storage of an unknown type"))?;
            let elements = bytes.get(at..).and_then(<[u8]>::first_chunk).map(|count| u64::from_le_bytes(*count));
            let length = elements.and_then(|count| usize::try_from(count).ok()?.checked_mul(size));
            let end = length.and_then(|length| (at + 8).checked_add(length)).filter(|end| *end <= bytes.len());
            let end = end.ok_or_else(|| damaged(&format!("storage {key} is longer than the file")))?;
            storages.insert(key, at + 8..end);
            at = end;
        }
        Ok(Self { pickle, bytes, storages: Storages::Legacy(storages) })
    }

    /// The bytes of a storage, checked against their checksum where there is one.
    ///
    /// # Errors
    /// A storage that is missing, damaged or compressed.
    pub(super) fn storage(&mut self, key: &str) -> Result<&'a [u8], Refusal> {
        match &mut self.storages {
            Storages::Zip(archive, root) => stored(archive, self.bytes, &format!("{root}data/{key}")),
            Storages::Legacy(places) => match places.get(key) {
                Some(place) => Ok(&self.bytes[place.clone()]),
                None => Err(damaged(&format!("storage {key} is missing"))),
            },
        }
    }
}

/// An entry of an archive, where it lies in the file: `torch.save` compresses nothing, so that what is read is never
/// larger than the file.
fn stored<'a>(archive: &mut ZipArchive<Cursor<&[u8]>>, bytes: &'a [u8], name: &str) -> Result<&'a [u8], Refusal> {
    let wrong = |why: &dyn std::fmt::Display| damaged(&format!("{name} in the archive: {why}"));
    let index = archive.index_for_name(name).ok_or_else(|| wrong(&"missing"))?;
    let checksum = archive.by_index_raw(index).map_err(|error| wrong(&error))?.crc32();
    // Without checksums, PyTorch writes zeros.
    let options = ZipReadOptions::new().ignore_crc32(checksum == 0);
    let mut entry = archive.by_index_with_options(index, options).map_err(|error| wrong(&error))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(wrong(&"compressed, which torch.save does not do"));
    }
    let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
    let length = usize::try_from(entry.size()).ok();
    let place = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
    let content = place.and_then(|place| bytes.get(place)).ok_or_else(|| wrong(&"longer than the file"))?;
    io::copy(&mut entry, &mut io::sink()).map_err(|error| wrong(&error))?;
    Ok(content)
}

fn damaged(why: &str) -> Refusal {
    Refusal::Damaged(why.to_string())
}
