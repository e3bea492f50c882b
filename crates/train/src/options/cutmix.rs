//! CutMix (Yun et al. 2019): a box of each image is replaced by the same box of another image of the
//! batch, and the target is mixed by area. With weight averaging it raises robust accuracy without more
//! data (Rebuffi et al. 2021, "Data augmentation can improve robustness").

use burn::tensor::{Int, Tensor, TensorData};
use neokd_attack::Batch;
use neokd_evaluate::batches::LabelledBatch;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::options::targets::Targets;

/// Settings of CutMix; off unless the section is there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutmixConfig {
    /// Share of the batches that are mixed; all of them by default.
    pub probability: f64,
}

impl Default for CutmixConfig {
    fn default() -> Self {
        Self { probability: 1.0 }
    }
}

/// Part of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl CutmixConfig {
    /// Why this makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let fine = self.probability > 0.0 && self.probability <= 1.0;
        (!fine).then(|| format!("probability = {}: must be in (0, 1]", self.probability))
    }

    /// The batch with boxes exchanged, and its targets.
    ///
    /// One box per batch, its area drawn uniformly (the original's alpha = 1). Attacks and the terms of
    /// a loss that need one label take that of the image with the larger area. All is drawn from `key`.
    pub fn mix(&self, data: &LabelledBatch, targets: Targets, classes: usize, key: u64) -> (LabelledBatch, Targets) {
        let mut random = ChaCha8Rng::seed_from_u64(key);
        if unit(&mut random) >= self.probability {
            return (data.clone(), targets);
        }
        let [_, _, height, width] = data.batch.pixels.dims();
        let region = Region::draw(height, width, &mut random);
        let partners = permutation(data.labels.len(), &mut random);
        let theirs: Vec<usize> = partners.iter().map(|&partner| data.labels[partner]).collect();
        let share = region.area() as f32 / (height * width) as f32;
        let targets = targets.mixed(&Targets::one_hot(&theirs, classes), share);
        let labels = if share > 0.5 { theirs } else { data.labels.clone() };
        (pasted(data, region, &partners, labels), targets)
    }
}

impl Region {
    fn draw(height: usize, width: usize, random: &mut ChaCha8Rng) -> Self {
        let side = unit(random).sqrt();
        let span = |size: usize, random: &mut ChaCha8Rng| {
            let (centre, half) = (unit(random) * size as f64, 0.5 * side * size as f64);
            ((centre - half).round().max(0.0) as usize, ((centre + half).round() as usize).min(size))
        };
        let (top, bottom) = span(height, random);
        let (left, right) = span(width, random);
        Self { top, bottom, left, right }
    }

    fn area(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }

    fn holds(&self, row: usize, column: usize) -> bool {
        (self.top..self.bottom).contains(&row) && (self.left..self.right).contains(&column)
    }
}

fn pasted(data: &LabelledBatch, region: Region, partners: &[usize], labels: Vec<usize>) -> LabelledBatch {
    let own = &data.batch.pixels;
    let ([_, _, height, width], device) = (own.dims(), own.device());
    let mask: Vec<f32> =
        (0..height * width).map(|pixel| f32::from(u8::from(region.holds(pixel / width, pixel % width)))).collect();
    let mask = Tensor::<4>::from_data(TensorData::new(mask, [1, 1, height, width]), &device);
    let rows = on_device(partners, &device);
    let pixels = own.clone() * mask.clone().neg().add_scalar(1.0) + own.clone().select(0, rows) * mask;
    let batch = Batch { pixels, labels: on_device(&labels, &device), examples: data.batch.examples.clone() };
    LabelledBatch { batch, labels }
}

fn on_device(values: &[usize], device: &burn::tensor::Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn permutation(n: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for end in (1..n).rev() {
        order.swap(end, (unit(random) * (end + 1) as f64) as usize);
    }
    order
}

/// Uniform in `[0, 1)`.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Images that are one value throughout: image i has the value i / 10.
    fn flat(n: usize) -> LabelledBatch {
        let pixels: Vec<f32> = (0..n).flat_map(|image| vec![image as f32 / 10.0; 64]).collect();
        let device = Device::flex();
        let labels: Vec<usize> = (0..n).collect();
        let batch = Batch {
            pixels: Tensor::from_data(TensorData::new(pixels, [n, 1, 8, 8]), &device),
            labels: on_device(&labels, &device),
            examples: (0..n as u64).collect(),
        };
        LabelledBatch { batch, labels }
    }

    #[test]
    fn a_target_says_how_much_of_an_image_is_whose() {
        let data = flat(4);
        for key in 0..20 {
            let (mixed, targets) = CutmixConfig::default().mix(&data, Targets::one_hot(&data.labels, 4), 4, key);
            let pixels: Vec<f32> = mixed.batch.pixels.into_data().try_into_vec().unwrap();
            let rows: Vec<f32> = targets.to_device(&Device::flex()).into_data().try_into_vec().unwrap();
            for image in 0..4 {
                let row = &rows[image * 4..][..4];
                for (class, target) in row.iter().enumerate() {
                    let of_class = |value: &&f32| (**value - class as f32 / 10.0).abs() < 1e-6;
                    let share = pixels[image * 64..][..64].iter().filter(of_class).count() as f32 / 64.0;
                    assert!((share - target).abs() < 1e-6, "key {key} image {image} class {class}");
                }
                assert!(row.iter().all(|target| *target <= row[mixed.labels[image]] + 1e-6));
            }
        }
    }
}
