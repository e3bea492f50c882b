//! Images of a data set as tensors, in an order that depends on (seed, epoch) alone.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::Batch;
use neokd_datasets::{Augmentation, ImageSet, augment_batch};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::seeds::{Purpose, key};

/// A batch on the device and its labels on the host.
#[derive(Clone, Debug)]
pub struct LabelledBatch {
    /// Pixels, labels and example indices.
    pub batch: Batch,
    /// The labels again, for what is drawn on the host.
    pub labels: Vec<usize>,
}

/// Moves the given images to the device.
///
/// # Shapes
/// - pixels: `[indices.len(), channels, height, width]`, values in `[0, 1]`
pub fn collect(set: &ImageSet, indices: &[usize], device: &Device) -> LabelledBatch {
    let bytes = indices.iter().flat_map(|&index| set.image(index)).copied();
    on_device(set, indices, bytes, device)
}

/// Moves the given images to the device as they are seen in `epoch`.
///
/// # Shapes
/// As [`collect`].
pub fn collect_augmented(
    set: &ImageSet,
    indices: &[usize],
    augmentation: &Augmentation,
    seed: u64,
    epoch: u64,
    device: &Device,
) -> LabelledBatch {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let bytes = augment_batch(set, indices, augmentation, key(seed, Purpose::Augmentation, 0), epoch, threads);
    on_device(set, indices, bytes.into_iter(), device)
}

fn on_device(set: &ImageSet, indices: &[usize], bytes: impl Iterator<Item = u8>, device: &Device) -> LabelledBatch {
    let [channels, height, width] = set.shape();
    let pixels: Vec<f32> = bytes.map(|byte| f32::from(byte) / 255.0).collect();
    let labels: Vec<usize> = indices.iter().map(|&index| usize::from(set.label(index))).collect();
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
        // Multiply and shift: the bias is below 2^-32 for any set that fits in memory.
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
