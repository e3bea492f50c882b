//! Augmentation as a pure function: what is done to an image follows from the seed, the epoch and the image's index, and from
//! nothing else. Batches, their order and the number of threads do not matter, and a resumed run sees what it would have seen.
//!
//! The random numbers of one image in one epoch are one ChaCha8 stream: the key is the seed, the epoch and the bytes
//! `neokd-augment-1`, the stream is the index. Geometry uses only operations that IEEE 754 rounds exactly, so that the same
//! arguments give the same bytes on every machine.

use std::num::NonZeroUsize;
use std::thread;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::random::below;
use crate::{DataError, ImageSet};

const DOMAIN: &[u8; 15] = b"neokd-augment-1";

/// Draws of a crop before the fallback, as in torchvision.
const ATTEMPTS: usize = 10;

/// What is done to a training image. The size stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Augmentation {
    /// Nothing.
    #[default]
    None,
    /// The usual one for CIFAR: pad with zeros on all sides, cut out the original size at a uniform place, mirror half of the
    /// images left to right.
    PadCropFlip {
        /// Pixels of padding on each side.
        #[serde(default = "default_pad")]
        pad: u16,
    },
    /// The usual one for ImageNet (Szegedy et al., Going Deeper with Convolutions, section 6): cut out a rectangle of random
    /// area and proportions at a uniform place, scale it to the original size bilinearly, mirror half of the images.
    ///
    /// The area is uniform, and so is the logarithm of width over height. A rectangle that does not fit is drawn again, ten
    /// times in all; then the largest centred one within `ratio` is taken.
    RandomResizedCrop {
        /// Least and greatest part of the image's area.
        #[serde(default = "default_scale")]
        scale: [f64; 2],
        /// Least and greatest width over height.
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
        /// Cut the rectangle out of the image as it is in its file, before anything else is done to it. Without it,
        /// the image has been scaled and its centre cut out before. With it, the rectangle is scaled with a triangle
        /// filter that widens when shrinking, and the images must stay in their files ([`crate::ImageFiles`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        from_file: bool,
    },
}

fn default_pad() -> u16 {
    4
}

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl Augmentation {
    /// Whether it works on files and not on decoded images.
    #[must_use]
    pub fn needs_files(&self) -> bool {
        matches!(self, Self::RandomResizedCrop { from_file: true, .. })
    }

    /// Whether the parameters make sense for images of `shape` (channels, height, width). [`augment`] gives some image for any
    /// parameters; these are the ones for which it gives the one that was meant.
    ///
    /// # Errors
    /// The first parameter that does not, with what it may be.
    pub fn check(&self, shape: [usize; 3]) -> Result<(), DataError> {
        let refuse = |parameter, value: String, expected: String| {
            Err(DataError::AugmentationParameter { parameter, value, expected })
        };
        let rising = |[low, high]: [f64; 2], most: f64| low > 0.0 && low <= high && high <= most;
        match *self {
            Self::PadCropFlip { pad } if usize::from(pad) >= shape[1].min(shape[2]) => {
                refuse("pad", pad.to_string(), format!("less than the shorter side, {}", shape[1].min(shape[2])))
            }
            Self::RandomResizedCrop { scale, .. } if !rising(scale, 1.0) => {
                refuse("scale", format!("{scale:?}"), "two rising numbers above 0, at most 1".into())
            }
            Self::RandomResizedCrop { ratio, .. } if !rising(ratio, 100.0) => {
                refuse("ratio", format!("{ratio:?}"), "two rising numbers above 0, at most 100".into())
            }
            _ => Ok(()),
        }
    }
}

/// Image `index` of `set` as it is seen in `epoch`. The set has no files, so [`Augmentation::needs_files`] is passed over.
///
/// # Shapes
/// `[channels, height, width]` flattened, as [`ImageSet::image`].
///
/// # Panics
/// Like a slice, if `index` is not below [`ImageSet::len`].
#[must_use]
pub fn augment(set: &ImageSet, index: usize, augmentation: &Augmentation, seed: u64, epoch: u64) -> Vec<u8> {
    let mut pixels = vec![0; set.image_len()];
    augment_into(set.image(index), set.shape(), index, augmentation, seed, epoch, &mut pixels);
    pixels
}

/// The images at `indices` as they are seen in `epoch`, one after the other, made by `threads` threads.
///
/// # Shapes
/// `[indices, channels, height, width]` flattened.
///
/// # Panics
/// Like a slice, if an index is not below [`ImageSet::len`].
#[must_use]
pub fn augment_batch(
    set: &ImageSet,
    indices: &[usize],
    augmentation: &Augmentation,
    seed: u64,
    epoch: u64,
    threads: NonZeroUsize,
) -> Vec<u8> {
    let len = set.image_len();
    let mut pixels = vec![0; indices.len() * len];
    let share = indices.len().div_ceil(threads.get()).max(1);
    let fill = |indices: &[usize], pixels: &mut [u8]| {
        for (&index, place) in indices.iter().zip(pixels.chunks_exact_mut(len)) {
            augment_into(set.image(index), set.shape(), index, augmentation, seed, epoch, place);
        }
    };
    if share >= indices.len() {
        fill(indices, &mut pixels);
    } else {
        thread::scope(|scope| {
            for (indices, pixels) in indices.chunks(share).zip(pixels.chunks_mut(share * len)) {
                scope.spawn(move || fill(indices, pixels));
            }
        });
    }
    pixels
}

/// Writes `image`, which has the number `index`, to `place` as it is seen in `epoch`.
pub(crate) fn augment_into(
    image: &[u8],
    shape: [usize; 3],
    index: usize,
    augmentation: &Augmentation,
    seed: u64,
    epoch: u64,
    place: &mut [u8],
) {
    match *augmentation {
        Augmentation::None => place.copy_from_slice(image),
        Augmentation::PadCropFlip { pad } => {
            pad_crop_flip(image, shape, pad, &mut stream(seed, epoch, index), place);
        }
        Augmentation::RandomResizedCrop { scale, ratio, .. } => {
            let (crop, flip) = draw([shape[1], shape[2]], scale, ratio, seed, epoch, index);
            resize(image, shape, crop, flip, place);
        }
    }
}

/// The rectangle of image `index`, of `[height, width]` pixels, in `epoch`, and whether it is mirrored.
pub(crate) fn draw(
    size: [usize; 2],
    scale: [f64; 2],
    ratio: [f64; 2],
    seed: u64,
    epoch: u64,
    index: usize,
) -> (Crop, bool) {
    let rng = &mut stream(seed, epoch, index);
    let crop = draw_crop(size, scale, ratio, rng);
    (crop, below(rng, 2) == 1)
}

fn stream(seed: u64, epoch: u64, index: usize) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..16 + DOMAIN.len()].copy_from_slice(DOMAIN);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index as u64);
    rng
}

fn pad_crop_flip(image: &[u8], shape: [usize; 3], pad: u16, rng: &mut ChaCha8Rng, place: &mut [u8]) {
    let [_, height, width] = shape;
    // Where the first row and column of the crop lie in the original: from -pad to pad.
    let mut offset = || i64::from(below(rng, 2 * u32::from(pad) + 1)) - i64::from(pad);
    let (top, left) = (offset(), offset());
    let flip = below(rng, 2) == 1;

    let (from, to) = overlap(left, width);
    place.fill(0);
    for (plane, target) in image.chunks_exact(height * width).zip(place.chunks_exact_mut(height * width)) {
        for (row, target) in target.chunks_exact_mut(width).enumerate() {
            let source = usize::try_from(row as i64 + top).ok().filter(|&source| source < height);
            if let Some(source) = source {
                let source = &plane[source * width..(source + 1) * width];
                target[to.clone()].copy_from_slice(&source[from.clone()]);
                if flip {
                    target.reverse();
                }
            }
        }
    }
}

/// Which part of a row of `width` pixels stays, and where it goes, when the crop starts at `offset`.
fn overlap(offset: i64, width: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let shift = usize::try_from(offset.unsigned_abs()).map_or(width, |shift| shift.min(width));
    match offset < 0 {
        true => (0..width - shift, shift..width),
        false => (shift..width, 0..width - shift),
    }
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy)]
pub(crate) struct Crop {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

fn draw_crop([height, width]: [usize; 2], scale: [f64; 2], ratio: [f64; 2], rng: &mut ChaCha8Rng) -> Crop {
    let area = height as f64 * width as f64;
    for _ in 0..ATTEMPTS {
        let area = area * (scale[0] + (scale[1] - scale[0]) * unit(rng));
        let ratio = log_uniform(ratio, rng);
        let (w, h) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        // Written so that what is no number is refused.
        let fits = w >= 1.0 && h >= 1.0 && w <= width as f64 && h <= height as f64;
        if fits {
            let (w, h) = (w as usize, h as usize);
            let mut start = |room: usize| below(rng, u32::try_from(room).map_or(u32::MAX, |room| room + 1)) as usize;
            let (top, left) = (start(height - h), start(width - w));
            return Crop { top, left, height: h, width: w };
        }
    }
    largest_centred(height, width, ratio)
}

/// The largest centred rectangle whose width over height is within `ratio`.
fn largest_centred(height: usize, width: usize, ratio: [f64; 2]) -> Crop {
    let own = width as f64 / height as f64;
    let (w, h) = match own {
        own if own < ratio[0] => (width as f64, width as f64 / ratio[0]),
        own if own > ratio[1] => (height as f64 * ratio[1], height as f64),
        _ => (width as f64, height as f64),
    };
    let w = (w.round() as usize).clamp(1, width);
    let h = (h.round() as usize).clamp(1, height);
    Crop { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Uniform from 0 to below 1, in steps of 2^-53.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number from `low` to `high` whose logarithm is uniform.
///
/// A uniform number `x` is accepted with probability `low / x`: the density falls as 1 / x, and no logarithm is computed, whose
/// last bit would depend on the machine. Few draws are refused for sensible ranges; after 64 the last one stands.
fn log_uniform([low, high]: [f64; 2], rng: &mut ChaCha8Rng) -> f64 {
    let mut x = low;
    for _ in 0..64 {
        x = low + (high - low) * unit(rng);
        if unit(rng) * x < low {
            break;
        }
    }
    x
}

/// For one output position: two input positions and the weight of the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

/// Where `output` pixels spread over `input` ones take their values; pixel centres are at halves, edges are repeated.
fn taps(start: usize, input: usize, output: usize) -> Vec<Tap> {
    let tap = |position: usize| {
        let at = ((position as f64 + 0.5) * input as f64 / output as f64 - 0.5).clamp(0.0, (input - 1) as f64);
        let first = at as usize;
        Tap { first: start + first, second: start + (first + 1).min(input - 1), weight: (at - first as f64) as f32 }
    };
    (0..output).map(tap).collect()
}

/// Scales `crop` of `image` to the whole size, bilinearly, and mirrors it if `flip`.
fn resize(image: &[u8], [_, height, width]: [usize; 3], crop: Crop, flip: bool, place: &mut [u8]) {
    let rows = taps(crop.top, crop.height, height);
    let mut columns = taps(crop.left, crop.width, width);
    if flip {
        columns.reverse();
    }
    for (plane, target) in image.chunks_exact(height * width).zip(place.chunks_exact_mut(height * width)) {
        for (row, target) in rows.iter().zip(target.chunks_exact_mut(width)) {
            let upper = &plane[row.first * width..(row.first + 1) * width];
            let lower = &plane[row.second * width..(row.second + 1) * width];
            for (column, target) in columns.iter().zip(target) {
                let across = |line: &[u8]| {
                    let (first, second) = (f32::from(line[column.first]), f32::from(line[column.second]));
                    first + (second - first) * column.weight
                };
                let (above, below) = (across(upper), across(lower));
                *target = (above + (below - above) * row.weight + 0.5) as u8;
            }
        }
    }
}
