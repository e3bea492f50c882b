//! The note beside imported files that are not the known ones.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::manifest::KnownDataset;
use crate::{DataError, FileDigest};

pub(crate) const RECORD_NAME: &str = "unverified-import.json";
const RECORD_FORMAT: u32 = 1;
const RECORD_MAX_BYTES: u64 = 1 << 16;

/// The note beside files that are not the known ones: the user accepted these, and no others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    format: u32,
    dataset: String,
    files: Vec<FileDigest>,
}

impl Record {
    pub(crate) fn new(dataset: &KnownDataset, files: &[FileDigest]) -> Self {
        Self { format: RECORD_FORMAT, dataset: dataset.name.into(), files: files.to_vec() }
    }
}

/// The digests that the user accepted for the unverified files in `folder`; none if nothing was recorded.
pub(crate) fn read_record(dataset: &KnownDataset, folder: &Path) -> Result<Option<Vec<FileDigest>>, DataError> {
    let path = folder.join(RECORD_NAME);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(RECORD_MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(DataError::BadRecord { file: path, reason: "not UTF-8".into() });
        }
        Err(error) => return Err(DataError::io("read", path)(error)),
    }
    let bad = |reason: String| DataError::BadRecord { file: path.clone(), reason };
    let record: Record = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if record.format != RECORD_FORMAT {
        return Err(bad(format!("format {}, expected {RECORD_FORMAT}", record.format)));
    }
    if record.dataset != dataset.name {
        return Err(bad(format!("it is about {:?}, expected \"{}\"", record.dataset, dataset.name)));
    }
    Ok(Some(record.files))
}
