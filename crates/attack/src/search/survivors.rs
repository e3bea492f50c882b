//! Several runs over one batch, each only on the images that no earlier one broke.

use burn::tensor::kind::Basic;
use burn::tensor::{Bool, Tensor};

use crate::batch::{Batch, per_image, put, row_numbers};
use crate::error::AttackError;
use crate::passes::{Passes, Searched};
use crate::read::read_bools;

/// The best pixels so far of each image of a batch, and who is still unbroken.
///
/// Of an unbroken image the candidate of the largest value is kept, the earlier one on a tie.
#[derive(Debug)]
pub(crate) struct Survivors<'a> {
    whole: &'a Batch,
    pixels: Tensor<4>,
    value: Tensor<1>,
    open: Vec<usize>,
    pub(crate) passes: Passes,
}

/// What one run found.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// `[run, channels, height, width]`.
    pub(crate) pixels: Tensor<4>,
    /// `[run]`, comparable between runs.
    pub(crate) value: Tensor<1>,
    /// `[run]`.
    pub(crate) broken: Tensor<1, Bool>,
    pub(crate) passes: Passes,
}

impl Candidates {
    /// Per image the candidate of the larger value, the earlier one on a tie; what both cost.
    pub(crate) fn or(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else {
            return self;
        };
        let better = self.value.clone().greater(earlier.value.clone());
        Self {
            pixels: earlier.pixels.mask_where(per_image(better.clone(), &self.pixels), self.pixels),
            value: earlier.value.mask_where(better.clone(), self.value),
            broken: earlier.broken.mask_where(better, self.broken),
            passes: earlier.passes + self.passes,
        }
    }
}

/// The images of a batch that one run is to attack.
#[derive(Debug)]
pub(crate) struct Part {
    /// The images.
    pub(crate) batch: Batch,
    rows: Vec<usize>,
}

impl Part {
    /// Rows of the whole batch.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// What a tensor with a row per image of the whole batch holds for these.
    pub(crate) fn of<const D: usize, K: Basic>(&self, tensor: &Tensor<D, K>) -> Tensor<D, K> {
        tensor.clone().select(0, row_numbers(&self.rows, &self.batch.pixels.device()))
    }
}

impl<'a> Survivors<'a> {
    /// Nobody is broken; the pixels are the clean ones.
    pub(crate) fn all(batch: &'a Batch) -> Self {
        let value = Tensor::full([batch.len()], f32::MIN, &batch.pixels.device());
        Self {
            whole: batch,
            pixels: batch.pixels.clone(),
            value,
            open: (0..batch.len()).collect(),
            passes: Passes::default(),
        }
    }

    /// Does so many runs, numbered from 0, each on those that are still unbroken; ends early if nobody is.
    ///
    /// # Errors
    /// Those of a run, or [`AttackError::Read`].
    pub(crate) fn run(
        mut self,
        runs: usize,
        mut run: impl FnMut(&Part, usize) -> Result<Candidates, AttackError>,
    ) -> Searched {
        for number in 0..runs {
            let Some(part) = self.part() else {
                break;
            };
            let Candidates { pixels, value, broken, passes } = run(&part, number)?;
            self.passes += passes;
            self.take(&part, pixels, value, broken)?;
        }
        Ok(self.finish())
    }

    /// The unbroken images, if there are any.
    pub(crate) fn part(&self) -> Option<Part> {
        (!self.open.is_empty()).then(|| Part { batch: self.whole.pick(&self.open), rows: self.open.clone() })
    }

    /// The pixels and values so far of these images; before the first candidate a value lies below all
    /// others.
    pub(crate) fn best(&self, part: &Part) -> (Tensor<4>, Tensor<1>) {
        (part.of(&self.pixels), part.of(&self.value))
    }

    /// Takes the candidates of a run and what they were measured at; reads who is broken.
    ///
    /// # Errors
    /// [`AttackError::Read`].
    pub(crate) fn take(
        &mut self,
        part: &Part,
        pixels: Tensor<4>,
        value: Tensor<1>,
        broken: Tensor<1, Bool>,
    ) -> Result<(), AttackError> {
        let (old_pixels, old_value) = (part.of(&self.pixels), part.of(&self.value));
        let better = value.clone().greater(old_value.clone()).bool_or(broken.clone());
        let pixels = old_pixels.mask_where(per_image(better.clone(), &pixels), pixels);
        let value = old_value.mask_where(better, value);
        self.pixels = put(&self.pixels, part.rows(), pixels);
        self.value = put(&self.value, part.rows(), value);
        let broken = read_bools(broken)?;
        self.open = part.rows().iter().zip(broken).filter(|(_, broken)| !broken).map(|(&row, _)| row).collect();
        Ok(())
    }

    /// The pixels of all images, and what they cost.
    pub(crate) fn finish(self) -> (Tensor<4>, Passes) {
        (self.pixels, self.passes)
    }
}
