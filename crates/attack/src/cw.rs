//! The Carlini-Wagner margin inside a ball (Carlini and Wagner 2017, as Madry et al. 2018 use it):
//! PGD steps on `max_{c != y} z_c - z_y`, of which the largest margin met is kept.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};

use crate::aim::Aim;
use crate::ascent::{Ascent, measure};
use crate::loss::Loss;
use crate::passes::Passes;
use crate::pgd::Pgd;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::survivors::{Candidates, Part, Survivors};
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
        Survivors::all(batch)
            .run(self.0.restarts, |part, restart| self.climb(model, part, aim, threat, key.for_restart(restart as u64)))
    }

    fn climb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        part: &Part,
        aim: &Aim,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<Candidates, AttackError> {
        let (batch, clean) = (&part.batch, &part.batch.pixels);
        let mut best: Option<Candidates> = None;
        let mut pixels = self.0.start(batch, threat, key);
        for _ in 0..self.0.steps {
            let Ascent { pixels: here, value, gradient, broken } =
                Ascent::at(model, batch, aim, &Loss::Margin, pixels)?;
            pixels = threat.project(clean, threat.ascend(here.clone(), gradient, self.0.step_size));
            let passes = Passes::gradient(part.count());
            best = Some(Candidates { pixels: here, value, broken, passes }.or(best));
        }
        let (value, broken) = measure(model, batch, aim, &Loss::Margin, &pixels);
        Ok(Candidates { pixels, value, broken, passes: Passes::forward(part.count()) }.or(best))
    }
}
