//! ARD: adversarially robust distillation (Goldblum et al. 2020) from the last exit to all exits
//! (NEO-KD, appendix G; docs/papers/baselines.md section 3).

use serde::{Deserialize, Serialize};

use crate::distillation::{Averaged, Distillation};
use crate::exit_loss::finite_and_not_negative;
use crate::{AdversarialTraining, ExitLoss, LossInput, LossTerms, Teacher, Term};

/// Settings of [`Ard`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArdConfig {
    /// Weight of the distillation; 1 by default, to be swept over 0.35 to 3.
    pub lambda: f64,
    /// Temperature; 1 by default. The single-exit original has 30, with a term that its code divides
    /// by the number of classes as well.
    pub temperature: f64,
    /// Who teaches: the last exit (NEO-KD, appendix G); table A4 there tries another exit and all.
    pub teacher: Teacher,
    /// What is averaged where several exits teach.
    pub averaged: Averaged,
    /// The cross-entropy terms beside the distillation.
    pub base: AdversarialTraining,
}

impl Default for ArdConfig {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            temperature: 1.0,
            teacher: Teacher::Last,
            averaged: Averaged::Softmax,
            base: AdversarialTraining::default(),
        }
    }
}

/// ```text
/// sum_i [ CE(f_i(x), y) + CE(f_i(x'), y) ] + lambda sum_i H(softmax f_L(x), f_i(x'))
/// ```
///
/// The last exit's clean answer teaches every exit's adversarial answer, its own included; it gets no
/// gradient from it. This is NKD with another teacher and without EOKD.
#[derive(Clone, Debug)]
pub struct Ard {
    config: ArdConfig,
    distillation: Distillation,
}

impl Ard {
    /// The loss for a network with `exits` exits.
    ///
    /// # Errors
    /// A sentence that names the key, its value and the cure.
    pub fn new(config: ArdConfig, exits: usize) -> Result<Self, String> {
        finite_and_not_negative("lambda", config.lambda)?;
        config.base.validate()?;
        let distillation = Distillation::new(&config.teacher, config.averaged, config.temperature, exits)?;
        Ok(Self { config, distillation })
    }
}

impl ExitLoss for Ard {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = self.distillation.exits();
        assert_eq!(input.clean.len(), exits, "the loss was made for {exits} exits");
        let teachers = self.distillation.teachers(input.clean);
        let pairs = input.adversarial.iter().zip(&teachers);
        let taught = pairs.map(|(student, teacher)| self.distillation.teach(student, teacher)).collect();
        let mut loss = self.config.base.terms(input);
        loss.terms.push(Term::new("ard", taught, vec![self.config.lambda; exits]));
        loss
    }

    /// That of its cross-entropies against labels, and `K lambda`: 9 for three exits.
    fn weight_sum(&self, exits: usize) -> f64 {
        self.config.base.weight_sum(exits) + exits as f64 * self.config.lambda
    }
}
