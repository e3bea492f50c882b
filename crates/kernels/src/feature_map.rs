//! Feature maps that know what they were made from.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::source::Source;

/// Feature maps `[batch, channels, height, width]`, and how to make them again.
///
/// A convolution needs its input once more, for the gradient of its weights. Maps that came from
/// [`batch_norm_train`](crate::batch_norm_train), and concatenations of such maps, are made again at
/// that time, an image at a time, from what batch-norm keeps anyway: a training pass then holds
/// neither them nor the concatenations of a dense network. The values are the same, bit for bit.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    tensor: Tensor<4>,
    #[cfg(feature = "flex")]
    source: Option<Source>,
}

impl FeatureMap {
    /// The maps themselves.
    pub fn into_tensor(self) -> Tensor<4> {
        self.tensor
    }

    #[cfg(feature = "flex")]
    pub(crate) fn tensor(&self) -> &Tensor<4> {
        &self.tensor
    }

    /// Puts the channels of several maps behind each other.
    ///
    /// # Shapes
    /// - `maps`: each `[batch, channels of its own, height, width]`
    /// - output: `[batch, all channels, height, width]`
    ///
    /// # Panics
    /// If there are no maps, or batch, height or width differ.
    pub fn cat(maps: Vec<Self>) -> Self {
        #[cfg(feature = "flex")]
        let source = Source::of_each(maps.iter().map(|map| (&map.tensor, map.source.as_ref())));
        Self {
            tensor: crate::cat(maps.into_iter().map(Self::into_tensor).collect()),
            #[cfg(feature = "flex")]
            source,
        }
    }

    #[cfg(feature = "flex")]
    pub(crate) fn made_from(tensor: Tensor<4>, source: Source) -> Self {
        Self { tensor, source: Some(source) }
    }

    #[cfg(feature = "flex")]
    pub(crate) fn into_parts(self) -> (Tensor<4>, Option<Source>) {
        (self.tensor, self.source)
    }
}

/// Maps that nothing is known of: a convolution keeps them as they are.
impl From<Tensor<4>> for FeatureMap {
    fn from(tensor: Tensor<4>) -> Self {
        Self {
            tensor,
            #[cfg(feature = "flex")]
            source: None,
        }
    }
}
