//! SKD: self-distillation from the last exit (Phuong and Lampert 2019; Li et al. 2019), in the
//! adversarial setting (NEO-KD, appendix G; docs/papers/baselines.md section 2).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::distillation::{Averaged, Distillation};
use crate::exit_loss::finite_and_not_negative;
use crate::{AdversarialTraining, ExitLoss, LossInput, LossTerms, Teacher, Term};

/// Settings of [`Skd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SkdConfig {
    /// Weight of the distillation; 1 by default, to be swept over 0.35 to 3 as NEO-KD sweeps its own
    /// (docs/papers/baselines.md section 2). The clean-data original has 0.5, and 0.5 in `base`.
    pub lambda: f64,
    /// Temperature; 1 by default, 4 in the clean-data original.
    pub temperature: f64,
    /// Who teaches: the last exit (NEO-KD, appendix G); table A4 there tries another exit and all.
    pub teacher: Teacher,
    /// What is averaged where several exits teach.
    pub averaged: Averaged,
    /// Whether exits also learn from the teacher's answer to the adversarial image; yes by default,
    /// as what the paper reports (transferability rises) does not follow from clean pairs alone
    /// (docs/papers/neo-kd.md section 8, point 16).
    pub adversarial_pairs: bool,
    /// The cross-entropy terms beside the distillation.
    pub base: AdversarialTraining,
}

impl Default for SkdConfig {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            temperature: 1.0,
            teacher: Teacher::Last,
            averaged: Averaged::Softmax,
            adversarial_pairs: true,
            base: AdversarialTraining::default(),
        }
    }
}

/// ```text
/// sum_i [ CE(f_i(x), y) + CE(f_i(x'), y) ]
///     + lambda sum_{i<L} [ H(softmax f_L(x), f_i(x)) + H(softmax f_L(x'), f_i(x')) ]
/// ```
///
/// Clean teaches clean, adversarial teaches adversarial; the teacher gets no gradient from it. An
/// exit whose only teacher is itself has nothing to learn and is left out, so that its term is zero.
#[derive(Clone, Debug)]
pub struct Skd {
    config: SkdConfig,
    distillation: Distillation,
}

impl Skd {
    /// The loss for a network with `exits` exits.
    ///
    /// # Errors
    /// A sentence that names the key, its value and the cure.
    pub fn new(config: SkdConfig, exits: usize) -> Result<Self, String> {
        finite_and_not_negative("lambda", config.lambda)?;
        config.base.validate()?;
        let distillation = Distillation::new(&config.teacher, config.averaged, config.temperature, exits)?;
        if exits > 1 && (0..exits).all(|exit| distillation.only_itself(exit)) {
            return Err("teacher.kind = \"own\": no exit would learn from another; take last, all or exit".to_string());
        }
        Ok(Self { config, distillation })
    }

    fn taught(&self, logits: &[Tensor<2>]) -> Vec<Tensor<1>> {
        let teachers = self.distillation.teachers(logits);
        let pairs = logits.iter().zip(&teachers).enumerate();
        pairs.map(|(exit, (student, teacher))| self.learn(exit, student, teacher)).collect()
    }

    fn learn(&self, exit: usize, student: &Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
        match self.distillation.only_itself(exit) {
            true => Tensor::zeros([student.dims()[0]], &student.device()),
            false => self.distillation.teach(student, teacher),
        }
    }
}

impl ExitLoss for Skd {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let exits = self.distillation.exits();
        assert_eq!(input.clean.len(), exits, "the loss was made for {exits} exits");
        let weights = vec![self.config.lambda; exits];
        let mut loss = self.config.base.terms(input);
        loss.terms.push(Term::new("skd_clean", self.taught(input.clean), weights.clone()));
        if self.config.adversarial_pairs {
            loss.terms.push(Term::new("skd_adversarial", self.taught(input.adversarial), weights));
        }
        loss
    }

    /// That of its cross-entropies against labels, and lambda for every exit that is taught, twice with
    /// adversarial pairs: 10 for three exits.
    fn weight_sum(&self, exits: usize) -> f64 {
        let taught = (0..exits).filter(|&exit| !self.distillation.only_itself(exit)).count() as f64;
        let pairs = if self.config.adversarial_pairs { 2.0 } else { 1.0 };
        self.config.base.weight_sum(exits) + pairs * taught * self.config.lambda
    }
}
