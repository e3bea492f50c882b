//! Seeded initial weights, independent of the device and of any global random generator.

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Activation;

/// Draws the initial weights of a network in the order in which its layers are made.
///
/// The numbers come from ChaCha8 on the host, so that a seed gives the same network on every device.
#[derive(Debug)]
pub struct Initializer {
    random: ChaCha8Rng,
    device: Device,
    activation: Activation,
}

impl Initializer {
    /// An initializer that draws from `seed` and places parameters on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), device: device.clone(), activation: Activation::default() }
    }

    /// The same for a network with this activation.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The activation of the network.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The device on which parameters are placed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A square convolution with Kaiming-normal weights (fan-in, gain of ReLU: standard deviation
    /// `sqrt(2 / fan_in)`; He et al. 2015) and zero bias.
    pub fn kaiming_convolution(&mut self, channels: [usize; 2], kernel: usize, stride: usize) -> Conv2d {
        let fan_in = channels[0] * kernel * kernel;
        let mut conv = bare_convolution(channels, kernel, stride, PaddingConfig2d::Valid, true, &self.device);
        conv.weight = self.normal([channels[1], channels[0], kernel, kernel], (2.0 / fan_in as f64).sqrt());
        conv.bias = Some(self.zeros([channels[1]]));
        conv
    }

    /// A square convolution as PyTorch initialises it, padded by half its kernel: weight, and bias if
    /// asked for, uniform in `+-1 / sqrt(fan_in)`.
    pub fn uniform_convolution(&mut self, channels: [usize; 2], kernel: usize, stride: usize, bias: bool) -> Conv2d {
        let bound = 1.0 / ((channels[0] * kernel * kernel) as f64).sqrt();
        let mut conv = bare_convolution(channels, kernel, stride, half(kernel), bias, &self.device);
        conv.weight = self.uniform([channels[1], channels[0], kernel, kernel], bound);
        conv.bias = bias.then(|| self.uniform([channels[1]], bound));
        conv
    }

    /// A square convolution without bias, padded by half its kernel, with normal weights of standard
    /// deviation `sqrt(2 / fan_out)`, `fan_out = outputs * kernel * kernel` (He et al. 2015).
    pub fn fan_out_convolution(&mut self, channels: [usize; 2], kernel: usize, stride: usize) -> Conv2d {
        let fan_out = channels[1] * kernel * kernel;
        let mut conv = bare_convolution(channels, kernel, stride, half(kernel), false, &self.device);
        conv.weight = self.normal([channels[1], channels[0], kernel, kernel], (2.0 / fan_out as f64).sqrt());
        conv
    }

    /// A batch-norm with weight 1, bias 0, running mean 0 and running variance 1.
    pub fn batch_norm(&self, channels: usize) -> BatchNorm {
        BatchNormConfig::new(channels).init(&self.device)
    }

    /// A linear layer as PyTorch initialises it: weight and bias uniform in `+-1 / sqrt(fan_in)`.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let bound = 1.0 / (inputs as f64).sqrt();
        let mut linear = LinearConfig::new(inputs, outputs).init(&self.device);
        linear.weight = self.uniform([inputs, outputs], bound);
        linear.bias = Some(self.uniform([outputs], bound));
        linear
    }

    /// A linear layer of zeros: its logits start uniform.
    pub fn zero_linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let mut linear = LinearConfig::new(inputs, outputs).init(&self.device);
        linear.weight = self.zeros([inputs, outputs]);
        linear.bias = Some(self.zeros([outputs]));
        linear
    }

    fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let values = (0..shape.iter().product()).map(|_| ((2.0 * self.unit() - 1.0) * bound) as f32).collect();
        self.param(values, shape)
    }

    fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f64) -> Param<Tensor<D>> {
        let values = (0..shape.iter().product()).map(|_| (self.gaussian() * deviation) as f32).collect();
        self.param(values, shape)
    }

    fn zeros<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.param(vec![0.0; shape.iter().product()], shape)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Uniform in `[0, 1)` with 53 bits.
    fn unit(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal by Box and Muller.
    fn gaussian(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Padding that keeps the size of a map under an odd kernel of stride 1.
fn half(kernel: usize) -> PaddingConfig2d {
    let rows = kernel / 2;
    PaddingConfig2d::Explicit(rows, rows, rows, rows)
}

fn bare_convolution(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: PaddingConfig2d,
    bias: bool,
    device: &Device,
) -> Conv2d {
    // The lazily initialised parameters made here are replaced before anything reads them.
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(padding)
        .with_bias(bias)
        .init(device)
}
