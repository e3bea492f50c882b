//! What the distilling losses share: soft labels from several exits, and how a student meets them.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use crate::teacher::mix;
use crate::{Teacher, soft_cross_entropy};

/// What is averaged where several exits teach together (docs/papers/neo-kd.md section 8, point 8).
///
/// The paper speaks of predictions and likelihoods, so probabilities are the default; the mean of
/// logits (a geometric mean of probabilities) is the other reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaged {
    /// `sum_k W_ik softmax(f_k / T)`.
    #[default]
    Softmax,
    /// `softmax(sum_k W_ik f_k / T)`.
    Logits,
}

/// Who teaches whom, how answers are averaged, and at which temperature.
#[derive(Clone, Debug)]
pub(crate) struct Distillation {
    matrix: Vec<Vec<f64>>,
    averaged: Averaged,
    temperature: f64,
}

impl Distillation {
    /// # Errors
    /// A sentence that names the key, its value and the cure.
    pub(crate) fn new(teacher: &Teacher, averaged: Averaged, temperature: f64, exits: usize) -> Result<Self, String> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(format!("temperature = {temperature}: must be a finite number larger than 0"));
        }
        Ok(Self { matrix: teacher.matrix(exits)?, averaged, temperature })
    }

    pub(crate) fn exits(&self) -> usize {
        self.matrix.len()
    }

    /// Whether exit `exit` is taught by itself alone.
    pub(crate) fn only_itself(&self, exit: usize) -> bool {
        self.matrix[exit][exit] == 1.0
    }

    /// Each exit's own tempered probabilities, detached.
    ///
    /// # Shapes
    /// - `logits` and output: one `[batch, classes]` per exit
    pub(crate) fn answers(&self, logits: &[Tensor<2>]) -> Vec<Tensor<2>> {
        self.tempered(logits).map(|exit| softmax(exit, 1)).collect()
    }

    /// The soft label of each exit, detached: teachers get no gradient (point 9).
    ///
    /// # Shapes
    /// - `logits` and output: one `[batch, classes]` per exit
    pub(crate) fn teachers(&self, logits: &[Tensor<2>]) -> Vec<Tensor<2>> {
        match self.averaged {
            Averaged::Softmax => mix(&self.answers(logits), &self.matrix),
            Averaged::Logits => {
                let logits: Vec<Tensor<2>> = self.tempered(logits).collect();
                mix(&logits, &self.matrix).into_iter().map(|mean| softmax(mean, 1)).collect()
            }
        }
    }

    /// `T^2 H(teacher, f / T)` per image; the factor keeps gradients comparable over temperatures
    /// (Hinton et al. 2015; Phuong and Lampert 2019).
    ///
    /// # Shapes
    /// - `student`, `teacher`: `[batch, classes]`; output: `[batch]`
    pub(crate) fn teach(&self, student: &Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
        // At temperature 1 nothing is scaled: dividing by 1 would cost a kernel and change no bit.
        if self.temperature == 1.0 {
            return soft_cross_entropy(student, teacher);
        }
        let tempered = student.clone().div_scalar(self.temperature);
        soft_cross_entropy(&tempered, teacher).mul_scalar(self.temperature * self.temperature)
    }

    fn tempered<'a>(&'a self, logits: &'a [Tensor<2>]) -> impl Iterator<Item = Tensor<2>> + 'a {
        logits.iter().map(|exit| {
            let detached = exit.clone().without_autodiff();
            if self.temperature == 1.0 { detached } else { detached.div_scalar(self.temperature) }
        })
    }
}
