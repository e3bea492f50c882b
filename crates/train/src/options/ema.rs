//! A running average of a network's weights: smoother, and often more robust, than the weights of any
//! single step (Izmailov et al. 2018; for adversarial training Gowal et al. 2020, section 3.4).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Settings of an exponential moving average; off unless the section is there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmaConfig {
    /// Each step makes the average `decay * average + (1 - decay) * weights`; 0.999 by default.
    pub decay: f64,
    /// Start with a smaller decay, `min(decay, (1 + step) / (10 + step))`, so that the initial weights
    /// are soon forgotten; yes by default.
    pub warm_up: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999, warm_up: true }
    }
}

impl EmaConfig {
    /// Why this makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let fine = (0.0..1.0).contains(&self.decay);
        (!fine).then(|| format!("decay = {}: must be in [0, 1)", self.decay))
    }

    fn decay_at(&self, step: u64) -> f64 {
        let warm = (1 + step) as f64 / (10 + step) as f64;
        if self.warm_up { self.decay.min(warm) } else { self.decay }
    }

    /// Moves `average` towards `model` after step `step` (from 0): parameters and batch-norm
    /// statistics alike. `average` must share nothing with `model`: take `model.valid()` to start.
    pub fn update<M: Module>(&self, average: M, model: &M, step: u64) -> M {
        let mut live = Flattened::default();
        // Batch-norm holds back its newest statistics until a copy is made.
        model.valid().visit(&mut live);
        average.map(&mut Towards { decay: self.decay_at(step), live: live.0.into_iter() })
    }
}

/// All tensors of a module in the order of a visit, flattened.
#[derive(Default)]
struct Flattened(Vec<Tensor<1>>);

impl ModuleVisitor for Flattened {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().reshape([-1]));
    }
}

struct Towards {
    decay: f64,
    live: std::vec::IntoIter<Tensor<1>>,
}

impl ModuleMapper for Towards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let live = self.live.next().expect("the average has the tensors of its network");
        let (id, average, mapper) = param.consume();
        let live = live.reshape(average.dims());
        let moved = average.mul_scalar(self.decay) + live.mul_scalar(1.0 - self.decay);
        Param::from_mapped_value(id, moved, mapper)
    }
}
