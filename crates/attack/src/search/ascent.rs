//! One look of a gradient attack: value, gradient and who is broken, in a single pass.

use burn::tensor::{Bool, Tensor};
use neokd_model::MultiExit;

use crate::batch::per_image;
use crate::error::AttackError;
use crate::objective::aim::Aim;
use crate::objective::loss::Loss;
use crate::scenario::Scenario;

/// What the network says to some pixels, and how to make it worse.
#[derive(Clone, Debug)]
pub(crate) struct Ascent {
    /// `[batch, channels, height, width]`.
    pub(crate) pixels: Tensor<4>,
    /// `[batch]`, the loss.
    pub(crate) value: Tensor<1>,
    /// `[batch, channels, height, width]`, of the loss with respect to the pixels.
    pub(crate) gradient: Tensor<4>,
    /// `[batch]`, whether the aim is met.
    pub(crate) broken: Tensor<1, Bool>,
}

impl Ascent {
    /// Looks at `pixels`.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`].
    pub(crate) fn at<M: MultiExit>(
        scenario: &Scenario<'_, M>,
        aim: &Aim,
        loss: &Loss,
        pixels: Tensor<4>,
    ) -> Result<Self, AttackError> {
        let leaf = pixels.clone().autodiff().require_grad();
        let logits = scenario.logits(aim, leaf.clone());
        let value = aim.value(loss, &logits, &scenario.batch.labels);
        let gradient = gradient(&leaf, &value)?;
        let broken = aim.broken(&logits.untracked(), &scenario.batch.labels);
        Ok(Self { pixels, value: value.inner(), gradient, broken })
    }

    /// This look, with another one in its place for some images.
    ///
    /// # Shapes
    /// - `images`: `[batch]`
    pub(crate) fn replace(self, images: &Tensor<1, Bool>, other: &Self) -> Self {
        let pixels = per_image(images.clone(), &self.pixels);
        Self {
            pixels: self.pixels.mask_where(pixels.clone(), other.pixels.clone()),
            value: self.value.mask_where(images.clone(), other.value.clone()),
            gradient: self.gradient.mask_where(pixels, other.gradient.clone()),
            broken: self.broken.mask_where(images.clone(), other.broken.clone()),
        }
    }
}

/// Gradient of the summed values with respect to the pixels.
///
/// # Errors
/// [`AttackError::NoGradient`] if they do not depend on the pixels.
pub(crate) fn gradient(leaf: &Tensor<4>, values: &Tensor<1>) -> Result<Tensor<4>, AttackError> {
    if !values.is_tracked() {
        return Err(AttackError::NoGradient);
    }
    let gradients = values.clone().sum().backward();
    leaf.grad(&gradients).ok_or(AttackError::NoGradient)
}

/// What an aim's answers are worth without a gradient: the loss, and who is broken.
///
/// # Shapes
/// - `pixels`: `[batch, channels, height, width]`; both outputs: `[batch]`
pub(crate) fn measure<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    aim: &Aim,
    loss: &Loss,
    pixels: &Tensor<4>,
) -> (Tensor<1>, Tensor<1, Bool>) {
    let logits = scenario.logits(aim, pixels.clone());
    (aim.value(loss, &logits, &scenario.batch.labels), aim.broken(&logits, &scenario.batch.labels))
}
