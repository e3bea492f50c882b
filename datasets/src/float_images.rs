//! A labelled set of images with pixels that need not be multiples of 1/255, valid by construction.

use crate::{DataError, ImageSet, TensorsError};

/// Images of one shape with a label each, pixels from 0 to 1 as they were given.
///
/// Nothing rounds them by itself: [`Self::to_bytes`] converts what 8 bits hold exactly, and refuses the rest.
#[derive(Clone, PartialEq)]
pub struct FloatImages {
    name: String,
    shape: [usize; 3],
    classes: usize,
    pixels: Vec<f32>,
    labels: Vec<u16>,
}

impl FloatImages {
    /// A set of `labels.len()` images.
    ///
    /// # Shapes
    /// `shape` is channels, height, width; `pixels` is `[images, channels, height, width]`, flattened.
    ///
    /// # Errors
    /// Those of [`ImageSet::new`], and a pixel that is not a number from 0 to 1.
    pub fn new(
        name: &str,
        shape: [usize; 3],
        classes: usize,
        pixels: Vec<f32>,
        labels: Vec<u16>,
    ) -> Result<Self, DataError> {
        crate::image_set::check(name, shape, classes, pixels.len(), &labels)?;
        if let Some(position) = pixels.iter().position(|pixel| !(0.0..=1.0).contains(pixel)) {
            let (image, at) = place(position, shape);
            return Err(TensorsError::Pixel { file: name.into(), image, at, value: pixels[position] }.into());
        }
        Ok(Self { name: name.into(), shape, classes, pixels, labels })
    }

    /// What the set is called in messages and reports.
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

    /// All images, `[images, channels, height, width]` flattened, values from 0 to 1.
    #[must_use]
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// All labels.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The same images with 8 bits a pixel, if that loses nothing: if each pixel is `b / 255` for a byte `b`, computed
    /// in single precision.
    ///
    /// # Errors
    /// The first pixel that is not.
    pub fn to_bytes(&self) -> Result<ImageSet, DataError> {
        let byte = |(position, &value): (usize, &f32)| {
            let byte = (value * 255.0).round() as u8;
            if f32::from(byte) / 255.0 == value {
                return Ok(byte);
            }
            let (image, at) = place(position, self.shape);
            Err(TensorsError::NotEightBit { name: self.name.clone(), image, at, value })
        };
        let pixels = self.pixels.iter().enumerate().map(byte).collect::<Result<_, _>>()?;
        ImageSet::new(&self.name, self.shape, self.classes, pixels, self.labels.clone())
    }
}

/// Image and position in the image of pixel number `position`.
fn place(position: usize, shape: [usize; 3]) -> (usize, usize) {
    let len = shape.iter().product::<usize>();
    (position / len, position % len)
}

impl std::fmt::Debug for FloatImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [channels, height, width] = self.shape;
        write!(f, "FloatImages({}: {} of {channels}x{height}x{width}, {} classes)", self.name, self.len(), self.classes)
    }
}
