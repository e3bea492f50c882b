//! Images to look at: the test images of a known data set, or a safetensors file.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_datasets::TensorImages;

use crate::Error;

/// Reads `name_or_file`: a path that ends in `.safetensors` with `images` (f32 in `[0, 1]` or u8, NCHW)
/// and `labels`, or the name of a data set below `library`, whose test images are taken.
///
/// # Errors
/// [`Error::Data`] names the file or set; [`Error::Config`] if its images are not of `shape`.
pub fn load(name_or_file: &str, library: &Path, shape: [usize; 3], classes: usize) -> Result<TensorImages, Error> {
    let images = match name_or_file.ends_with(".safetensors") {
        true => neokd_datasets::load_safetensors(Path::new(name_or_file), classes)?.0,
        false => TensorImages::Bytes(neokd_datasets::load(name_or_file, library)?.test),
    };
    let found = match &images {
        TensorImages::Bytes(set) => set.shape(),
        TensorImages::Floats(set) => set.shape(),
    };
    match found == shape {
        true => Ok(images),
        false => {
            Err(Error::Config(format!("--data {name_or_file}: images are {found:?}, the network takes {shape:?}")))
        }
    }
}

/// Number of images.
pub fn count(images: &TensorImages) -> usize {
    match images {
        TensorImages::Bytes(set) => set.len(),
        TensorImages::Floats(set) => set.len(),
    }
}

/// Moves images `start..end` to the device.
///
/// # Shapes
/// - output: `[end - start, channels, height, width]`, values in `[0, 1]`
pub fn pixels(images: &TensorImages, start: usize, end: usize, device: &Device) -> Tensor<4> {
    let ([channels, height, width], values) = match images {
        TensorImages::Bytes(set) => {
            let bytes = &set.pixels()[start * set.image_len()..end * set.image_len()];
            (set.shape(), bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect())
        }
        TensorImages::Floats(set) => {
            let size: usize = set.shape().iter().product();
            (set.shape(), set.pixels()[start * size..end * size].to_vec())
        }
    };
    Tensor::from_data(TensorData::new(values, [end - start, channels, height, width]), device)
}
