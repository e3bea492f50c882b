//! What feature maps were made from, as tensors that a backward pass can hold on to.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;

use crate::images::{Images, Part};
use crate::norm::Layer;

/// The parts of some feature maps, one behind the other along the channels.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<[Kept]>);

/// Maps as they are, or those that a batch-norm makes from them.
#[derive(Clone, Debug)]
struct Kept {
    maps: FlexTensor,
    norm: Option<Norm>,
}

impl Kept {
    fn part(&self) -> Part<'_> {
        let [_, channels, height, width] = self.maps.shape().dims();
        Part::new(self.maps.storage(), [channels, height * width], self.norm.as_ref().map(Norm::layer))
    }
}

/// A batch-norm with the statistics of a batch, and what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    moments: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    epsilon: f64,
    relu: bool,
}

impl Norm {
    /// # Shapes
    /// - `moments`: `[2, channels]`; `gamma`, `beta`: `[channels]`
    pub(crate) fn new(moments: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f64, relu: bool) -> Self {
        let [moments, gamma, beta] = [moments, gamma, beta].map(|tensor| tensor.to_contiguous());
        Self { moments, gamma, beta, epsilon, relu }
    }

    pub(crate) fn layer(&self) -> Layer<'_> {
        Layer {
            moments: self.moments.storage(),
            gamma: self.gamma.storage(),
            beta: self.beta.storage(),
            epsilon: self.epsilon,
            relu: self.relu,
        }
    }
}

impl Source {
    /// Maps as they are.
    pub(crate) fn plain(maps: &FlexTensor) -> Self {
        Self(Arc::new([Kept { maps: maps.to_contiguous(), norm: None }]))
    }

    /// Maps that `norm` makes from `maps`.
    pub(crate) fn normalized(maps: &FlexTensor, norm: Norm) -> Self {
        Self(Arc::new([Kept { maps: maps.to_contiguous(), norm: Some(norm) }]))
    }

    /// The source of a concatenation; none if none of the maps has one, as it would save nothing.
    pub(crate) fn of_each<'a>(maps: impl Iterator<Item = (&'a Tensor<4>, Option<&'a Self>)> + Clone) -> Option<Self> {
        maps.clone().find_map(|(_, source)| source)?;
        let parts = maps.flat_map(|(tensor, source)| match source {
            Some(source) => source.0.to_vec(),
            None => Self::plain(&primitive(tensor.clone())).0.to_vec(),
        });
        Some(Self(parts.collect()))
    }

    /// The maps, to be read image by image.
    pub(crate) fn images(&self) -> Images<'_> {
        Images::new(self.0.iter().map(Kept::part).collect())
    }
}

/// The values of a tensor on Flex, without any record of where they came from.
///
/// # Panics
/// If the tensor lies elsewhere.
pub(crate) fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.inner().try_into_primitive::<Flex>().expect("a tensor that this crate computes with lies on Flex")
}
