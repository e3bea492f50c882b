//! What a slow-down is to achieve, which is not about right and wrong.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use neokd_model::ExitLogits;
use serde::{Deserialize, Serialize};

use super::loss::cross_entropy;

/// What a slow-down is to achieve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowdownGoal {
    /// Nobody leaves early.
    #[default]
    Slow,
    /// Nobody leaves early, and the last exit answers wrong.
    SlowAndWrong,
}

impl SlowdownGoal {
    /// As configuration files, flags and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::SlowAndWrong => "slow-and-wrong",
        }
    }

    /// The exits whose logits [`value`](Self::value) needs, ascending: all but the last, where everybody leaves,
    /// unless that is to be wrong.
    pub fn exits(self, exits: usize) -> Vec<usize> {
        match self {
            Self::Slow => (0..deciding(exits)).collect(),
            Self::SlowAndWrong => (0..exits).collect(),
        }
    }

    /// Minus the mean over the deciding exits of `KL(uniform || p)`, which is 0 where each is uniform; plus
    /// the last exit's cross-entropy if that is to be wrong.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    pub fn value(self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
        let rows = logits.as_slice();
        match self {
            Self::Slow => unsureness(rows),
            Self::SlowAndWrong => {
                unsureness(&rows[..deciding(rows.len())]) + cross_entropy(&rows[rows.len() - 1], labels)
            }
        }
    }
}

/// How many exits, from the first, can make an image leave early; of a single exit it is that one.
fn deciding(exits: usize) -> usize {
    (exits - 1).max(1)
}

fn unsureness(exits: &[Tensor<2>]) -> Tensor<1> {
    let classes = exits[0].dims()[1] as f64;
    let each = exits.iter().map(|exit| log_softmax(exit.clone(), 1).mean_dim(1).squeeze_dim::<1>(1));
    let sum = each.reduce(|sum, exit| sum + exit).expect("a network has at least one exit");
    sum.div_scalar(exits.len() as f64).add_scalar(classes.ln())
}
