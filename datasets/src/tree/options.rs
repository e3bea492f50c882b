//! What a tree of images is decoded to, and where it is kept.

use serde::{Deserialize, Serialize};

use crate::TreeError;

/// What a tree is decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeOptions {
    /// Channels (1 or 3), height, width of every decoded image.
    pub shape: [usize; 3],
    /// Shorter side of an image when its centre is cut out, at least the longer side of `shape`; none: what fits.
    pub resize: Option<usize>,
    /// Where the images are while they are in use.
    pub storage: Storage,
    /// Most bytes that all decoded images together may have in memory.
    pub max_bytes: u64,
}

/// Where the images of a tree are while they are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// In memory up to [`TreeOptions::STREAM_ABOVE`], else in their files.
    #[default]
    Auto,
    /// Decoded, in memory.
    Memory,
    /// In their files, decoded whenever they are needed.
    Stream,
}

impl TreeOptions {
    /// Longest side of a decoded image.
    pub const MAX_SIDE: usize = 4096;

    /// Bytes of decoded images up to which [`Storage::Auto`] holds them in memory.
    pub const STREAM_ABOVE: u64 = 4 << 30;

    /// Images of `shape` (channels, height, width), at most 16 GiB of them in memory: enough for ImageNet at 64x64.
    #[must_use]
    pub fn new(shape: [usize; 3]) -> Self {
        Self { shape, resize: None, storage: Storage::Auto, max_bytes: 16 << 30 }
    }

    pub(super) fn frame(&self) -> Frame {
        Frame { shape: self.shape, resize: self.resize }
    }

    pub(super) fn check(&self) -> Result<(), TreeError> {
        let [channels, height, width] = self.shape;
        let side = |side| (1..=Self::MAX_SIDE).contains(&side);
        if !(matches!(channels, 1 | 3) && side(height) && side(width)) {
            return Err(TreeError::BadShape { shape: self.shape, max_side: Self::MAX_SIDE });
        }
        let (least, most) = (height.max(width), Self::MAX_SIDE);
        match self.resize {
            Some(resize) if resize < least || resize > most => {
                Err(TreeError::BadResize { resize, shape: self.shape, least, most })
            }
            _ => Ok(()),
        }
    }
}

/// What decoded images are brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Channels, height, width.
    pub(super) shape: [usize; 3],
    /// Shorter side of the scaled image, before the centre is cut out; none: the smallest that covers the shape.
    pub(super) resize: Option<usize>,
}
