//! The max-average attack (Hu et al. 2020; docs/papers/neo-kd.md 1.1): one attack per exit, and per image the
//! one that hurts all exits most on average.

use burn::tensor::Tensor;
use neokd_model::MultiExit;

use crate::batch::per_image;
use crate::objective::aim::Aim;
use crate::objective::loss::Loss;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;

/// Runs `single` for every exit and keeps per image the candidate with the largest mean cross-entropy
/// over all exits; ties go to the earlier exit.
///
/// # Errors
/// Those of `single`.
pub fn max_average<M: MultiExit>(scenario: &Scenario<'_, M>, mut single: impl FnMut(usize) -> Searched) -> Searched {
    let Scenario { model, batch, .. } = *scenario;
    let mut passes = Passes::default();
    let mut worst: Option<(Tensor<4>, Tensor<1>)> = None;
    for exit in 0..model.exits() {
        let (candidate, spent) = single(exit)?;
        let damage = Aim::Average.value(&Loss::CrossEntropy, &model.forward(candidate.clone()), &batch.labels);
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
