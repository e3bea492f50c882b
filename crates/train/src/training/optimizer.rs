//! Applies Burn's optimizers parameter by parameter, with a state that is named by parameter path.
//!
//! Burn's `ModuleOptimizer` keys its state by parameter ids that are new in every process and
//! restores it on the *default* device, which a binary with several backends may not have (see
//! docs/decisions/0003-optimizer-state.md). The arithmetic of a step is Burn's own.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    Adam, AdamConfig, DynOptimizer, DynState, GradientsParams, Optimizer as _, Sgd, SgdConfig, StateSink, StateSource,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_store::burn_pack::Scalar;
use neokd_model::weights::{HostTensor, TensorMap};
use serde::{Deserialize, Serialize};

/// Which optimizer; `kind` names it. The learning rate is the schedule's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum, as PyTorch computes it (no dampening).
    Sgd {
        /// Momentum in `[0, 1)`.
        #[serde(default = "nine_tenths")]
        momentum: f64,
        /// Weight decay (L2 penalty) on all parameters.
        #[serde(default)]
        weight_decay: f64,
        /// Nesterov's momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015) with betas 0.9 and 0.999 and epsilon 1e-8.
    Adam {
        /// Weight decay (L2 penalty, not decoupled) on all parameters.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn nine_tenths() -> f64 {
    0.9
}

impl OptimizerConfig {
    /// Why this optimizer makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let (Self::Sgd { weight_decay, .. } | Self::Adam { weight_decay }) = self;
        if !(weight_decay.is_finite() && *weight_decay >= 0.0) {
            return Some(format!("weight_decay = {weight_decay}: must be a finite number, 0 or larger"));
        }
        match self {
            Self::Sgd { momentum, .. } if !(0.0..1.0).contains(momentum) => {
                Some(format!("momentum = {momentum}: must be in [0, 1)"))
            }
            _ => None,
        }
    }

    fn rule(&self) -> Rule {
        let decay = |penalty: f64| (penalty > 0.0).then(|| WeightDecayConfig::new(penalty as f32));
        match self {
            Self::Sgd { momentum, weight_decay, nesterov } => {
                let momentum = (*momentum > 0.0).then(|| {
                    MomentumConfig::new().with_momentum(*momentum).with_dampening(0.0).with_nesterov(*nesterov)
                });
                Rule::Sgd(SgdConfig::new().with_momentum(momentum).with_weight_decay(decay(*weight_decay)).build())
            }
            Self::Adam { weight_decay } => {
                Rule::Adam(AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay(*weight_decay)).build())
            }
        }
    }
}

#[derive(Clone)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

/// An optimizer and its state, one entry per parameter path.
#[derive(Clone)]
pub struct Optimizer {
    rule: Rule,
    states: BTreeMap<String, DynState>,
}

/// An optimizer's state on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Moments and velocities, named `PATH.LEAF`.
    pub tensors: TensorMap,
    /// Counters, named the same way.
    pub scalars: BTreeMap<String, i64>,
}

impl Optimizer {
    /// An optimizer that has made no step.
    pub fn new(config: &OptimizerConfig) -> Self {
        Self { rule: config.rule(), states: BTreeMap::new() }
    }

    /// Updates every parameter of `module` that has a gradient.
    pub fn step<M: Module>(&mut self, rate: f64, module: M, gradients: GradientsParams) -> M {
        let mut stepper = Stepper { optimizer: self, rate, gradients, path: Vec::new() };
        module.map(&mut stepper)
    }

    /// Copies the state to the host.
    pub fn to_state(&self) -> OptimizerState {
        let mut sink = StateSink::default();
        for (path, state) in &self.states {
            self.dynamic().state_flatten(path, state, &mut sink);
        }
        let host = |(name, data): (String, TensorData)| {
            let shape = data.shape().as_slice().to_vec();
            let values = data.convert::<f32>().try_into_vec().expect("converted to f32");
            (name, HostTensor { shape, values })
        };
        let integer = |(name, value): (String, Scalar)| Some((name, i64::try_from(value).ok()?));
        OptimizerState {
            tensors: sink.tensors.into_iter().map(host).collect(),
            scalars: sink.scalars.into_iter().filter_map(integer).collect(),
        }
    }

    /// Restores a state on `device`.
    ///
    /// # Errors
    /// The name of the first tensor that belongs to no parameter or whose parameter lacks others.
    pub fn with_state(mut self, state: OptimizerState, device: &Device) -> Result<Self, String> {
        // A counter's type is not kept on the host; Burn's states read them as unsigned.
        let scalars =
            state.scalars.into_iter().map(|(name, value)| (name, Scalar::UInt(value.unsigned_abs()))).collect();
        let mut source = StateSource::new(scalars);
        let mut ranks = BTreeMap::new();
        for (name, tensor) in state.tensors {
            let path = self.path_of(&name).ok_or_else(|| name.clone())?;
            ranks.insert(path, tensor.shape.len());
            source.insert_tensor(name, TensorData::new(tensor.values, tensor.shape));
        }
        let device = device.clone().without_autodiff();
        for (path, rank) in ranks {
            let state =
                self.dynamic().state_unflatten(rank, &path, &mut source, &device).ok_or_else(|| path.clone())?;
            self.states.insert(path, state);
        }
        Ok(self)
    }

    /// The parameter path in the name of a state's leaf, `PATH.momentum.velocity` and the like.
    fn path_of(&self, name: &str) -> Option<String> {
        let leaves: &[&str] = match self.rule {
            Rule::Sgd(_) => &[".momentum.velocity"],
            Rule::Adam(_) => &[".momentum.moment_1", ".momentum.moment_2"],
        };
        leaves.iter().find_map(|leaf| name.strip_suffix(leaf)).map(str::to_string)
    }

    fn dynamic(&self) -> &dyn DynOptimizer {
        match &self.rule {
            Rule::Sgd(rule) => rule,
            Rule::Adam(rule) => rule,
        }
    }
}

struct Stepper<'a> {
    optimizer: &'a mut Optimizer,
    rate: f64,
    gradients: GradientsParams,
    path: Vec<String>,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let path = self.path.join(".");
        let state = self.optimizer.states.remove(&path);
        let (id, tensor, mapper) = param.consume();
        let tracked = tensor.is_require_grad();
        let tensor = tensor.without_autodiff();
        let (tensor, state) = match &self.optimizer.rule {
            Rule::Sgd(rule) => {
                let (tensor, state) = rule.step(self.rate, tensor, gradient, state.map(DynState::downcast));
                (tensor, state.map(|state| DynState::create(state, D)))
            }
            Rule::Adam(rule) => {
                let (tensor, state) = rule.step(self.rate, tensor, gradient, state.map(DynState::downcast));
                (tensor, state.map(|state| DynState::create(state, D)))
            }
        };
        if let Some(state) = state {
            self.optimizer.states.insert(path, state);
        }
        Param::from_mapped_value(id, tensor.autodiff().set_require_grad(tracked), mapper)
    }
}
