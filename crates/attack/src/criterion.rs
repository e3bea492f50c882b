//! What counts as broken.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::ExitLogits;

/// When an image counts as broken, given the answers of the exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// This exit answers wrong.
    Exit(usize),
    /// At least one exit answers wrong.
    AnyExit,
    /// Every exit answers wrong.
    AllExits,
}

impl Criterion {
    /// Which images are broken.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`; output: `[batch]`
    ///
    /// # Panics
    /// If the logits of the exit in question were not computed.
    pub fn broken(&self, logits: &ExitLogits, labels: &Tensor<1, Int>) -> Tensor<1, Bool> {
        let correct = logits.correct(labels);
        match self {
            Self::Exit(exit) => {
                let row =
                    logits.exits().iter().position(|computed| computed == exit).expect("logits of the judged exit");
                correct.narrow(0, row, 1).squeeze_dim::<1>(0).equal_scalar(0)
            }
            Self::AnyExit => correct.min_dim(0).squeeze_dim::<1>(0).equal_scalar(0),
            Self::AllExits => correct.max_dim(0).squeeze_dim::<1>(0).equal_scalar(0),
        }
    }
}
