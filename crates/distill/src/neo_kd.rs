//! NEO-KD: neighbour knowledge distillation and exit-wise orthogonal knowledge distillation
//! (Ham et al., NeurIPS 2023, section 3.2; docs/papers/neo-kd.md section 2).

use serde::{Deserialize, Serialize};

use crate::distillation::{Averaged, Distillation};
use crate::exit_loss::finite_and_not_negative;
use crate::{
    AdversarialTraining, ExitLoss, LossInput, LossTerms, Partition, PartitionConfig, Teacher, Term, orthogonal_labels,
};

/// Settings of [`NeoKd`]. Defaults: alpha 3, beta 1 and the teacher as the paper gives them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeoKdConfig {
    /// Weight of NKD; 3 in the paper (A.2). At 0 it is not computed: EOKD only.
    pub alpha: f64,
    /// Weight of EOKD; 1 in the paper (A.2). At 0 it is not computed: NKD only.
    pub beta: f64,
    /// Weight of both at each exit; empty means 1 everywhere. The paper has `[1, 1, 1]` for three
    /// exits, 1.5 for the last two of five and the last four of seven (A.2).
    pub gamma: Vec<f64>,
    /// Whose clean answers NKD distils.
    pub teacher: Teacher,
    /// What is averaged where several exits teach; probabilities by default.
    pub averaged: Averaged,
    /// Temperature of both distillations, teacher and student; 1 by default, as the readable parts of
    /// the paper mention none (docs/papers/neo-kd.md section 8, point 10).
    pub temperature: f64,
    /// Which wrong classes each exit keeps in EOKD, and when that is redrawn.
    pub partition: PartitionConfig,
    /// The cross-entropy terms beside the distillation.
    pub base: AdversarialTraining,
}

impl Default for NeoKdConfig {
    fn default() -> Self {
        Self {
            alpha: 3.0,
            beta: 1.0,
            gamma: Vec::new(),
            teacher: Teacher::default(),
            averaged: Averaged::Softmax,
            temperature: 1.0,
            partition: PartitionConfig::default(),
            base: AdversarialTraining::default(),
        }
    }
}

/// ```text
/// sum_i [ CE(f_i(x), y) + CE(f_i(x'), y) + gamma_i (alpha NKD_i + beta EOKD_i) ]
/// NKD_i  = H( mean of the neighbours' softmax f_k(x),  f_i(x') )
/// EOKD_i = H( O_i(softmax f_i(x)),                     f_i(x') )
/// ```
///
/// with `H(t, f) = -sum_c t_c log softmax(f)_c`, batch means, and no gradient into the clean
/// answers that teach. `O_i` keeps the true class and exit i's own part of the wrong classes, see
/// [`orthogonal_labels`].
///
/// Remembered or chosen, not read in the paper (docs/papers/neo-kd.md sections 2.4 and 8): softmax is averaged
/// rather than logits, temperature 1, the teacher is detached, the partition is redrawn per visit. All
/// but the detaching are options. At another temperature T both distillations are
/// `T^2 H(softmax(./T), ./T)`.
#[derive(Clone, Debug)]
pub struct NeoKd {
    config: NeoKdConfig,
    gamma: Vec<f64>,
    distillation: Distillation,
}

impl NeoKd {
    /// The loss for a network with `exits` exits.
    ///
    /// # Errors
    /// A sentence that names the key, its value and the cure.
    pub fn new(config: NeoKdConfig, exits: usize) -> Result<Self, String> {
        finite_and_not_negative("alpha", config.alpha)?;
        finite_and_not_negative("beta", config.beta)?;
        config.base.validate()?;
        let gamma = match config.gamma.is_empty() {
            true => vec![1.0; exits],
            false => config.gamma.clone(),
        };
        if gamma.len() != exits {
            return Err(format!(
                "gamma has {} values, but the network has {exits} exits: give one per exit",
                gamma.len()
            ));
        }
        for value in &gamma {
            finite_and_not_negative("gamma", *value)?;
        }
        let distillation = Distillation::new(&config.teacher, config.averaged, config.temperature, exits)?;
        Ok(Self { config, gamma, distillation })
    }

    /// The terms with a given partition; [`ExitLoss::terms`] draws one.
    pub fn terms_with(&self, input: LossInput<'_>, partition: &Partition) -> LossTerms {
        let exits = self.gamma.len();
        assert_eq!(input.clean.len(), exits, "the loss was made for {exits} exits");
        let weights = |factor: f64| self.gamma.iter().map(|gamma| gamma * factor).collect();
        let students = || input.adversarial.iter();

        let mut loss = self.config.base.terms(input);
        if self.config.alpha > 0.0 {
            let teachers = self.distillation.teachers(input.clean);
            let nkd = students().zip(&teachers).map(|(student, teacher)| self.distillation.teach(student, teacher));
            loss.terms.push(Term::new("nkd", nkd.collect(), weights(self.config.alpha)));
        }
        if self.config.beta > 0.0 {
            let answers = self.distillation.answers(input.clean);
            let labels = answers.iter().enumerate().map(|(exit, answer)| orthogonal_labels(answer, partition, exit));
            let eokd = students().zip(labels).map(|(student, label)| self.distillation.teach(student, &label));
            loss.terms.push(Term::new("eokd", eokd.collect(), weights(self.config.beta)));
        }
        loss
    }
}

impl ExitLoss for NeoKd {
    fn terms(&self, input: LossInput<'_>) -> LossTerms {
        let logits = &input.clean[0];
        let (exits, classes) = (self.gamma.len(), logits.dims()[1]);
        let partition = Partition::draw(self.config.partition, input.draw, exits, classes, &logits.device());
        self.terms_with(input, &partition)
    }

    /// That of its cross-entropies against labels, and `gamma_i (alpha + beta)` for every exit: 18 for three, and
    /// 50 for the paper's seven.
    fn weight_sum(&self, exits: usize) -> f64 {
        let distilled = self.gamma.iter().sum::<f64>() * (self.config.alpha + self.config.beta);
        self.config.base.weight_sum(exits) + distilled
    }
}
