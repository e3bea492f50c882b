//! A loss as named terms, one value per exit each.

use burn::tensor::Tensor;

/// One named part of a loss.
#[derive(Clone, Debug)]
pub struct Term {
    /// What the log calls it.
    pub name: &'static str,
    /// Batch mean per exit, unweighted: `[exits]`.
    pub values: Tensor<1>,
    /// Weight of each exit's value in the total.
    pub weights: Vec<f64>,
}

impl Term {
    /// A term from one `[batch]` tensor per exit, with one weight per exit.
    pub fn new(name: &'static str, per_exit: Vec<Tensor<1>>, weights: Vec<f64>) -> Self {
        assert_eq!(per_exit.len(), weights.len(), "one weight per exit");
        let means = per_exit.into_iter().map(|exit| exit.mean()).collect();
        Self { name, values: Tensor::cat(means, 0), weights }
    }
}

/// All terms of a loss.
#[derive(Clone, Debug)]
pub struct LossTerms {
    /// The terms, in the order in which they are logged.
    pub terms: Vec<Term>,
}

impl LossTerms {
    /// What is differentiated: the weighted sum over terms and exits, `[1]`.
    pub fn total(&self) -> Tensor<1> {
        let sums = self.terms.iter().map(|term| {
            let weights = Tensor::from_floats(
                term.weights.iter().map(|weight| *weight as f32).collect::<Vec<_>>().as_slice(),
                &term.values.device().without_autodiff(),
            );
            (term.values.clone() * weights).sum()
        });
        sums.reduce(|sum, term| sum + term).expect("a loss has at least one term")
    }

    /// The values of all terms in one tensor `[terms * exits]`, detached: one read for the log.
    pub fn for_log(&self) -> Tensor<1> {
        Tensor::cat(self.terms.iter().map(|term| term.values.clone().without_autodiff()).collect(), 0)
    }
}
