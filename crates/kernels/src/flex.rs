//! The kernels as operations of Burn's Flex backend, with and without autodiff.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

use crate::concatenation;
use crate::convolution::{self, Wanted};
use crate::geometry::Geometry;
use crate::norm::{self, Maps};
use crate::source::{Norm, Source, primitive};
use crate::{FeatureMap, Normalized, pool};

/// Whether the kernels of this crate compute with this tensor: 32-bit floats on Flex.
pub(crate) fn computes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    let on_flex = match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => matches!(device.clone().inner(), DispatchDevice::Flex(_)),
        #[allow(unreachable_patterns, reason = "there are more devices if their features are on")]
        _ => false,
    };
    on_flex && tensor.dtype() == DType::F32
}

pub(crate) fn conv2d(
    input: FeatureMap,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
    relu: bool,
) -> Tensor<4> {
    let (input, source) = input.into_parts();
    // An extension takes no optional tensor. Zeros are untracked, so they cost nothing backward.
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &input.device()));
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Kernels>::own_conv2d(input, weight, bias, stride, padding, relu, source))
}

pub(crate) fn max_pool_2x2(input: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Kernels>::own_max_pool_2x2(input.into_dispatch()))
}

/// Maps behind each other along the channels, if they are two or three.
pub(crate) fn cat(maps: &[Tensor<4>]) -> Option<Tensor<4>> {
    let part = |map: &Tensor<4>| map.clone().into_dispatch();
    let whole = match maps {
        [first, second] => <Dispatch as Kernels>::own_cat_2(part(first), part(second)),
        [first, second, third] => <Dispatch as Kernels>::own_cat_3(part(first), part(second), part(third)),
        _ => return None,
    };
    Some(Tensor::from_dispatch(whole))
}

pub(crate) fn batch_norm_train(
    input: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    relu: bool,
) -> Normalized {
    let tracks = input.device().is_autodiff();
    let values = input.clone().inner();
    let moments = Tensor::<2>::from_dispatch(<Dispatch as Kernels>::own_moments(values.clone().into_dispatch()));
    let source = tracks.then(|| {
        let [gamma, beta] = [&gamma, &beta].map(|parameter| primitive(parameter.clone()));
        let norm = Norm::new(primitive(moments.clone()), gamma, beta, epsilon, relu);
        Source::normalized(&primitive(values), norm)
    });
    let moments = if tracks { Tensor::from_inner(moments) } else { moments };
    let (mean, variance) = (moments.clone().narrow(0, 0, 1), moments.clone().narrow(0, 1, 1));
    let (input, moments) = (input.into_dispatch(), moments.into_dispatch());
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let output = <Dispatch as Kernels>::own_normalize(input, moments, gamma, beta, epsilon, relu);
    let output = Tensor::from_dispatch(output);
    let output = match source {
        Some(source) => FeatureMap::made_from(output, source),
        None => output.into(),
    };
    Normalized { output, mean: mean.squeeze_dim(0), variance: variance.squeeze_dim(0) }
}

#[backend_extension(Autodiff, Flex)]
trait Kernels: Backend {
    /// `source` is what the input was made from, if it is known.
    fn own_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
        source: Option<Source>,
    ) -> FloatTensor<Self>;

    fn own_max_pool_2x2(input: FloatTensor<Self>) -> FloatTensor<Self>;

    fn own_cat_2(first: FloatTensor<Self>, second: FloatTensor<Self>) -> FloatTensor<Self>;

    fn own_cat_3(first: FloatTensor<Self>, second: FloatTensor<Self>, third: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Mean and biased variance of each channel, `[2, channels]`; no gradient passes through them.
    fn own_moments(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Batch-norm; the gradient of the input counts in that it makes the moments.
    fn own_normalize(
        input: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self>;
}

impl Kernels for Flex {
    fn own_conv2d(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
        _source: Option<Source>,
    ) -> FlexTensor {
        let geometry = Geometry::new(shape(&input), shape(&weight), stride, padding);
        let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.to_contiguous());
        let output = convolution::forward(&geometry, input.storage(), weight.storage(), bias.storage(), relu);
        let [height, width] = geometry.output;
        tensor(output, [geometry.batch, geometry.outputs, height, width])
    }

    fn own_max_pool_2x2(input: FlexTensor) -> FlexTensor {
        pooled(&input).0
    }

    fn own_cat_2(first: FlexTensor, second: FlexTensor) -> FlexTensor {
        joined(&[first, second])
    }

    fn own_cat_3(first: FlexTensor, second: FlexTensor, third: FlexTensor) -> FlexTensor {
        joined(&[first, second, third])
    }

    fn own_moments(input: FlexTensor) -> FlexTensor {
        let maps = maps(&input);
        tensor(norm::moments(maps, input.to_contiguous().storage()), [2, maps.channels])
    }

    fn own_normalize(
        input: FlexTensor,
        moments: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        relu: bool,
    ) -> FlexTensor {
        let norm = Norm::new(moments, gamma, beta, epsilon, relu);
        tensor(norm::forward(maps(&input), input.to_contiguous().storage(), norm.layer()), shape(&input))
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn own_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
        source: Option<Source>,
    ) -> FloatTensor<Self> {
        let geometry = Geometry::new(shape(input.primitive()), shape(weight.primitive()), stride, padding);
        match Convolution.prepare::<C>([input.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = weight.is_tracked().then(|| match source {
                    Some(source) => Input::Source(source),
                    None => Input::Node(prepared.checkpoint(&input)),
                });
                let node = prepared.checkpoint(&weight);
                let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
                let output = Flex::own_conv2d(input, weight, bias, stride, padding, relu, None);
                let output_kept = relu.then(|| output.clone());
                prepared.finish(Recorded { geometry, input: kept, weight: node, output: output_kept }, output)
            }
            OpsKind::UnTracked(prepared) => {
                let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
                prepared.finish(Flex::own_conv2d(input, weight, bias, stride, padding, relu, None))
            }
        }
    }

    fn own_max_pool_2x2(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = shape(input.primitive());
        let (input, node) = input.into_parts();
        match MaxPool.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, places) = pooled(&input);
                prepared.finish((shape, Arc::new(places)), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(pooled(&input).0),
        }
    }

    fn own_cat_2(first: FloatTensor<Self>, second: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked_cat::<C, 2>([first, second])
    }

    fn own_cat_3(first: FloatTensor<Self>, second: FloatTensor<Self>, third: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked_cat::<C, 3>([first, second, third])
    }

    fn own_moments(input: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(Flex::own_moments(input.into_primitive()))
    }

    fn own_normalize(
        input: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        let prepared = Normalization.prepare::<C>([input.node(), gamma.node(), beta.node()]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let node = prepared.checkpoint(&input);
                let [input, moments, gamma, beta] =
                    [input, moments, gamma, beta].map(FloatTensor::<Self>::into_primitive);
                let norm = Norm::new(moments.clone(), gamma.clone(), beta.clone(), epsilon, relu);
                let output = Flex::own_normalize(input, moments, gamma, beta, epsilon, relu);
                prepared.finish(RecordedNorm { node, norm }, output)
            }
            OpsKind::UnTracked(prepared) => {
                let [input, moments, gamma, beta] =
                    [input, moments, gamma, beta].map(FloatTensor::<Self>::into_primitive);
                prepared.finish(Flex::own_normalize(input, moments, gamma, beta, epsilon, relu))
            }
        }
    }
}

#[derive(Debug)]
struct Convolution;

/// What a convolution keeps for its gradients.
#[derive(Clone, Debug)]
struct Recorded {
    geometry: Geometry,
    /// None if the weights want no gradient.
    input: Option<Input>,
    weight: NodeId,
    /// The output, if it went through ReLU.
    output: Option<FlexTensor>,
}

/// Where the input of a convolution comes from in the backward pass.
#[derive(Clone, Debug)]
enum Input {
    Node(NodeId),
    Source(Source),
}

/// The parents are input, weights and bias; one without a node wants no gradient.
impl Backward<Flex, 3> for Convolution {
    type State = Recorded;

    fn backward(self, ops: Ops<Recorded, 3>, store: &mut GradientStore, checkpointer: &mut Checkpointer) {
        let Recorded { geometry, input, weight, output } = ops.state;
        let gradient = store.consume::<Flex>(&ops.node).to_contiguous();
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FlexTensor>(node).to_contiguous();
        let source = input.map(|input| match input {
            Input::Node(node) => Source::plain(&retrieve(node)),
            Input::Source(source) => source,
        });
        let weight = retrieve(weight);
        let [to_input, to_weight, to_bias] = ops.parents;
        let wanted = Wanted { input: to_input.is_some(), bias: to_bias.is_some() };
        let gradients = convolution::backward(
            &geometry,
            source.as_ref().map(Source::images).as_ref(),
            weight.storage(),
            output.as_ref().map(|output| output.storage()),
            gradient.storage(),
            wanted,
        );

        let Geometry { batch, inputs, outputs, input: [height, width], kernel: [rows, columns], .. } = geometry;
        if let Some(node) = to_input {
            store.register::<Flex>(node.id, tensor(gradients.input, [batch, inputs, height, width]));
        }
        if let Some(node) = to_weight {
            store.register::<Flex>(node.id, tensor(gradients.weight, [outputs, inputs, rows, columns]));
        }
        if let Some(node) = to_bias {
            store.register::<Flex>(node.id, tensor(gradients.bias, [outputs]));
        }
    }
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    /// Shape of the input and the places of the maxima.
    type State = ([usize; 4], Arc<Vec<u8>>);

    fn backward(self, ops: Ops<Self::State, 1>, store: &mut GradientStore, _checkpointer: &mut Checkpointer) {
        let (shape, places) = ops.state;
        let gradient = store.consume::<Flex>(&ops.node).to_contiguous();
        let [Some(node)] = ops.parents else { return };
        let [batch, channels, height, width] = shape;
        let input = pool::backward(batch * channels, [height, width], &places, gradient.storage());
        store.register::<Flex>(node.id, tensor(input, shape));
    }
}

fn tracked_cat<C: CheckpointStrategy, const N: usize>(
    maps: [FloatTensor<Autodiff<Flex, C>>; N],
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = maps.each_ref().map(|map| map.node());
    let maps = maps.map(FloatTensor::<Autodiff<Flex, C>>::into_primitive);
    let whole = joined(&maps);
    match Concatenation.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(maps.each_ref().map(shape), whole),
        OpsKind::UnTracked(prepared) => prepared.finish(whole),
    }
}

#[derive(Debug)]
struct Concatenation;

impl<const N: usize> Backward<Flex, N> for Concatenation {
    /// Shapes of the parts.
    type State = [[usize; 4]; N];

    fn backward(self, ops: Ops<Self::State, N>, store: &mut GradientStore, _checkpointer: &mut Checkpointer) {
        let gradient = store.consume::<Flex>(&ops.node).to_contiguous();
        let mut start = 0;
        for (node, shape) in ops.parents.into_iter().zip(ops.state) {
            let [batch, channels, height, width] = shape;
            let length = channels * height * width;
            if let Some(node) = node {
                let part = concatenation::backward(batch, gradient.storage(), start, length);
                store.register::<Flex>(node.id, tensor(part, shape));
            }
            start += length;
        }
    }
}

#[derive(Debug)]
struct Normalization;

/// What a batch-norm keeps for its gradients, beside its input.
#[derive(Clone, Debug)]
struct RecordedNorm {
    node: NodeId,
    norm: Norm,
}

/// The parents are input, gamma and beta.
impl Backward<Flex, 3> for Normalization {
    type State = RecordedNorm;

    fn backward(self, ops: Ops<RecordedNorm, 3>, store: &mut GradientStore, checkpointer: &mut Checkpointer) {
        let state = ops.state;
        let gradient = store.consume::<Flex>(&ops.node).to_contiguous();
        let input = checkpointer.retrieve_node_output::<FlexTensor>(state.node).to_contiguous();
        let maps = maps(&input);
        let [to_input, to_gamma, to_beta] = ops.parents;
        let gradients =
            norm::backward(maps, input.storage(), state.norm.layer(), gradient.storage(), to_input.is_some());
        if let Some(node) = to_input {
            store.register::<Flex>(node.id, tensor(gradients.input, shape(&input)));
        }
        if let Some(node) = to_gamma {
            store.register::<Flex>(node.id, tensor(gradients.gamma, [maps.channels]));
        }
        if let Some(node) = to_beta {
            store.register::<Flex>(node.id, tensor(gradients.beta, [maps.channels]));
        }
    }
}

fn maps(tensor: &FlexTensor) -> Maps {
    let [batch, channels, height, width] = shape(tensor);
    Maps { batch, channels, area: height * width }
}

fn pooled(input: &FlexTensor) -> (FlexTensor, Vec<u8>) {
    let [batch, channels, height, width] = shape(input);
    let (output, places) = pool::forward(batch * channels, [height, width], input.to_contiguous().storage());
    (tensor(output, [batch, channels, height / 2, width / 2]), places)
}

/// # Panics
/// If batch, height or width of the maps differ.
fn joined(maps: &[FlexTensor]) -> FlexTensor {
    let [batch, _, height, width] = shape(&maps[0]);
    let fits = |map: &FlexTensor| matches!(shape(map), [b, _, h, w] if [b, h, w] == [batch, height, width]);
    assert!(maps.iter().all(fits), "maps of a concatenation differ in batch, height or width");
    let channels = maps.iter().map(|map| shape(map)[1]).sum();
    let maps: Vec<FlexTensor> = maps.iter().map(|map| map.to_contiguous()).collect();
    let parts: Vec<&[f32]> = maps.iter().map(|map| map.storage()).collect();
    tensor(concatenation::forward(batch, &parts), [batch, channels, height, width])
}

fn shape(tensor: &FlexTensor) -> [usize; 4] {
    tensor.shape().dims()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
