//! Dropout whose masks come from a key instead of a global random generator.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Flag, Module, Param};
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Sets elements to zero with probability `probability` while training, and scales the others by
/// `1 / (1 - probability)` (Srivastava et al. 2014).
///
/// Burn's own dropout draws from the device's global generator, whose state no checkpoint holds.
/// Here the masks are a function of the key given to [`reseed`](Dropout::reseed) and of the number
/// of training passes since, so a run that is resumed draws what the uninterrupted one drew.
#[derive(Module, Debug)]
pub struct Dropout {
    /// Probability of zeroing an element, in `[0, 1)`.
    pub probability: f64,
    training: Param<Flag>,
    #[module(skip)]
    stream: Stream,
}

/// Which masks come next. A copy of the layer goes on from there by itself.
#[derive(Debug, Default)]
struct Stream {
    key: AtomicU64,
    pass: AtomicU64,
}

impl Clone for Stream {
    fn clone(&self) -> Self {
        let copy = |value: &AtomicU64| AtomicU64::new(value.load(Ordering::Relaxed));
        Self { key: copy(&self.key), pass: copy(&self.pass) }
    }
}

impl Dropout {
    /// Dropout with the given probability of zeroing an element.
    ///
    /// # Panics
    /// If `probability` is not in `[0, 1)`.
    pub fn new(probability: f64) -> Self {
        assert!((0.0..1.0).contains(&probability), "dropout probability {probability} is not in [0, 1)");
        Self { probability, training: Param::from_bool(true), stream: Stream::default() }
    }

    /// Sets the key of the following masks.
    pub fn reseed(&self, key: u64) {
        self.stream.key.store(key, Ordering::Relaxed);
        self.stream.pass.store(0, Ordering::Relaxed);
    }

    /// Applies a fresh mask while training; passes the input through otherwise.
    ///
    /// # Shapes
    /// - input and output: `[batch, features]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        if !self.training.is_enabled() || !input.device().is_autodiff() || self.probability == 0.0 {
            return input;
        }
        let mask = self.mask(input.dims());
        let device = input.device().without_autodiff();
        input * Tensor::from_data(mask, &device)
    }

    fn mask(&self, shape: [usize; 2]) -> TensorData {
        let mut random = ChaCha8Rng::seed_from_u64(self.stream.key.load(Ordering::Relaxed));
        random.set_stream(self.stream.pass.fetch_add(1, Ordering::Relaxed));
        let dropped = (self.probability * f64::from(u32::MAX)) as u32;
        let kept = (1.0 / (1.0 - self.probability)) as f32;
        let values = (0..shape[0] * shape[1]).map(|_| if random.next_u32() < dropped { 0.0 } else { kept });
        TensorData::new(values.collect::<Vec<f32>>(), shape)
    }
}
