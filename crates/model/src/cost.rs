//! What it costs to answer at an exit: multiply-adds and parameters.

use serde::{Deserialize, Serialize};

/// Cost of answering at one exit, for one image, cumulative: everything up to and including this
/// exit's head, the heads of earlier exits included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCost {
    /// Multiply-adds by the rule of the public MSDNet code, which published figures use:
    /// convolutions `in * out * k * k * height * width / groups` without bias; linear layers
    /// weights and biases; ReLU one per element; pooling `k * k` per output element; batch-norm 0.
    pub multiply_adds: u64,
    /// Multiply-adds of convolution and linear weights alone.
    pub weight_multiply_adds: u64,
    /// Trainable parameters; running statistics do not count.
    pub parameters: u64,
}

/// Adds up layers in the order in which they run and notes the running total at each exit.
///
/// Sums stay at the largest number instead of wrapping, so that a configuration of absurd size,
/// which may come with a hostile file, is recognised by its cost before anything is allocated.
#[derive(Debug, Default)]
pub struct CostCounter {
    total: ExitCost,
    exits: Vec<ExitCost>,
}

impl CostCounter {
    /// A counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// A square convolution from `channels[0]` to `channels[1]`, with output `size = [height, width]`.
    pub fn convolution(&mut self, channels: [usize; 2], kernel: usize, size: [usize; 2], bias: bool) -> &mut Self {
        let weights = product(&[channels[0], channels[1], kernel, kernel]);
        let biases = if bias { channels[1] as u64 } else { 0 };
        self.add_weights(weights, weights.saturating_mul(product(&size)), biases)
    }

    /// A batch-norm of `channels`: parameters, no multiply-adds.
    pub fn batch_norm(&mut self, channels: usize) -> &mut Self {
        self.add_weights(0, 0, product(&[2, channels]))
    }

    /// A ReLU over `elements`.
    pub fn relu(&mut self, elements: usize) -> &mut Self {
        self.add_work(elements as u64)
    }

    /// Pooling with a `kernel * kernel` window and `outputs` output elements.
    pub fn pool(&mut self, kernel: usize, outputs: usize) -> &mut Self {
        self.add_work(product(&[kernel, kernel, outputs]))
    }

    /// A linear layer with bias.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> &mut Self {
        let weights = product(&[inputs, outputs]);
        self.add_weights(weights, weights, outputs as u64).add_work(outputs as u64)
    }

    fn add_weights(&mut self, weights: u64, work: u64, other_parameters: u64) -> &mut Self {
        let total = &mut self.total;
        total.weight_multiply_adds = total.weight_multiply_adds.saturating_add(work);
        total.parameters = total.parameters.saturating_add(weights).saturating_add(other_parameters);
        self.add_work(work)
    }

    fn add_work(&mut self, work: u64) -> &mut Self {
        self.total.multiply_adds = self.total.multiply_adds.saturating_add(work);
        self
    }

    /// Everything counted so far is what this exit costs.
    pub fn exit(&mut self) -> &mut Self {
        self.exits.push(self.total);
        self
    }

    /// The cumulative costs, one per exit.
    pub fn into_costs(self) -> Vec<ExitCost> {
        self.exits
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, factor| product.saturating_mul(*factor as u64))
}
