//! MART on every exit (Wang et al. 2020, "Improving adversarial robustness requires revisiting
//! misclassified examples", equation 11).

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::exit_loss::finite_and_not_negative;
use crate::{ExitLoss, LossInput, LossTerms, Term, divergence};

/// Keeps the logarithm of the margin finite where a wrong class has probability one; the authors'
/// code has the same constant.
const ABOVE_ONE: f64 = 1.0001;

/// Settings of [`Mart`], which is the loss itself.
///
/// ```text
/// sum_i [ BCE(p_i(x'), y) + lambda KL(p_i(x) || p_i(x')) (1 - p_i(x)_y) ]
/// BCE(p, y) = -log p_y - log(1 - max_{c != y} p_c)
/// ```
///
/// with `p_i = softmax f_i`. Nothing is detached, as in the authors' code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mart {
    /// Weight of the divergence; 5 in the paper.
    pub lambda: f64,
}

impl Default for Mart {
    fn default() -> Self {
        Self { lambda: 5.0 }
    }
}

impl Mart {
    pub(crate) fn validate(&self) -> Result<(), String> {
        finite_and_not_negative("lambda", self.lambda)
    }
}

impl ExitLoss for Mart {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = input.clean.len();
        let boosted = input.adversarial.iter().map(|moved| input.entropy(moved) + margin(moved, &input));
        let pairs = input.clean.iter().zip(input.adversarial);
        let weighted = pairs.map(|(clean, moved)| divergence(clean, moved) * doubt(clean, &input));
        LossTerms {
            terms: vec![
                Term::new("bce_adversarial", boosted.collect(), vec![1.0; exits]),
                Term::new("kl_misclassified", weighted.collect(), vec![self.lambda; exits]),
            ],
        }
    }

    /// One an exit, of the boosted cross-entropy: 3 for three. Its margin is small where no class is likely yet.
    fn weight_sum(&self, exits: usize) -> f64 {
        exits as f64
    }
}

/// `-log(1 - max_{c != y} p_c)` of each image.
fn margin(logits: &Tensor<2>, input: &LossInput<'_>) -> Tensor<1> {
    let probabilities = softmax(logits.clone(), 1);
    let shape = probabilities.dims();
    let device = input.labels.device();
    let classes = Tensor::<1, Int>::arange(0..shape[1] as i64, &device).unsqueeze_dim::<2>(0).expand(shape);
    let truth = classes.equal(input.labels.clone().unsqueeze_dim::<2>(1).expand(shape));
    let wrong = probabilities.clone().without_autodiff().mask_fill(truth, -1.0);
    let worst = probabilities.gather(1, wrong.argmax(1));
    worst.neg().add_scalar(ABOVE_ONE).log().neg().squeeze_dim::<1>(1)
}

/// `1 - p_y` of each image.
fn doubt(logits: &Tensor<2>, input: &LossInput<'_>) -> Tensor<1> {
    let truth = softmax(logits.clone(), 1).gather(1, input.labels.clone().unsqueeze_dim(1));
    truth.neg().add_scalar(1.0).squeeze_dim::<1>(1)
}
