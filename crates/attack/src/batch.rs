//! What is attacked: images, their labels and who they are.

use burn::tensor::{Int, Tensor};

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
    /// Number of images.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }
}
