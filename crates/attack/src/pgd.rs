//! Projected gradient descent (Madry et al. 2018): ascend the objective, project, repeat.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};

use crate::ascent::gradient;
use crate::objective::Objective;
use crate::passes::Passes;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::{Batch, Threat};

/// PGD; with one step of length epsilon and no random start it is FGSM (Goodfellow et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    /// Number of gradient steps.
    pub steps: usize,
    /// Length of a step in pixel units.
    pub step_size: f64,
    /// Whether to start from a random point of the ball instead of the clean image.
    pub random_start: bool,
    /// Independent runs, the best of which is kept per image; more than one only pays with a
    /// random start.
    pub restarts: usize,
}

impl Pgd {
    /// The fast gradient sign method: one full step from the clean image.
    pub fn fgsm(threat: &Threat) -> Self {
        Self { steps: 1, step_size: threat.epsilon, random_start: false, restarts: 1 }
    }

    /// Searches for pixels in the ball that maximise the objective; over restarts the largest value
    /// per image wins.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`] if the objective does not depend on the pixels.
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        objective: &impl Objective,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let (mut best, mut passes) = self.climb(model, batch, objective, threat, key.for_restart(0))?;
        if self.restarts < 2 {
            return Ok((best, passes));
        }
        let mut best_value = value(model, &best, batch, objective);
        for restart in 1..self.restarts {
            let (pixels, spent) = self.climb(model, batch, objective, threat, key.for_restart(restart as u64))?;
            let new_value = value(model, &pixels, batch, objective);
            let better = new_value.clone().greater(best_value.clone());
            best = best.mask_where(per_image(better.clone(), &pixels), pixels);
            best_value = best_value.mask_where(better, new_value);
            passes += spent;
        }
        passes += Passes::forward(self.restarts * batch.len());
        Ok((best, passes))
    }

    /// Where a run starts.
    pub(crate) fn start(&self, batch: &Batch, threat: &Threat, key: RandomKey) -> Tensor<4> {
        match self.random_start {
            true => threat.random_start(&batch.pixels, &batch.examples, key),
            false => batch.pixels.clone(),
        }
    }

    fn climb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        objective: &impl Objective,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let clean = &batch.pixels;
        let exits = objective.exits(model.exits());
        let mut moved = self.start(batch, threat, key);
        for _ in 0..self.steps {
            let leaf = moved.clone().autodiff().require_grad();
            let logits = model.forward_at(leaf.clone(), &exits);
            let gradient = gradient(&leaf, &objective.value(&logits, &batch.labels))?;
            moved = threat.project(clean, threat.ascend(moved, gradient, self.step_size));
        }
        Ok((moved, Passes::gradient(self.steps * batch.len())))
    }
}

fn value<M: MultiExit>(model: &Frozen<M>, pixels: &Tensor<4>, batch: &Batch, objective: &impl Objective) -> Tensor<1> {
    let logits = model.forward_at(pixels.clone(), &objective.exits(model.exits()));
    objective.value(&logits, &batch.labels)
}

/// Spreads one truth value per image over its pixels.
pub(crate) fn per_image(mask: Tensor<1, burn::tensor::Bool>, pixels: &Tensor<4>) -> Tensor<4, burn::tensor::Bool> {
    let images = pixels.dims()[0];
    mask.reshape([images, 1, 1, 1]).expand(pixels.dims())
}
