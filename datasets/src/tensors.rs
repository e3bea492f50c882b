//! safetensors files as image sets: a tensor `images` and a tensor `labels`; and such files to be written.
//!
//! `images` is `[images, channels, height, width]`, of type U8 (0 to 255) or F32 (0 to 1). `labels` is `[images]`, of
//! any integer type. Other tensors and the metadata are passed over. The type of `images` decides what the file loads
//! as, never its values: U8 is an [`ImageSet`], F32 is a [`FloatImages`], whose `to_bytes` is there for who knows that
//! the values came from bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{DataError, FileDigest, FloatImages, ImageSet, TensorsError, sha256_hex};

/// No file may be larger, in bytes (16 GiB): it is read whole.
pub const MAX_BYTES: u64 = 16 << 30;

const IMAGES: &str = "images";
const LABELS: &str = "labels";

/// The images of a file, by the type of its pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorImages {
    /// Type U8.
    Bytes(ImageSet),
    /// Type F32.
    Floats(FloatImages),
}

/// The images in the file at `path`, labelled with `classes` classes, and the digest of the file.
///
/// # Errors
/// Those of [`parse_safetensors`]; also when the file cannot be read.
pub fn load_safetensors(path: &Path, classes: usize) -> Result<(TensorImages, FileDigest), DataError> {
    let label = path.display().to_string();
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DataError::TooLarge { file: label, claimed: bytes.len() as u64, limit: MAX_BYTES });
    }
    let images = parse_safetensors(&bytes, classes, &label)?;
    let name = path.file_name().map_or(label, |name| name.to_string_lossy().into_owned());
    let digest = FileDigest { name, bytes: bytes.len() as u64, sha256: sha256_hex(&bytes) };
    Ok((images, digest))
}

/// The images in `bytes`; `file` names the source in errors and the set.
///
/// # Errors
/// A file that is not safetensors, a tensor that is missing or of another type or shape, pixels out of range, labels
/// that name no class or do not pair up with the images.
pub fn parse_safetensors(bytes: &[u8], classes: usize, file: &str) -> Result<TensorImages, DataError> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|source| TensorsError::Damaged { file: file.to_owned(), source })?;
    let images = tensor(&tensors, IMAGES, file)?;
    let labels = tensor(&tensors, LABELS, file)?;
    let shape = |tensor: &'static str, found: &[usize], expected| TensorsError::Shape {
        file: file.to_owned(),
        tensor,
        found: found.to_vec(),
        expected,
    };
    let &[count, channels, height, width] = images.shape() else {
        return Err(shape(IMAGES, images.shape(), "[images, channels, height, width]").into());
    };
    let &[label_count] = labels.shape() else {
        return Err(shape(LABELS, labels.shape(), "[images]").into());
    };
    if count != label_count {
        let names = (format!("{file} (\"{IMAGES}\")"), format!("{file} (\"{LABELS}\")"));
        let (images_file, labels_file) = names;
        return Err(DataError::CountMismatch { images_file, images: count, labels_file, labels: label_count });
    }
    let labels = read_labels(&labels, classes, file)?;
    let shape = [channels, height, width];
    match images.dtype() {
        Dtype::U8 => ImageSet::new(file, shape, classes, images.data().to_vec(), labels).map(TensorImages::Bytes),
        Dtype::F32 => {
            let pixels = images.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            FloatImages::new(file, shape, classes, pixels, labels).map(TensorImages::Floats)
        }
        other => Err(other_type(file, IMAGES, other, "U8 or F32").into()),
    }
}

/// Numbers of a tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    Floats(Vec<f32>),
    /// 64-bit integers.
    Integers(Vec<i64>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Values {
    fn into_bytes(self) -> (Dtype, Vec<u8>) {
        match self {
            Self::Floats(values) => (Dtype::F32, values.into_iter().flat_map(f32::to_le_bytes).collect()),
            Self::Integers(values) => (Dtype::I64, values.into_iter().flat_map(i64::to_le_bytes).collect()),
            Self::Bytes(values) => (Dtype::U8, values),
        }
    }
}

/// Bytes of a safetensors file with these tensors, each with its name and shape, and one header entry.
///
/// # Errors
/// [`TensorsError::Damaged`] if a shape and its values disagree.
pub fn encode_safetensors(
    tensors: Vec<(String, Vec<usize>, Values)>,
    key: &str,
    entry: String,
) -> Result<Vec<u8>, DataError> {
    let wrong = |source| TensorsError::Damaged { file: "a file to be written".to_owned(), source };
    let encoded: Vec<_> = tensors.into_iter().map(|(name, shape, values)| (name, shape, values.into_bytes())).collect();
    let views = encoded.iter().map(|(name, shape, (dtype, bytes))| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let header = HashMap::from([(key.to_owned(), entry)]);
    Ok(safetensors::serialize(views, Some(header)).map_err(wrong)?)
}

fn tensor<'a>(tensors: &SafeTensors<'a>, name: &'static str, file: &str) -> Result<TensorView<'a>, TensorsError> {
    tensors.tensor(name).map_err(|_| {
        let mut names = tensors.names();
        names.sort_unstable();
        let holds = names.into_iter().take(8).map(|name| name.chars().take(40).collect::<String>());
        let holds = holds.collect::<Vec<_>>().join(", ");
        let holds = if holds.is_empty() { "none".to_owned() } else { holds };
        TensorsError::Missing { file: file.to_owned(), tensor: name, holds }
    })
}

fn other_type(file: &str, tensor: &'static str, found: Dtype, expected: &'static str) -> TensorsError {
    TensorsError::Type { file: file.to_owned(), tensor, found: format!("{found:?}"), expected }
}

fn read_labels(labels: &TensorView<'_>, classes: usize, file: &str) -> Result<Vec<u16>, DataError> {
    let data = labels.data();
    let values: Vec<i128> = match labels.dtype() {
        Dtype::U8 => data.iter().map(|&value| value.into()).collect(),
        Dtype::I8 => data.iter().map(|&value| value.cast_signed().into()).collect(),
        Dtype::U16 => integers(data, u16::from_le_bytes),
        Dtype::I16 => integers(data, i16::from_le_bytes),
        Dtype::U32 => integers(data, u32::from_le_bytes),
        Dtype::I32 => integers(data, i32::from_le_bytes),
        Dtype::U64 => integers(data, u64::from_le_bytes),
        Dtype::I64 => integers(data, i64::from_le_bytes),
        other => return Err(other_type(file, LABELS, other, "an integer type").into()),
    };
    let label = |(index, value): (usize, i128)| match u16::try_from(value) {
        Ok(label) if usize::from(label) < classes => Ok(label),
        _ => Err(DataError::LabelOutOfRange { file: file.to_owned(), index, value, classes }),
    };
    values.into_iter().enumerate().map(label).collect()
}

fn integers<const N: usize, T: Into<i128>>(data: &[u8], read: fn([u8; N]) -> T) -> Vec<i128> {
    data.as_chunks().0.iter().map(|&bytes| read(bytes).into()).collect()
}
