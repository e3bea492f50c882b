//! What every attack needs to know: the network, the images, how far it may go and its random numbers.

use burn::tensor::Tensor;
use neokd_model::{ExitLogits, Frozen, MultiExit};

use crate::batch::Batch;
use crate::objective::aim::Aim;
use crate::random::RandomKey;
use crate::threat::Threat;

/// A network under attack: what is the same for every attack on it, whatever it aims at and however it searches.
#[derive(Debug)]
pub struct Scenario<'a, M> {
    /// The network.
    pub model: &'a Frozen<M>,
    /// The images.
    pub batch: &'a Batch,
    /// How far they may be moved.
    pub threat: Threat,
    /// Where random numbers come from.
    pub key: RandomKey,
}

// By hand, as a derived one would ask for a network that can be copied.
impl<M> Clone for Scenario<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Scenario<'_, M> {}

impl<'a, M: MultiExit> Scenario<'a, M> {
    /// The scenario of these images in the ball of this threat; the same `key` and example give the same random numbers
    /// in any batch.
    pub fn new(model: &'a Frozen<M>, batch: &'a Batch, threat: &Threat, key: u64) -> Self {
        Self { model, batch, threat: *threat, key: RandomKey::new(key) }
    }

    /// The same with other images.
    pub fn on<'b>(self, batch: &'b Batch) -> Scenario<'b, M>
    where
        'a: 'b,
    {
        Scenario { model: self.model, batch, threat: self.threat, key: self.key }
    }

    /// The same with the random numbers of another restart.
    pub(crate) fn restart(self, number: usize) -> Self {
        Self { key: self.key.for_restart(number as u64), ..self }
    }

    /// The logits that an aim looks at; no other part of the network is run.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, channels, height, width]`
    pub(crate) fn logits(&self, aim: &Aim, pixels: Tensor<4>) -> ExitLogits {
        self.model.forward_at(pixels, &aim.exits(self.model.exits()))
    }
}
