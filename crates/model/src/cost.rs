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
        let weights = (channels[0] * channels[1] * kernel * kernel) as u64;
        let work = weights * (size[0] * size[1]) as u64;
        self.total.multiply_adds += work;
        self.total.weight_multiply_adds += work;
        self.total.parameters += weights + if bias { channels[1] as u64 } else { 0 };
        self
    }

    /// A batch-norm of `channels`: parameters, no multiply-adds.
    pub fn batch_norm(&mut self, channels: usize) -> &mut Self {
        self.total.parameters += 2 * channels as u64;
        self
    }

    /// A ReLU over `elements`.
    pub fn relu(&mut self, elements: usize) -> &mut Self {
        self.total.multiply_adds += elements as u64;
        self
    }

    /// Pooling with a `kernel * kernel` window and `outputs` output elements.
    pub fn pool(&mut self, kernel: usize, outputs: usize) -> &mut Self {
        self.total.multiply_adds += (kernel * kernel * outputs) as u64;
        self
    }

    /// A linear layer with bias.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> &mut Self {
        let weights = (inputs * outputs) as u64;
        self.total.multiply_adds += weights + outputs as u64;
        self.total.weight_multiply_adds += weights;
        self.total.parameters += weights + outputs as u64;
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
