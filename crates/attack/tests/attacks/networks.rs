//! Tiny networks whose worst case is known or whose gradient is masked, and batches for them.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Module, Param};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::Batch;
use neokd_model::{ExitCost, Features, MultiExit};

/// Numbers the passes of networks that answer otherwise each time.
static PASSES: AtomicU64 = AtomicU64::new(1);

/// How a [`Tiny`] network spoils its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Not at all.
    None = 0,
    /// Pixels are quantised: no gradient, though there is a graph.
    Quantised = 1,
    /// Logits times 100: the softmax saturates.
    Steep = 2,
    /// Noise on every pass.
    Random = 3,
    /// The stem is cut off the graph.
    Detached = 4,
    /// Only the largest hidden units pass, one in a hundred.
    WinnersTakeAll = 5,
    /// Probabilities in place of logits.
    Softmax = 6,
    /// Each image loses the mean of its batch, as batch-norm in training mode has it.
    BatchMean = 7,
}

/// Logits `x^2 A_i + x W_i + b_i` of exit `i`, on the pixels or on hidden units.
#[derive(Module, Debug)]
pub(crate) struct Tiny {
    squares: Vec<Param<Tensor<2>>>,
    weights: Vec<Param<Tensor<2>>>,
    biases: Vec<Param<Tensor<1>>>,
    hidden: Vec<Param<Tensor<2>>>,
    shape: [usize; 3],
    classes: usize,
    mask: usize,
}

/// Repeatable numbers in `[-1, 1)`.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn list(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

pub(crate) fn matrix(values: &[f32], rows: usize, columns: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, columns]), &Device::flex())
}

impl Tiny {
    pub(crate) fn new(shape: [usize; 3], classes: usize) -> Self {
        let none = Vec::new;
        Self { squares: Vec::new(), weights: none(), biases: Vec::new(), hidden: none(), shape, classes, mask: 0 }
    }

    /// Adds an exit; each matrix is `[inputs, classes]`, row by row.
    pub(crate) fn exit(mut self, squares: &[f32], weights: &[f32], biases: &[f32]) -> Self {
        let inputs = weights.len() / self.classes;
        self.squares.push(Param::from_tensor(matrix(squares, inputs, self.classes)));
        self.weights.push(Param::from_tensor(matrix(weights, inputs, self.classes)));
        let biases = Tensor::from_data(TensorData::new(biases.to_vec(), [self.classes]), &Device::flex());
        self.biases.push(Param::from_tensor(biases));
        self
    }

    /// Adds a linear exit.
    pub(crate) fn linear(self, weights: &[f32], biases: &[f32]) -> Self {
        self.exit(&vec![0.0; weights.len()], weights, biases)
    }

    /// Random linear exits that answer about equally often with each class.
    pub(crate) fn random(shape: [usize; 3], classes: usize, exits: usize, seed: u64) -> Self {
        let (mut numbers, pixels) = (Numbers(seed), shape.iter().product::<usize>());
        (0..exits).fold(Self::new(shape, classes), |tiny, _| {
            let weights = numbers.list(pixels * classes);
            let at_grey = |class| -0.5 * (0..pixels).map(|pixel| weights[pixel * classes + class]).sum::<f32>();
            let biases: Vec<f32> = (0..classes).map(at_grey).collect();
            tiny.linear(&weights, &biases)
        })
    }

    /// One exit behind a layer of hidden units.
    pub(crate) fn behind(mut self, hidden: &[f32]) -> Self {
        let pixels: usize = self.shape.iter().product();
        self.hidden = vec![Param::from_tensor(matrix(hidden, pixels, hidden.len() / pixels))];
        self
    }

    pub(crate) fn masked(mut self, mask: Mask) -> Self {
        self.mask = mask as usize;
        self
    }

    fn is(&self, mask: Mask) -> bool {
        self.mask == mask as usize
    }

    fn units(&self, pixels: Tensor<2>) -> Tensor<2> {
        let Some(hidden) = self.hidden.first() else {
            return pixels;
        };
        let units = relu(pixels.sub_scalar(0.5).matmul(hidden.val()));
        if !self.is(Mask::WinnersTakeAll) {
            return units;
        }
        let [_, count] = units.dims();
        let bar = units.clone().sort_descending(1).narrow(1, count / 100, 1).detach();
        let loses = units.clone().lower_equal(bar.expand(units.dims()));
        units.mask_fill(loses, 0.0)
    }
}

impl MultiExit for Tiny {
    fn exits(&self) -> usize {
        self.weights.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn input_shape(&self) -> [usize; 3] {
        self.shape
    }

    fn costs(&self) -> Vec<ExitCost> {
        Vec::new()
    }

    fn enter(&self, pixels: Tensor<4>) -> Features {
        let pixels = match () {
            () if self.is(Mask::Quantised) => (pixels * 16.0).round() / 16.0,
            () if self.is(Mask::Detached) => pixels.detach(),
            () if self.is(Mask::BatchMean) => pixels.clone() - pixels.mean_dim(0),
            () => pixels,
        };
        Features::single(pixels)
    }

    fn advance(&self, features: Features, _stage: usize) -> Features {
        features
    }

    fn head(&self, features: &Features, exit: usize) -> Tensor<2> {
        let units = self.units(features.clone().into_single().flatten::<2>(1, 3));
        let logits = units.clone().square().matmul(self.squares[exit].val())
            + units.matmul(self.weights[exit].val())
            + self.biases[exit].val().unsqueeze_dim::<2>(0);
        match () {
            () if self.is(Mask::Steep) => logits * 100.0,
            () if self.is(Mask::Softmax) => softmax(logits, 1),
            () if self.is(Mask::Random) => {
                let [images, classes] = logits.dims();
                let noise = Numbers(PASSES.fetch_add(1, Ordering::Relaxed)).list(images * classes);
                logits + matrix(&noise, images, classes) * 0.1
            }
            () => logits,
        }
    }
}

/// Random images away from black and white, so that balls of up to 0.3 stay inside the pixel cube.
pub(crate) fn images(count: usize, shape: [usize; 3], seed: u64) -> Vec<f32> {
    let size: usize = shape.iter().product();
    Numbers(seed).list(count * size).into_iter().map(|value| 0.5 + 0.18 * value).collect()
}

pub(crate) fn batch(values: Vec<f32>, shape: [usize; 3], labels: &[i64]) -> Batch {
    let device = Device::flex();
    let [channels, height, width] = shape;
    Batch {
        pixels: Tensor::from_data(TensorData::new(values, [labels.len(), channels, height, width]), &device),
        labels: Tensor::from_data(TensorData::from(labels), &device),
        examples: (0..labels.len() as u64).map(|example| 1000 + example).collect(),
    }
}

/// Images labelled as an exit answers them.
pub(crate) fn answered(model: &impl MultiExit, count: usize, seed: u64, exit: usize) -> Batch {
    let shape = model.input_shape();
    let unlabelled = batch(images(count, shape, seed), shape, &vec![0; count]);
    let labels = model.forward_to(unlabelled.pixels.clone(), exit).argmax(1).squeeze_dim(1);
    Batch { labels, ..unlabelled }
}

pub(crate) fn part(batch: &Batch, start: usize, end: usize) -> Batch {
    Batch {
        pixels: batch.pixels.clone().narrow(0, start, end - start),
        labels: batch.labels.clone().narrow(0, start, end - start),
        examples: batch.examples[start..end].to_vec(),
    }
}

pub(crate) fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

pub(crate) fn labels(batch: &Batch) -> Vec<usize> {
    let labels: Vec<i64> = batch.labels.to_data().convert::<i64>().try_into_vec().unwrap();
    labels.into_iter().map(|label| label as usize).collect()
}
