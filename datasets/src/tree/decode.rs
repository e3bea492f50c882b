//! From image files to pixels of one shape, on all cores.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageError, ImageReader, Limits};

use super::cache::Decoded;
use super::layout::{Layout, Sample};
use super::listing::{ContentDigest, Listing};
use super::options::{Frame, TreeOptions};
use crate::augment::Crop;
use crate::jpeg::jpeg_problem;
use crate::{DataError, FileDigest, ImageSet, TreeError};

/// Files that are read before they are decoded together.
const CHUNK: usize = 512;

/// Longest side of an image file.
const MAX_SIDE: u32 = 1 << 14;

/// Most pixels of an image after scaling, before the centre is cut out: only extreme proportions reach this.
const MAX_SCALED: u64 = 1 << 26;

/// Most bytes that a decoder may allocate for one image.
const MAX_ALLOC: u64 = 1 << 30;

/// Decodes every image of the layout.
pub(super) fn decode(
    listing: &mut Listing<'_>,
    layout: Layout,
    name: &str,
    options: &TreeOptions,
) -> Result<Decoded, DataError> {
    let images = layout.train.len() + layout.validation.len() + layout.test.len();
    let (shape, frame) = (options.shape, options.frame());
    let needed = shape.iter().fold(images as u64, |bytes, &size| bytes.saturating_mul(size as u64));
    if needed > options.max_bytes {
        let (tree, limit) = (listing.label.clone(), options.max_bytes);
        return Err(TreeError::TooLarge { tree, images, shape, limit }.into());
    }
    let mut digest = ContentDigest::default();
    let classes = layout.class_names.len();
    let mut part = |part: &str, samples: &[Sample]| -> Result<ImageSet, DataError> {
        let pixels = decode_part(listing, samples, &frame, &mut digest)?;
        let labels = samples.iter().map(|sample| sample.label).collect();
        ImageSet::new(&format!("{name} {part}"), shape, classes, pixels, labels)
    };
    let train = part("train", &layout.train)?;
    let validation = match layout.validation.is_empty() {
        true => None,
        false => Some(part("validation", &layout.validation)?),
    };
    let test = part("test", &layout.test)?;
    let (bytes, sha256) = digest.finish();
    let source = match listing.archive() {
        Some(archive) => {
            FileDigest { name: "zip archive".into(), bytes: archive.bytes, sha256: archive.sha256.clone() }
        }
        None => FileDigest { name: "image files by path, size and SHA-256".into(), bytes, sha256 },
    };
    Ok(Decoded { source, class_names: layout.class_names, train, validation, test })
}

fn decode_part(
    listing: &mut Listing<'_>,
    samples: &[Sample],
    frame: &Frame,
    digest: &mut ContentDigest,
) -> Result<Vec<u8>, DataError> {
    let len = frame.shape.iter().product::<usize>();
    let mut pixels = vec![0; samples.len() * len];
    for (samples, pixels) in samples.chunks(CHUNK).zip(pixels.chunks_mut(CHUNK * len)) {
        let mut files = Vec::with_capacity(samples.len());
        for sample in samples {
            let bytes = listing.read(sample.file)?;
            digest.add(&listing.files[sample.file].path, &bytes);
            files.push(bytes);
        }
        if let Some((position, problem)) = decode_together(&files, frame, pixels) {
            let (tree, file) = (listing.label.clone(), listing.files[samples[position].file].path.clone());
            return Err(problem.at(tree, file).into());
        }
    }
    Ok(pixels)
}

/// Decodes each file into its place; the first file that cannot be, and why.
fn decode_together(files: &[Vec<u8>], frame: &Frame, pixels: &mut [u8]) -> Option<(usize, Problem)> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let share = files.len().div_ceil(threads.max(1)).max(1);
    let len = frame.shape.iter().product::<usize>();
    let decode_share = |number: usize, files: &[Vec<u8>], pixels: &mut [u8]| {
        let mut places = files.iter().zip(pixels.chunks_exact_mut(len)).enumerate();
        places.find_map(|(at, (file, place))| Some((number * share + at, decode_guarded(file, frame, place).err()?)))
    };
    thread::scope(|scope| {
        let shares = files.chunks(share).zip(pixels.chunks_mut(share * len)).enumerate();
        let workers: Vec<_> =
            shares.map(|(number, (files, pixels))| scope.spawn(move || decode_share(number, files, pixels))).collect();
        let found = workers.into_iter().filter_map(|worker| worker.join().ok().flatten());
        found.min_by_key(|(position, _)| *position)
    })
}

/// Why a file cannot be decoded.
pub(super) enum Problem {
    Damaged(Box<dyn std::error::Error + Send + Sync>),
    TooLarge(u32, u32),
}

impl Problem {
    pub(super) fn at(self, tree: String, file: String) -> TreeError {
        match self {
            Self::Damaged(source) => TreeError::ImageDamaged { tree, file, source },
            Self::TooLarge(width, height) => TreeError::ImageTooLarge { tree, file, width, height },
        }
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        Self::Damaged(Box::new(error))
    }
}

/// Writes the image in `file` to `place`, `[channels, height, width]`: scaled, and its centre cut out.
pub(super) fn decode_guarded(file: &[u8], frame: &Frame, place: &mut [u8]) -> Result<(), Problem> {
    guarded(|| {
        let [channels, height, width] = frame.shape;
        let target = (width as u32, height as u32);
        let cover = frame.resize.map_or(target, |side| (side as u32, side as u32));
        let (w, h) = dimensions(file)?;
        let (scaled_w, scaled_h) = covering((w, h), cover).ok_or(Problem::TooLarge(w, h))?;
        let image = read(file, channels)?;
        let image = match image.dimensions() == (scaled_w, scaled_h) {
            true => image,
            false => image.resize_exact(scaled_w, scaled_h, FilterType::Triangle),
        };
        let (left, top) = (half(scaled_w - target.0), half(scaled_h - target.1));
        write_planes(&image.crop_imm(left, top, target.0, target.1), place);
        Ok(())
    })
}

/// The image in `file`, `[channels, height, width]`: the rectangle that `draw` gives for its height and width, scaled,
/// and mirrored if `draw` says so.
pub(super) fn crop_guarded(
    file: &[u8],
    [channels, height, width]: [usize; 3],
    draw: impl Fn([usize; 2]) -> (Crop, bool),
) -> Result<Vec<u8>, Problem> {
    guarded(|| {
        let (w, h) = dimensions(file)?;
        if w == 0 || h == 0 || w > MAX_SIDE || h > MAX_SIDE {
            return Err(Problem::TooLarge(w, h));
        }
        let (crop, flip) = draw([h as usize, w as usize]);
        let image = read(file, channels)?;
        let image = image.crop_imm(crop.left as u32, crop.top as u32, crop.width as u32, crop.height as u32);
        let image = match (crop.height, crop.width) == (height, width) {
            true => image,
            false => image.resize_exact(width as u32, height as u32, FilterType::Triangle),
        };
        let mut pixels = vec![0; channels * height * width];
        write_planes(&if flip { image.fliph() } else { image }, &mut pixels);
        Ok(pixels)
    })
}

/// A decoder that panics has met a file that it cannot decode: that is the file's fault, not the program's end.
fn guarded<T>(decode: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Problem::Damaged("the decoder panicked".into())))
}

fn reader(file: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, Problem> {
    Ok(ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(ImageError::IoError)?)
}

/// Width and height of the image in `file`, whose pixels are not decoded.
fn dimensions(file: &[u8]) -> Result<(u32, u32), Problem> {
    match jpeg_problem(file) {
        Some(why) => Err(Problem::Damaged(why.into())),
        None => Ok(reader(file)?.into_dimensions()?),
    }
}

/// The image in `file`, grey or in colour, at its own size.
fn read(file: &[u8], channels: usize) -> Result<DynamicImage, Problem> {
    let mut reader = reader(file)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let image = reader.decode()?;
    Ok(match channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    })
}

/// Writes a grey or colour image channel by channel.
fn write_planes(image: &DynamicImage, place: &mut [u8]) {
    let (pixels, channels) = (image.as_bytes(), usize::from(image.color().channel_count()));
    let plane = pixels.len() / channels;
    for (at, pixel) in pixels.chunks_exact(channels).enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            place[channel * plane + at] = *value;
        }
    }
}

/// The smallest size of the proportions of `from` that covers `target`, rounded down; none if anything about it is too
/// large.
fn covering((w, h): (u32, u32), (width, height): (u32, u32)) -> Option<(u32, u32)> {
    if w == 0 || h == 0 || w > MAX_SIDE || h > MAX_SIDE {
        return None;
    }
    let (w, h, width, height) = (u64::from(w), u64::from(h), u64::from(width), u64::from(height));
    let (scaled_w, scaled_h) = match width * h >= height * w {
        true => (width, (h * width / w).max(height)),
        false => ((w * height / h).max(width), height),
    };
    (scaled_w * scaled_h <= MAX_SCALED).then_some((scaled_w as u32, scaled_h as u32))
}

/// Half of `size`, halves rounded to the even neighbour.
fn half(size: u32) -> u32 {
    size / 2 + u32::from(size % 4 == 3)
}
