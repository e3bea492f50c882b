//! Random numbers that are a function of (key, attack, restart, example) and of nothing else.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Where an attack's random numbers come from.
///
/// ChaCha8 is keyed with (key, attack, restart) and each example reads a stream of its own, so a
/// perturbation is the same for any batch size, order, shard or resume point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomKey {
    key: u64,
    attack: u64,
    restart: u64,
}

impl RandomKey {
    /// The source for a run's `key`.
    pub fn new(key: u64) -> Self {
        Self { key, attack: 0, restart: 0 }
    }

    /// The source for another run, whose key differs in these bits.
    pub(crate) fn flipped(self, bits: u64) -> Self {
        Self { key: self.key ^ bits, ..self }
    }

    /// The source for one attack of several under the same key.
    pub fn for_attack(self, attack: u64) -> Self {
        Self { attack, ..self }
    }

    /// The source for one restart.
    pub fn for_restart(self, restart: u64) -> Self {
        Self { restart, ..self }
    }

    /// The numbers of one example, one after the other.
    pub(crate) fn stream(self, example: u64) -> Stream {
        Stream(self.generator(example))
    }

    fn generator(self, example: u64) -> ChaCha8Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.key.to_le_bytes());
        seed[8..16].copy_from_slice(&self.attack.to_le_bytes());
        seed[16..24].copy_from_slice(&self.restart.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(seed);
        random.set_stream(example);
        random
    }

    /// A whole number below `end` for one example.
    pub fn choose(self, example: u64, end: usize) -> usize {
        self.stream(example).below(end)
    }

    /// Numbers uniform in `[-1, 1)`.
    ///
    /// # Shapes
    /// - output: `[examples.len(), shape...]`
    pub fn uniform(self, examples: &[u64], shape: [usize; 3], device: &Device) -> Tensor<4> {
        let size = shape.iter().product();
        let values = examples.iter().flat_map(|&example| {
            let mut random = self.generator(example);
            (0..size).map(move |_| symmetric(random.next_u32()))
        });
        on_device(values.collect(), examples.len(), shape, device)
    }

    /// Numbers drawn from the standard normal distribution.
    ///
    /// # Shapes
    /// - output: `[examples.len(), shape...]`
    pub fn normal(self, examples: &[u64], shape: [usize; 3], device: &Device) -> Tensor<4> {
        let size: usize = shape.iter().product();
        let values = examples.iter().flat_map(|&example| {
            let mut random = self.generator(example);
            (0..size).map(move |_| gaussian(&mut random) as f32)
        });
        on_device(values.collect(), examples.len(), shape, device)
    }

    /// Points uniform in the unit L2 ball: a Gaussian direction and a radius `u^(1/d)`.
    ///
    /// # Shapes
    /// - output: `[examples.len(), shape...]`
    pub fn unit_ball(self, examples: &[u64], shape: [usize; 3], device: &Device) -> Tensor<4> {
        let size: usize = shape.iter().product();
        let mut values = Vec::with_capacity(examples.len() * size);
        for &example in examples {
            let mut random = self.generator(example);
            let direction: Vec<f64> = (0..size).map(|_| gaussian(&mut random)).collect();
            let length = direction.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            let radius = unit(&mut random).powf(1.0 / size as f64);
            values.extend(direction.iter().map(|value| (value / length * radius) as f32));
        }
        on_device(values, examples.len(), shape, device)
    }
}

/// An example's own random numbers, for a search that draws as it goes.
#[derive(Clone, Debug)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// 1 or -1.
    pub(crate) fn sign(&mut self) -> f32 {
        if self.0.next_u32() & 1 == 0 { 1.0 } else { -1.0 }
    }

    /// A whole number below `end`, which is far below 2^32, so that the remainder is as good as uniform.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }
}

fn on_device(values: Vec<f32>, examples: usize, [channels, height, width]: [usize; 3], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, [examples, channels, height, width]), device)
}

fn symmetric(word: u32) -> f32 {
    // 24 bits: every value is exact in f32, and 1 is never reached.
    (word >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn gaussian(random: &mut ChaCha8Rng) -> f64 {
    (-2.0 * (1.0 - unit(random)).ln()).sqrt() * (std::f64::consts::TAU * unit(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(key: RandomKey, examples: &[u64]) -> Vec<f32> {
        key.uniform(examples, [1, 4, 4], &Device::flex()).into_data().try_into_vec().unwrap()
    }

    #[test]
    fn an_example_draws_the_same_numbers_in_any_company() {
        let key = RandomKey::new(7).for_attack(2).for_restart(1);
        let together = draw(key, &[3, 11, 5]);
        assert_eq!(together[16..32], draw(key, &[11])[..]);
        assert!(together.iter().all(|value| (-1.0..1.0).contains(value)));
    }

    #[test]
    fn key_attack_restart_and_example_each_change_the_numbers() {
        let base = RandomKey::new(7);
        let reference = draw(base, &[0]);
        for other in [RandomKey::new(8), base.for_attack(1), base.for_restart(1)] {
            assert_ne!(reference, draw(other, &[0]));
        }
        assert_ne!(reference, draw(base, &[1]));
    }

    #[test]
    fn ball_points_lie_in_the_unit_ball_and_fill_it_like_a_solid() {
        let points: Vec<f32> = RandomKey::new(1)
            .unit_ball(&(0..4000).collect::<Vec<_>>(), [1, 1, 2], &Device::flex())
            .into_data()
            .try_into_vec()
            .unwrap();
        let radii: Vec<f32> = points.chunks(2).map(|point| point[0].hypot(point[1])).collect();
        assert!(radii.iter().all(|radius| *radius <= 1.0 + 1e-6));
        // In two dimensions a quarter of a uniform disc lies within half its radius.
        let inner = radii.iter().filter(|radius| **radius < 0.5).count() as f64 / radii.len() as f64;
        assert!((inner - 0.25).abs() < 0.03, "{inner}");
    }
}
