//! The Carlini-Wagner margin inside a ball (Carlini and Wagner 2017, as Madry et al. 2018 use it):
//! PGD steps on `max_{c != y} z_c - z_y`, of which the largest margin met is kept.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};

use crate::aim::Aim;
use crate::ascent::{Ascent, measure};
use crate::loss::Loss;
use crate::passes::Passes;
use crate::pgd::{Pgd, per_image};
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::survivors::{Candidates, Survivors};
use crate::{Batch, Threat};

/// The margin attack. Unlike the original it searches in a ball of given radius, Linf or L2, as all
/// attacks here do, instead of trading distance against margin; images that a run broke are left out
/// of the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cw(
    /// Steps, starts and runs.
    pub Pgd,
);

impl Cw {
    /// Searches for pixels in the ball that meet the aim, or else come closest.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`] or [`AttackError::Read`].
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        Survivors::all(batch).run(self.0.restarts, |part, restart| {
            let pixels = self.climb(model, &part.batch, aim, threat, key.for_restart(restart as u64))?;
            let (value, broken) = measure(model, &part.batch, aim, &Loss::Margin, &pixels);
            let passes = (Passes::gradient(self.0.steps) + Passes::forward(2)).times(part.count());
            Ok(Candidates { pixels, value, broken, passes })
        })
    }

    fn climb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<Tensor<4>, AttackError> {
        let clean = &batch.pixels;
        let mut pixels = self.0.start(batch, threat, key);
        let mut best: Option<(Tensor<4>, Tensor<1>)> = None;
        for _ in 0..self.0.steps {
            let here = Ascent::at(model, batch, aim, &Loss::Margin, pixels)?;
            best = Some(better(best, here.pixels.clone(), here.value));
            pixels = threat.project(clean, threat.ascend(here.pixels, here.gradient, self.0.step_size));
        }
        let (value, _) = measure(model, batch, aim, &Loss::Margin, &pixels);
        Ok(better(best, pixels, value).0)
    }
}

fn better(best: Option<(Tensor<4>, Tensor<1>)>, pixels: Tensor<4>, value: Tensor<1>) -> (Tensor<4>, Tensor<1>) {
    match best {
        None => (pixels, value),
        Some((best, most)) => {
            let more = value.clone().greater(most.clone());
            (best.mask_where(per_image(more.clone(), &pixels), pixels), most.mask_where(more, value))
        }
    }
}
