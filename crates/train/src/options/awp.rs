//! AWP: adversarial weight perturbation (Wu, Xia and Wang 2020, "Adversarial weight perturbation helps
//! robust generalization").

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use neokd_distill::LossConfig;
use serde::{Deserialize, Serialize};

/// Length below which a gradient gives no direction; a layer before one of zeros has none at all.
const NO_GRADIENT: f64 = 1e-12;

/// Settings of AWP; off unless the section is there. It costs two more gradient passes per image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwpConfig {
    /// Size of a layer's perturbation relative to its weights; absent: what the authors' code has for the loss, 0.005
    /// for TRADES (TRADES-AWP) and 0.01 for adversarial training (AT-AWP) and all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Share of the training after which it acts; 0 by default, the authors wait some epochs.
    pub start: f64,
}

impl Default for AwpConfig {
    fn default() -> Self {
        Self { gamma: None, start: 0.0 }
    }
}

impl AwpConfig {
    /// Why this makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        if let Some(gamma) = self.gamma.filter(|gamma| !(gamma.is_finite() && *gamma > 0.0)) {
            return Some(format!("gamma = {gamma}: must be a finite number larger than 0"));
        }
        let fine = (0.0..1.0).contains(&self.start);
        (!fine).then(|| format!("start = {}: must be in [0, 1), a share of the training", self.start))
    }

    /// The size of a perturbation for a loss.
    pub fn gamma(&self, loss: &LossConfig) -> f64 {
        self.gamma.unwrap_or(match loss {
            LossConfig::Trades(_) | LossConfig::TradesTe(_) => 5e-3,
            _ => 1e-2,
        })
    }
}

/// The network with each weight tensor `w` moved up its loss gradient `g`, relative to its size:
/// `w + gamma ||w|| g / ||g||` (equation 10). Biases and batch-norm stay, as in the authors' code.
///
/// Parameters keep their identity, so that gradients taken there can be applied to `model`.
pub fn worst_neighbour<M: Module>(model: M, gradients: GradientsParams, gamma: f64) -> M {
    model.map(&mut Uphill { gamma, gradients })
}

struct Uphill {
    gamma: f64,
    gradients: GradientsParams,
}

impl ModuleMapper for Uphill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = if D > 1 { self.gradients.remove::<D>(param.id) } else { None };
        let Some(gradient) = gradient else {
            return param;
        };
        let (id, weight, mapper) = param.consume();
        let tracked = weight.is_require_grad();
        let weight = weight.without_autodiff();
        let scale = length(&weight) / length(&gradient).clamp_min(NO_GRADIENT);
        let step = gradient * scale.mul_scalar(self.gamma).reshape([1; D]);
        Param::from_mapped_value(id, (weight + step).autodiff().set_require_grad(tracked), mapper)
    }
}

fn length<const D: usize>(tensor: &Tensor<D>) -> Tensor<1> {
    tensor.clone().square().sum().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_authors_code_for_the_loss() {
        let gamma = |loss: &str, awp: &str| {
            let (loss, awp): (LossConfig, AwpConfig) = (toml::from_str(loss).unwrap(), toml::from_str(awp).unwrap());
            awp.gamma(&loss)
        };
        assert_eq!(gamma("kind = 'trades'", ""), 0.005);
        assert_eq!(gamma("kind = 'adversarial-training'", ""), 0.01);
        assert_eq!(gamma("kind = 'trades'", "gamma = 0.02"), 0.02);
    }
}
