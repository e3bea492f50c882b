//! The kernels as operations of Burn's Flex backend, with and without autodiff.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

use crate::convolution::{self, Wanted};
use crate::geometry::Geometry;
use crate::pool;

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
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
    relu: bool,
) -> Tensor<4> {
    // An extension takes no optional tensor. Zeros are untracked, so they cost nothing backward.
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &input.device()));
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Kernels>::own_conv2d(input, weight, bias, stride, padding, relu))
}

pub(crate) fn max_pool_2x2(input: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Kernels>::own_max_pool_2x2(input.into_dispatch()))
}

#[backend_extension(Autodiff, Flex)]
trait Kernels: Backend {
    fn own_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
    ) -> FloatTensor<Self>;

    fn own_max_pool_2x2(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Kernels for Flex {
    fn own_conv2d(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
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
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn own_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        relu: bool,
    ) -> FloatTensor<Self> {
        let geometry = Geometry::new(shape(input.primitive()), shape(weight.primitive()), stride, padding);
        match Convolution.prepare::<C>([input.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let nodes = [prepared.checkpoint(&input), prepared.checkpoint(&weight)];
                let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
                let output = Flex::own_conv2d(input, weight, bias, stride, padding, relu);
                let state = Recorded { geometry, nodes, output: relu.then(|| output.clone()) };
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => {
                let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
                prepared.finish(Flex::own_conv2d(input, weight, bias, stride, padding, relu))
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
}

#[derive(Debug)]
struct Convolution;

/// What a convolution keeps for its gradients.
#[derive(Clone, Debug)]
struct Recorded {
    geometry: Geometry,
    /// Input and weights.
    nodes: [NodeId; 2],
    /// The output, if it went through ReLU.
    output: Option<FlexTensor>,
}

/// The parents are input, weights and bias; one without a node wants no gradient.
impl Backward<Flex, 3> for Convolution {
    type State = Recorded;

    fn backward(self, ops: Ops<Recorded, 3>, store: &mut GradientStore, checkpointer: &mut Checkpointer) {
        let Recorded { geometry, nodes, output } = ops.state;
        let gradient = store.consume::<Flex>(&ops.node).to_contiguous();
        let [input, weight] =
            nodes.map(|node| checkpointer.retrieve_node_output::<FlexTensor>(node).to_contiguous());
        let [to_input, to_weight, to_bias] = ops.parents;
        let wanted = Wanted { input: to_input.is_some(), weight: to_weight.is_some(), bias: to_bias.is_some() };
        let gradients = convolution::backward(
            &geometry,
            input.storage(),
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

fn pooled(input: &FlexTensor) -> (FlexTensor, Vec<u8>) {
    let [batch, channels, height, width] = shape(input);
    let (output, places) = pool::forward(batch * channels, [height, width], input.to_contiguous().storage());
    (tensor(output, [batch, channels, height / 2, width / 2]), places)
}

fn shape(tensor: &FlexTensor) -> [usize; 4] {
    tensor.shape().dims()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
