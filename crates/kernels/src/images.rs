//! A batch of images that is read one image at a time, and perhaps made at that moment.

use crate::norm::{Affine, Layer};
use crate::tile::at_least;

/// A batch of images, in parts that lie behind each other along the channels.
pub(crate) struct Images<'a>(Vec<Part<'a>>);

/// Some channels of every image, as they are or before batch-norm.
pub(crate) struct Part<'a> {
    values: &'a [f32],
    /// Values in one map.
    area: usize,
    channels: usize,
    norm: Option<Normalization>,
}

struct Normalization {
    affine: Vec<Affine>,
    relu: bool,
}

impl<'a> Part<'a> {
    pub(crate) fn new(values: &'a [f32], [channels, area]: [usize; 2], layer: Option<Layer<'_>>) -> Self {
        let norm = layer.map(|layer| Normalization { affine: layer.affines(), relu: layer.relu });
        Self { values, area, channels, norm }
    }

    fn length(&self) -> usize {
        self.channels * self.area
    }

    fn of_image(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.length()..][..self.length()]
    }

    #[inline(always)]
    fn write(&self, index: usize, target: &mut [f32]) {
        let image = self.of_image(index);
        let Some(Normalization { affine, relu }) = &self.norm else {
            target.copy_from_slice(image);
            return;
        };
        let maps = target.chunks_exact_mut(self.area).zip(image.chunks_exact(self.area));
        for ((target, map), affine) in maps.zip(affine) {
            affine.apply(map, *relu, target);
        }
    }
}

impl<'a> Images<'a> {
    pub(crate) fn new(parts: Vec<Part<'a>>) -> Self {
        Self(parts)
    }

    /// One image; `space` is where it is put together if it must be.
    #[inline(always)]
    pub(crate) fn image<'b>(&self, index: usize, space: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        if let [part @ Part { norm: None, .. }] = &self.0[..] {
            return part.of_image(index);
        }
        let image = at_least(space, self.0.iter().map(Part::length).sum());
        let mut rest = &mut *image;
        for part in &self.0 {
            let (target, behind) = rest.split_at_mut(part.length());
            part.write(index, target);
            rest = behind;
        }
        image
    }
}
