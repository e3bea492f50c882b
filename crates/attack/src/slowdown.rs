//! The slow-down attack (after DeepSloth, Hong et al. 2021, arXiv 2010.02432): make every exit that
//! could let an image leave as unsure as possible, so that the image pays for the whole network.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use neokd_model::{ExitLogits, Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::loss::cross_entropy;
use crate::objective::Objective;
use crate::passes::Passes;
use crate::pgd::Pgd;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::{Batch, Threat};

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

/// PGD that pushes exits towards the uniform distribution. It looks at all exits but the last, where
/// everybody leaves; it has no target, as it is not about one exit's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// Steps, starts and runs.
    pub pgd: Pgd,
    /// What is to be achieved.
    pub goal: SlowdownGoal,
}

impl Slowdown {
    /// Searches for pixels in the ball at which the exits are least sure.
    ///
    /// # Errors
    /// As [`Pgd::search`].
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        self.pgd.search(model, batch, &self.goal, threat, key)
    }
}

/// Minus the mean over the deciding exits of `KL(uniform || p)`, which is 0 where each is uniform; plus
/// the last exit's cross-entropy if that is to be wrong.
impl Objective for SlowdownGoal {
    fn exits(&self, exits: usize) -> Vec<usize> {
        match self {
            Self::Slow => (0..deciding(exits)).collect(),
            Self::SlowAndWrong => (0..exits).collect(),
        }
    }

    fn value(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1> {
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
