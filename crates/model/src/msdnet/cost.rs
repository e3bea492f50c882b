//! What an MSDNet costs, counted from its plan alone.

use super::plan::{BottleneckPlan, LayerPlan, halve};
use super::{MsdNetConfig, Stem};
use crate::conv_norm::count_conv_norm_relu;
use crate::{CostCounter, ExitCost};

impl MsdNetConfig {
    /// Cumulative cost per exit, by the rules of the public code's counter: all of a block counts
    /// for its exit, also maps that only later exits need.
    pub fn costs(&self) -> Vec<ExitCost> {
        let mut cost = CostCounter::new();
        self.count_stem(&mut cost);
        for (block, head_inputs) in self.plan().iter().zip(self.head_inputs()) {
            for layer in block {
                self.count_layer(&mut cost, layer);
            }
            self.count_head(&mut cost, head_inputs);
            cost.exit();
        }
        cost.into_costs()
    }

    fn count_stem(&self, cost: &mut CostCounter) {
        let channels = self.stem_channels();
        match self.stem {
            Stem::Cifar => count_conv_norm_relu(cost, [3, channels[0]], 3, self.size(0)),
            Stem::Imagenet => {
                let (convolved, pooled) = (halve(self.image), self.size(0));
                cost.convolution([3, channels[0]], 7, [convolved, convolved], true).batch_norm(channels[0]);
                cost.relu(channels[0] * convolved * convolved).pool(3, channels[0] * pooled * pooled);
            }
        }
        for scale in 1..self.scales() {
            count_conv_norm_relu(cost, [channels[scale - 1], channels[scale]], 3, self.size(scale));
        }
    }

    fn count_layer(&self, cost: &mut CostCounter, layer: &LayerPlan) {
        for growth in self.growths(layer) {
            let size = self.size(growth.scale);
            if let Some(down) = growth.down {
                count_bottleneck(cost, down, [self.size(growth.scale - 1), size]);
            }
            count_bottleneck(cost, growth.same, [size, size]);
        }
        for (scale, channels) in self.transitions(layer) {
            count_conv_norm_relu(cost, channels, 1, self.size(scale));
        }
    }

    fn count_head(&self, cost: &mut CostCounter, inputs: usize) {
        let (channels, sizes) = (self.head_channels(inputs), self.head_sizes());
        count_conv_norm_relu(cost, [inputs, channels], 3, sizes[0]);
        count_conv_norm_relu(cost, [channels, channels], 3, sizes[1]);
        cost.pool(2, channels * sizes[2] * sizes[2]).linear(channels, self.classes);
    }
}

fn count_bottleneck(cost: &mut CostCounter, plan: BottleneckPlan, sizes: [usize; 2]) {
    let [inputs, inner, outputs] = plan.channels;
    count_conv_norm_relu(cost, [inputs, inner], 1, sizes[0]);
    count_conv_norm_relu(cost, [inner, outputs], 3, sizes[1]);
}
