//! Trees of image files: one folder a class, as most image sets are handed around.
//!
//! # Layouts
//! - `train/CLASS/*`, with `val/CLASS/*` or `test/CLASS/*` or both. ImageNet with a folder for each WordNet identifier
//!   is one of these. With both, `val` is the validation set; with one of them, that is the test set, and a tenth of
//!   each training class is held out for validation ([`crate::split::TENTH`]).
//! - Tiny-ImageNet as published: `wnids.txt`, `train/WNID/images/*`, `val/images/*` and `val/val_annotations.txt`;
//!   `val` is the test set, because nobody has the labels of its `test`.
//!
//! The tree is a folder or a zip archive, perhaps with one folder around it. Classes are numbered in the rising order
//! of their names' bytes, images of a part are in the rising order of their paths' bytes. Images end in `.png`, `.jpg`
//! or `.jpeg` in any case; what they are is told from their content. Names that start with a dot are passed over, and
//! so is whatever lies outside of `train`, `val` and `test`; any other file in there is an error. A `val` or `test`
//! without class folders has no labels and is passed over, too.
//!
//! # Decoding
//! A JPEG file without an end marker is damaged, although decoders would fill in grey. An image becomes 8 bits a
//! channel; transparency is dropped, and so is the orientation that a camera may have noted. With three channels, grey
//! is repeated; with one, colour becomes its Rec. 709 luma. If it does not have the wanted size, it is scaled with a
//! triangle filter that widens when shrinking, so that its shorter side fits (for a wanted size that is not square: so
//! that both sides reach it) and the longer side is rounded down, and the centre is cut out, offsets rounded half to
//! even. The same rules as torchvision's `Resize` and `CenterCrop`, but not the same bits.
//! [`TreeOptions::resize`] scales the shorter side to more than fits before the centre is cut out, as is usual for
//! ImageNet (256, then 224).
//!
//! # In memory or in files
//! [`open_tree`] decodes a tree into memory if its images take at most 4 GiB there ([`TreeOptions::STREAM_ABOVE`]; counted are
//! all files below `train`, `val` and `test`). Of a larger folder it keeps the list of files alone, and every image is
//! read and decoded when it is needed: by all cores, up to two batches ahead, in memory for three batches. Both ways
//! give the same pixels, bit for bit, whatever the augmentation; [`Storage`] chooses otherwise. What differs is the
//! digest: of streamed images, paths, sizes and labels are hashed and not the content, which would take as long as an
//! epoch. A file that has another size than when it was listed is an error.
//!
//! # Cache
//! The decoded images are kept in the library folder, in `decoded/` for a tree and beside the archive for a known
//! dataset. A cache is used only if its SHA-256 is right and it was made from the same source (the same archive by
//! SHA-256; for a folder, the same paths, sizes and modification times) for the same shape by the same rules; otherwise
//! it is made again. If the library folder cannot be written to, the images are decoded each time. The format, all
//! integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 15 | `neokd-images-1` and a line feed |
//! | 8 | length of the header |
//! | that many | the header, JSON: source, its digest, shape, names of the classes, and name and size of each part |
//! | for each part | its pixels, `[images, channels, height, width]`, then its labels, 2 bytes each |
//! | 32 | SHA-256 of all bytes before |

mod ahead;
mod cache;
mod decode;
mod files;
mod layout;
mod listing;
mod options;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) use cache::Decoded;
pub use files::ImageFiles;
use listing::Listing;
pub(crate) use listing::zip_in_memory;
pub use options::{Storage, TreeOptions};

use crate::data_splits::DataSplits;
use crate::images::Images;
use crate::provenance::hex;
use crate::{DataError, Provenance, TreeError, Trust};

/// The tree of images in the folder or zip archive `from`, decoded, with a cache in the library folder `dir`.
///
/// Nobody has published digests of it, so its provenance is [`Trust::Unverified`]; the digest there is that of the
/// archive, or over path, size and SHA-256 of every file when they were decoded. [`TreeOptions::storage`] is not read.
///
/// # Errors
/// A tree of another layout, a file that is no image, a shape or a size that is not allowed, an archive that is not to
/// be trusted, and refusals of the operating system. The first file in the order of the paths is reported.
pub fn load_tree(from: &Path, dir: &Path, options: &TreeOptions) -> Result<DataSplits, DataError> {
    options.check()?;
    load(Listing::open(from)?, from, dir, options)
}

/// The tree of images in `from`, in memory or left in its files as [`TreeOptions::storage`] says.
///
/// The provenance of what is left in its files is a digest over path and size of every image.
///
/// # Errors
/// Those of [`load_tree`]; also a zip archive that is to be left as it is. Files that are left are not opened, so that
/// what is wrong with them comes out where they are used.
pub fn open_tree(from: &Path, dir: &Path, options: &TreeOptions) -> Result<DataSplits<Box<dyn Images>>, DataError> {
    options.check()?;
    let mut listing = Listing::open(from)?;
    let size = options.shape.iter().fold(listing.files.len() as u64, |size, &side| size.saturating_mul(side as u64));
    let streamed = match options.storage {
        Storage::Memory => false,
        Storage::Stream => true,
        Storage::Auto => size > TreeOptions::STREAM_ABOVE && listing.archive().is_none(),
    };
    if !streamed {
        return Ok(load(listing, from, dir, options)?.boxed());
    }
    let layout = layout::find(&mut listing)?;
    let (_, name) = place_and_name(from)?;
    let archive = TreeError::ZipNotStreamed { tree: listing.label.clone() };
    let (label, folder, files) = listing.into_folder().ok_or(archive)?;
    let tree = files::Tree { label, folder, files, frame: options.frame() };
    Ok(files::split(tree, &layout, &name)?.boxed())
}

fn load(mut listing: Listing<'_>, from: &Path, dir: &Path, options: &TreeOptions) -> Result<DataSplits, DataError> {
    let (place, name) = place_and_name(from)?;
    let cache = dir.join("decoded").join(cache_name(&place, options));
    let decoded = decode_cached(&mut listing, &name, Some(&cache), options)?;
    let files = vec![decoded.source.clone()];
    let provenance = Provenance { dataset: format!("tree {name}"), trust: Trust::Unverified, files };
    decoded.split(&name, provenance)
}

/// Where a tree is, and what it is called.
fn place_and_name(from: &Path) -> Result<(PathBuf, String), DataError> {
    let place = from.canonicalize().map_err(DataError::io("open", from))?;
    let name = place.file_stem().map_or("tree".into(), |name| name.to_string_lossy().into_owned());
    Ok((place, name))
}

/// The decoded images of `listing`, from the cache if that is right, else decoded and left in the cache.
pub(crate) fn decode_cached(
    listing: &mut Listing<'_>,
    name: &str,
    cache: Option<&Path>,
    options: &TreeOptions,
) -> Result<Decoded, DataError> {
    let resize = options.resize.map_or_else(String::new, |side| format!(" resized to {side}"));
    let key = cache::Key { source: listing.fingerprint() + &resize, shape: options.shape };
    if let Some(path) = cache
        && let Some(decoded) = cache::read(path, name, &key, options.max_bytes)?
    {
        return Ok(decoded);
    }
    let layout = layout::find(listing)?;
    let decoded = decode::decode(listing, layout, name, options)?;
    if let Some(path) = cache {
        cache::write(path, &key, &decoded)?;
    }
    Ok(decoded)
}

/// One cache for each place and shape: a tree that changes replaces its cache.
fn cache_name(place: &Path, options: &TreeOptions) -> PathBuf {
    let [channels, height, width] = options.shape;
    let digest = Sha256::digest(place.as_os_str().as_encoded_bytes());
    let resize = options.resize.map_or_else(String::new, |side| format!("-of-{side}"));
    format!("{}-{channels}x{height}x{width}{resize}.images", &hex(&digest)[..16]).into()
}
