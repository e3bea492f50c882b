//! What an attack spent: passes per image, the unit in which attacks are compared.

use std::ops::{Add, AddAssign};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::AttackError;

/// What a search gives: pixels, `[batch, channels, height, width]`, and what they cost.
pub type Searched = Result<(Tensor<4>, Passes), AttackError>;

/// Image-passes through the network; a pass over the prefix up to an exit counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// Forward passes, one per image.
    pub forward: u64,
    /// Backward passes, one per image.
    pub backward: u64,
}

impl Passes {
    /// `count` forward passes.
    pub fn forward(count: usize) -> Self {
        Self { forward: count as u64, backward: 0 }
    }

    /// `count` forward passes, each with its backward pass.
    pub fn gradient(count: usize) -> Self {
        Self { forward: count as u64, backward: count as u64 }
    }

    /// The same, so many times.
    pub(crate) fn times(self, count: usize) -> Self {
        Self { forward: self.forward * count as u64, backward: self.backward * count as u64 }
    }
}

impl Add for Passes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { forward: self.forward + other.forward, backward: self.backward + other.backward }
    }
}

impl AddAssign for Passes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
