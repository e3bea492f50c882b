//! NumPy files as image sets: an `.npz` archive, or an `.npy` file of images with one of labels beside it.
//!
//! Arrays are found by their names: `images` and `labels`, `x_test` and `y_test`, `x` and `y`, or `arr_0` and `arr_1`,
//! as NumPy calls arrays without names. An `.npy` file's labels are in the file of the other name in the same folder
//! (`y.npy` for `x.npy`), or in `labels.npy`, as CIFAR-10-C has them.
//!
//! Images are `[images, channels, height, width]` or `[images, height, width, channels]`, told apart by the shape that
//! is asked for, or `[images, height, width]` of one channel; of type u1 (0 to 255), or f4 or f8 (0 to 1, or whole
//! numbers from 0 to 255 of which some are above 1). Labels are `[images]` or `[images, 1]` of any integer type. Nothing
//! is unpickled.

mod npy;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

use self::npy::Array;
use crate::tensors::MAX_BYTES;
use crate::{DataError, FloatImages, ImageSet, NumpyError, TensorImages};

/// Names of images and of their labels, the first that are there.
const PAIRS: [[&str; 2]; 4] = [["images", "labels"], ["x_test", "y_test"], ["x", "y"], ["arr_0", "arr_1"]];

/// A compressed array may be this much larger than its bytes in the archive, ...
const MOST_EXPANSION: u64 = 200;

/// ... or any number of times as large if it is no larger than this.
const FREE_EXPANSION: u64 = 1 << 26;

/// The images in the `.npz` or `.npy` file at `path`, of `shape` (channels, height, width), labelled with `classes`
/// classes.
///
/// # Errors
/// A file that cannot be read, is damaged, or holds other arrays; pixels out of range, labels that name no class or do
/// not pair up with the images.
pub fn load_numpy(path: &Path, shape: [usize; 3], classes: usize) -> Result<TensorImages, DataError> {
    let is_archive = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("npz"));
    let (images, labels) = if is_archive { from_archive(path)? } else { from_pair(path)? };
    let file = path.display().to_string();
    let (labels_name, labels) = labels;
    let labels = Labels { file: &file, name: &labels_name, array: labels }.read(classes)?;
    Pictures { file: &file, name: &images.0, array: images.1 }.read(shape, classes, labels)
}

/// An array and what it is called.
type Named = (String, Array);

fn from_archive(path: &Path) -> Result<(Named, Named), DataError> {
    let label = path.display().to_string();
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let damaged = |error: zip::result::ZipError| NumpyError::Archive { file: label.clone(), why: error.to_string() };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let has = |name: &str| archive.index_for_name(&format!("{name}.npy")).is_some();
    let Some(pair) = PAIRS.into_iter().find(|pair| pair.iter().all(|name| has(name))) else {
        let names = archive.file_names_raw().map(|name| String::from_utf8_lossy(name).chars().take(40).collect());
        let mut names: Vec<String> = names.take(8).collect();
        names.sort_unstable();
        return Err(NumpyError::NoPair { file: label, holds: names.join(", ") }.into());
    };
    let mut read = |name: &str| -> Result<Named, DataError> {
        let wrong = |why| NumpyError::Array { file: label.clone(), array: name.to_owned(), why };
        let entry = archive.by_name(&format!("{name}.npy")).map_err(damaged)?;
        let (size, packed) = (entry.size(), entry.compressed_size());
        if size > MAX_BYTES || (size > FREE_EXPANSION && size / MOST_EXPANSION > packed) {
            let why = format!("would unpack to {size} bytes from {packed}: save it with numpy.savez, uncompressed");
            return Err(wrong(why).into());
        }
        Ok((name.to_owned(), npy::read(entry, size).map_err(wrong)?))
    };
    // Labels first: they are small, and what is wrong with them is found early.
    let labels = read(pair[1])?;
    Ok((read(pair[0])?, labels))
}

fn from_pair(path: &Path) -> Result<(Named, Named), DataError> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let named = PAIRS.into_iter().find(|pair| pair[0] == stem).map(|pair| pair[1]);
    let candidates = named.into_iter().chain(["labels"]).map(|name| path.with_file_name(format!("{name}.npy")));
    let candidates: Vec<_> = candidates.collect();
    let Some(labels) = candidates.iter().find(|labels| labels.as_path() != path && labels.is_file()) else {
        let expected = candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ");
        return Err(NumpyError::NoLabels { file: path.display().to_string(), expected }.into());
    };
    let read = |path: &Path| -> Result<Named, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let length = file.metadata().map_err(DataError::io("look at", path))?.len();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let label = path.display().to_string();
        if length > MAX_BYTES {
            return Err(DataError::TooLarge { file: label, claimed: length, limit: MAX_BYTES });
        }
        let array = npy::read(BufReader::new(file), length);
        Ok((name.clone(), array.map_err(|why| NumpyError::Array { file: label, array: name, why })?))
    };
    let labels = read(labels)?;
    Ok((read(path)?, labels))
}

struct Labels<'a> {
    file: &'a str,
    name: &'a str,
    array: Array,
}

impl Labels<'_> {
    fn read(self, classes: usize) -> Result<Vec<u16>, DataError> {
        let Array { kind, shape, bytes } = &self.array;
        let wrong = |why| NumpyError::Array { file: self.file.to_owned(), array: self.name.to_owned(), why };
        if !matches!(shape.as_slice(), [_] | [_, 1]) {
            return Err(wrong(format!("has shape {shape:?}, expected [images]: save one number an image")).into());
        }
        let (is_signed, size) = match kind.as_str() {
            "u1" => (false, 1),
            "u2" => (false, 2),
            "u4" => (false, 4),
            "u8" => (false, 8),
            "i1" => (true, 1),
            "i2" => (true, 2),
            "i4" => (true, 4),
            "i8" => (true, 8),
            _ => {
                return Err(wrong(format!("is of type {kind}, expected integers: save it with astype('int64')")).into());
            }
        };
        let number = |bytes: &[u8]| {
            let is_negative = is_signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut whole = [if is_negative { 0xff } else { 0 }; 16];
            whole[..bytes.len()].copy_from_slice(bytes);
            i128::from_le_bytes(whole)
        };
        let label = |(index, bytes): (usize, &[u8])| {
            let value = number(bytes);
            match u16::try_from(value) {
                Ok(label) if usize::from(label) < classes => Ok(label),
                _ => Err(DataError::LabelOutOfRange { file: self.file.to_owned(), index, value, classes }),
            }
        };
        bytes.chunks_exact(size).enumerate().map(label).collect()
    }
}

struct Pictures<'a> {
    file: &'a str,
    name: &'a str,
    array: Array,
}

/// Where the channels of a picture are.
enum Order {
    First,
    Last,
}

impl Pictures<'_> {
    fn read(self, shape: [usize; 3], classes: usize, labels: Vec<u16>) -> Result<TensorImages, DataError> {
        let wrong = |why| NumpyError::Array { file: self.file.to_owned(), array: self.name.to_owned(), why };
        let [channels, height, width] = shape;
        let order = match self.array.shape.as_slice() {
            [_, sides @ ..] if *sides == shape => Order::First,
            [_, sides @ ..] if *sides == [height, width, channels] => Order::Last,
            [_, sides @ ..] if *sides == [height, width] && channels == 1 => Order::First,
            found => {
                return Err(wrong(format!(
                    "has shape {found:?}, but the network takes [images, {channels}, {height}, {width}] or [images, \
                     {height}, {width}, {channels}]: reshape it before saving"
                ))
                .into());
            }
        };
        let count = self.array.shape[0];
        if count != labels.len() {
            let images_file = format!("{} (\"{}\")", self.file, self.name);
            let labels_file = format!("{} (labels)", self.file);
            return Err(DataError::CountMismatch { images_file, images: count, labels_file, labels: labels.len() });
        }
        let bytes = self.array.bytes;
        match self.array.kind.as_str() {
            "u1" => {
                ImageSet::new(self.file, shape, classes, planes(bytes, &order, shape), labels).map(TensorImages::Bytes)
            }
            "f4" => floats(
                self.file,
                bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)),
                &order,
                shape,
                classes,
                labels,
            ),
            "f8" => floats(
                self.file,
                bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32),
                &order,
                shape,
                classes,
                labels,
            ),
            kind => Err(wrong(format!(
                "is of type {kind}, expected u1 (0 to 255) or f4 (0 to 1): convert it with astype before saving"
            ))
            .into()),
        }
    }
}

fn floats(
    file: &str,
    values: impl Iterator<Item = f32>,
    order: &Order,
    shape: [usize; 3],
    classes: usize,
    labels: Vec<u16>,
) -> Result<TensorImages, DataError> {
    let values = planes(values.collect(), order, shape);
    // Arrays that went through arithmetic hold bytes as floats; a pixel from 0 to 1 is never above 1.
    let is_byte = |value: &f32| (0.0..=255.0).contains(value) && value.fract() == 0.0;
    if values.iter().any(|value| *value > 1.0) && values.iter().all(is_byte) {
        let bytes = values.iter().map(|value| *value as u8).collect();
        return ImageSet::new(file, shape, classes, bytes, labels).map(TensorImages::Bytes);
    }
    FloatImages::new(file, shape, classes, values, labels).map(TensorImages::Floats)
}

/// Pictures channel by channel.
fn planes<T: Copy>(values: Vec<T>, order: &Order, [channels, height, width]: [usize; 3]) -> Vec<T> {
    match order {
        Order::First => values,
        Order::Last => {
            let picture = |picture: &[T]| -> Vec<T> {
                (0..channels).flat_map(|channel| picture.iter().skip(channel).step_by(channels)).copied().collect()
            };
            values.chunks_exact((channels * height * width).max(1)).flat_map(picture).collect()
        }
    }
}
