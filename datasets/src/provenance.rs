//! Where a loaded set comes from, in a form that goes into every report made with it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How far the bytes of a set are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Trust {
    /// Compiled into this binary, and equal to the manifest.
    Embedded,
    /// Read from disk, and equal to the manifest at the time of loading.
    Verified,
    /// Not the known bytes: accepted by the user at import, and unchanged since.
    Unverified,
    /// Computed from a seed.
    Generated,
}

/// One source file and the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Canonical name of the file, without `.gz`.
    pub name: String,
    /// Size uncompressed, in bytes.
    pub bytes: u64,
    /// SHA-256 of the uncompressed bytes, lower-case hexadecimal.
    pub sha256: String,
}

/// The origin of a loaded set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name in the manifest, or a description of how it was generated.
    pub dataset: String,
    /// How far its bytes are known.
    pub trust: Trust,
    /// Its source files, in the manifest's order; empty for generated data.
    pub files: Vec<FileDigest>,
}

/// SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
