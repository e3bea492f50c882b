//! A labelled set of images in memory, valid by construction.

use sha2::{Digest, Sha256};

use crate::DataError;
use crate::provenance::hex;

const DIGEST_TAG: &[u8] = b"neokd-image-set-1\n";

/// Images of one shape with a label each: at least one image, every label below the number of classes.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageSet {
    name: String,
    shape: [usize; 3],
    classes: usize,
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

impl ImageSet {
    /// A set of `labels.len()` images.
    ///
    /// # Shapes
    /// `shape` is channels, height, width; `pixels` is `[images, channels, height, width]`, flattened, one byte a pixel.
    ///
    /// # Errors
    /// No image, an empty shape, no class or more than 65,536, a pixel buffer of another length, a label that names no class.
    pub fn new(
        name: &str,
        shape: [usize; 3],
        classes: usize,
        pixels: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self, DataError> {
        check(name, shape, classes, pixels.len(), &labels)?;
        Ok(Self { name: name.into(), shape, classes, pixels, labels })
    }

    /// What the set is called in messages and reports, such as `mnist train`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels, height, width.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of classes; labels are smaller.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of images, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Bytes of one image: channels * height * width.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Image `index`, `[channels, height, width]` flattened, values 0 to 255.
    ///
    /// # Panics
    /// Like a slice, if `index` is not below [`Self::len`].
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        &self.pixels[index * len..(index + 1) * len]
    }

    /// Label of image `index`.
    ///
    /// # Panics
    /// Like a slice, if `index` is not below [`Self::len`].
    #[must_use]
    pub fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    /// All images, `[images, channels, height, width]` flattened.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All labels.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// SHA-256 of the content, 64 lower-case hexadecimal digits; two sets agree exactly if shape, images, labels and order do.
    ///
    /// The hashed bytes are `neokd-image-set-1` and a line feed; channels, height, width and the number of images, each as
    /// 8 bytes little-endian; the pixels; the labels, each as 2 bytes little-endian. Name and class count stay out.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(DIGEST_TAG);
        for size in self.shape.into_iter().chain([self.len()]) {
            hasher.update((size as u64).to_le_bytes());
        }
        hasher.update(&self.pixels);
        for label in &self.labels {
            hasher.update(label.to_le_bytes());
        }
        hex(&hasher.finalize())
    }

    /// Number of images of each class.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// Mean and (population) standard deviation of each channel over all images, with pixels scaled to [0, 1].
    ///
    /// Sums are exact integers, so the result does not depend on the order of the images.
    #[must_use]
    pub fn mean_and_std(&self) -> Vec<(f64, f64)> {
        let [channels, height, width] = self.shape;
        (0..channels).map(|channel| self.channel_statistics(channel, height * width)).collect()
    }

    fn channel_statistics(&self, channel: usize, plane: usize) -> (f64, f64) {
        let (mut sum, mut squares) = (0_u64, 0_u64);
        for image in self.pixels.chunks_exact(self.image_len()) {
            for &pixel in &image[channel * plane..(channel + 1) * plane] {
                sum += u64::from(pixel);
                squares += u64::from(pixel) * u64::from(pixel);
            }
        }
        let n = (self.len() * plane) as f64;
        let mean = sum as f64 / n;
        let variance = (squares as f64 / n - mean * mean).max(0.0);
        (mean / 255.0, variance.sqrt() / 255.0)
    }

    /// The images at `indices`, in that order, repetitions allowed.
    ///
    /// # Errors
    /// An index past the end, or no index at all.
    pub fn select(&self, indices: &[usize]) -> Result<Self, DataError> {
        if let Some(&index) = indices.iter().find(|&&index| index >= self.len()) {
            return Err(DataError::IndexOutOfRange { name: self.name.clone(), index, len: self.len() });
        }
        let pixels = indices.iter().flat_map(|&index| self.image(index)).copied().collect();
        let labels = indices.iter().map(|&index| self.label(index)).collect();
        Self::new(&self.name, self.shape, self.classes, pixels, labels)
    }

    /// The first `n` images, or all of them where there are fewer.
    ///
    /// # Errors
    /// If `n` is 0.
    pub fn head(&self, n: usize) -> Result<Self, DataError> {
        let n = n.min(self.len());
        let pixels = self.pixels[..n * self.image_len()].to_vec();
        Self::new(&self.name, self.shape, self.classes, pixels, self.labels[..n].to_vec())
    }

    /// The same set under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }
}

/// Whether `pixels` pixels and these labels make a set of images.
pub(crate) fn check(
    name: &str,
    shape: [usize; 3],
    classes: usize,
    pixels: usize,
    labels: &[u16],
) -> Result<(), DataError> {
    let sizes = [("channels", shape[0]), ("height", shape[1]), ("width", shape[2])];
    for (what, size) in sizes.into_iter().chain([("classes", classes), ("images", labels.len())]) {
        if size == 0 {
            return Err(DataError::EmptySet { name: name.into(), what });
        }
    }
    if classes > usize::from(u16::MAX) + 1 {
        return Err(DataError::TooManyClasses { name: name.into(), classes });
    }
    let expected = shape.into_iter().fold(labels.len(), usize::saturating_mul);
    if pixels != expected {
        let (found, images) = (pixels, labels.len());
        return Err(DataError::PixelCount { name: name.into(), found, expected, images, shape });
    }
    if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(DataError::LabelOutOfRange { file: name.into(), index, value: labels[index].into(), classes });
    }
    Ok(())
}

impl std::fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [channels, height, width] = self.shape;
        write!(f, "ImageSet({}: {} of {channels}x{height}x{width}, {} classes)", self.name, self.len(), self.classes)
    }
}
