//! The max-average attack (Hu et al. 2020; neo-kd.md 1.1): one attack per exit, and per image the
//! one that hurts all exits most on average.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};

use crate::objective::{Average, Objective, Single};
use crate::passes::Passes;
use crate::pgd::{Pgd, per_image};
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::{Batch, Threat};

/// Max-average over single attacks made with the same PGD settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxAverage(
    /// How each exit's attack searches.
    pub Pgd,
);

impl MaxAverage {
    /// Runs a single attack on every exit, each with its own random start and only on the prefix
    /// to that exit, then keeps per image the candidate with the largest mean cross-entropy over
    /// all exits; ties go to the earlier exit.
    ///
    /// # Errors
    /// As [`Pgd::search`].
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let mut passes = Passes::default();
        let mut worst: Option<(Tensor<4>, Tensor<1>)> = None;
        for exit in 0..model.exits() {
            let (candidate, spent) = self.0.search(model, batch, &Single(exit), threat, key.for_attack(exit as u64))?;
            let damage = Average.value(&model.forward(candidate.clone()), &batch.labels);
            passes += spent + Passes::forward(batch.len());
            worst = Some(match worst {
                None => (candidate, damage),
                Some((pixels, most)) => {
                    let more = damage.clone().greater(most.clone());
                    (pixels.mask_where(per_image(more.clone(), &candidate), candidate), most.mask_where(more, damage))
                }
            });
        }
        let (pixels, _) = worst.expect("a network has at least one exit");
        Ok((pixels, passes))
    }
}
