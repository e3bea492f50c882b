//! Images of a data set as tensors, in an order that depends on (seed, epoch) alone. Training and evaluation read all
//! images here, whether they are in memory or in their files.

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::Batch;
use neokd_datasets::{Augmentation, Images, Pixels, View};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Error;
use crate::seeds::{Purpose, key};

/// A batch on the device and its labels on the host.
#[derive(Clone, Debug)]
pub struct LabelledBatch {
    /// Pixels, labels and example indices.
    pub batch: Batch,
    /// The labels again, for what is drawn on the host.
    pub labels: Vec<usize>,
}

/// Batches of a set in the order of a plan; what takes long is done ahead of its use.
pub struct Batches<'a> {
    set: &'a dyn Images,
    device: &'a Device,
    pixels: neokd_datasets::Batches<'a>,
}

impl<'a> Batches<'a> {
    /// The images of each batch of `plan`, as `view` shows them.
    pub fn new(set: &'a dyn Images, plan: Vec<Vec<usize>>, view: View, device: &'a Device) -> Self {
        Self { set, device, pixels: set.batches(plan, view) }
    }

    /// The first `images` images of a set as they are, for evaluation.
    pub fn in_order(set: &'a dyn Images, images: usize, batch_size: usize, device: &'a Device) -> Self {
        let indices: Vec<usize> = (0..images.min(set.len())).collect();
        Self::new(set, indices.chunks(batch_size).map(<[usize]>::to_vec).collect(), View::Plain, device)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<LabelledBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let pixels = self.pixels.next()?;
        Some(pixels.map(|pixels| on_device(self.set, pixels, self.device)).map_err(Error::from))
    }
}

/// How training sees images in `epoch`.
pub fn training_view(augmentation: Augmentation, seed: u64, epoch: u64) -> View {
    match augmentation {
        Augmentation::None => View::Plain,
        augmentation => View::Augmented { augmentation, seed: key(seed, Purpose::Augmentation, 0), epoch },
    }
}

/// Moves the given images to the device.
///
/// # Shapes
/// - pixels: `[indices.len(), channels, height, width]`, values in `[0, 1]`
///
/// # Errors
/// [`Error::Data`] if an image that stays in its file cannot be read.
pub fn collect(set: &dyn Images, indices: &[usize], device: &Device) -> Result<LabelledBatch, Error> {
    let mut pixels = set.batches(vec![indices.to_vec()], View::Plain);
    let found = pixels.next().transpose()?.unwrap_or(Pixels { indices: Vec::new(), bytes: Vec::new() });
    Ok(on_device(set, found, device))
}

fn on_device(set: &dyn Images, Pixels { indices, bytes }: Pixels, device: &Device) -> LabelledBatch {
    let [channels, height, width] = set.shape();
    let pixels: Vec<f32> = bytes.into_iter().map(|byte| f32::from(byte) / 255.0).collect();
    let labels: Vec<usize> = indices.iter().map(|&index| usize::from(set.labels()[index])).collect();
    let on_device: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let batch = Batch {
        pixels: Tensor::from_data(TensorData::new(pixels, [indices.len(), channels, height, width]), device),
        labels: Tensor::from_data(TensorData::new(on_device, [indices.len()]), device),
        examples: indices.iter().map(|&index| index as u64).collect(),
    };
    LabelledBatch { batch, labels }
}

/// The order of `n` images in one epoch: a permutation drawn from (seed, epoch).
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(key(seed, Purpose::Order, epoch));
    let mut order: Vec<usize> = (0..n).collect();
    for end in (1..n).rev() {
        // Multiply and shift: the bias is below 2^-32 for any set of images.
        let pick = (u128::from(random.next_u64()) * (end as u128 + 1)) >> 64;
        order.swap(end, pick as usize);
    }
    order
}

/// Number of steps of one epoch; a last batch that is not full is left out, as batch-norm and the
/// learning rate expect full ones, unless it is the only one.
pub fn steps_per_epoch(images: usize, batch_size: usize) -> usize {
    (images / batch_size).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_image_once_and_the_next_in_another_order() {
        let first = epoch_order(1000, 3, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(first, epoch_order(1000, 3, 0));
        assert_ne!(first, epoch_order(1000, 3, 1));
        assert_ne!(first, epoch_order(1000, 4, 0));
    }
}
