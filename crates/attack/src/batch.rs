//! What is attacked: images, their labels and who they are.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// A batch of images on one device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, channels, height, width]`, values in `[0, 1]`.
    pub pixels: Tensor<4>,
    /// `[batch]`, class indices.
    pub labels: Tensor<1, Int>,
    /// Index of each image in its data set: what its random numbers are drawn by.
    pub examples: Vec<u64>,
}

impl Batch {
    /// The given rows, in that order.
    pub fn pick(&self, rows: &[usize]) -> Self {
        let indices = row_numbers(rows, &self.pixels.device());
        Self {
            pixels: self.pixels.clone().select(0, indices.clone()),
            labels: self.labels.clone().select(0, indices),
            examples: rows.iter().map(|&row| self.examples[row]).collect(),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }
}

/// Row numbers as a tensor.
pub fn row_numbers(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_data(TensorData::from(rows.as_slice()), device)
}

/// A tensor with some of its rows replaced.
///
/// # Shapes
/// - `all`: `[batch, ...]`; `values`: `[rows, ...]`
pub(crate) fn put<const D: usize>(all: &Tensor<D>, rows: &[usize], values: Tensor<D>) -> Tensor<D> {
    let images = all.dims()[0];
    let mut sources: Vec<usize> = (0..images).collect();
    rows.iter().enumerate().for_each(|(at, &row)| sources[row] = images + at);
    let sources = row_numbers(&sources, &all.device());
    Tensor::cat(vec![all.clone(), values], 0).select(0, sources)
}

/// Spreads one truth value per image over its pixels.
pub(crate) fn per_image(mask: Tensor<1, Bool>, pixels: &Tensor<4>) -> Tensor<4, Bool> {
    let images = pixels.dims()[0];
    mask.reshape([images, 1, 1, 1]).expand(pixels.dims())
}
