//! The attack that makes the adversarial batch of a training step: PGD, or a single step.

use burn::tensor::Tensor;
use neokd_attack::{
    Adversarial, Attack, AttackConfig, AttackError, Batch, FgsmConfig, Pgd, PgdConfig, RandomKey, Target, Threat,
};
use neokd_model::{Frozen, MultiExit};
use serde::{Deserialize, Serialize};

/// An attack for training in a configuration file; `kind` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TrainingAttackConfig {
    /// Projected gradient descent (Madry et al. 2018).
    Pgd(PgdConfig),
    /// One step of length epsilon from the clean image (Goodfellow et al. 2015). Prone to catastrophic
    /// overfitting.
    Fgsm(FgsmConfig),
    /// One long step from a random start, projected ("Fast is better than free", Wong et al. 2020).
    FgsmRs(FgsmRsConfig),
    /// One step from a strongly noised image, not projected (de Jorge et al. 2022, "Make some noise").
    NFgsm(NFgsmConfig),
}

/// Settings of [`TrainingAttackConfig::FgsmRs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FgsmRsConfig {
    /// `single:EXIT`, `average` or `max-average`.
    pub objective: Target,
    /// Length of the step in units of epsilon; 1.25 in the paper.
    pub step: f64,
}

impl Default for FgsmRsConfig {
    fn default() -> Self {
        Self { objective: Target::default(), step: 1.25 }
    }
}

/// Settings of [`TrainingAttackConfig::NFgsm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NFgsmConfig {
    /// `single:EXIT`, `average` or `max-average`.
    pub objective: Target,
    /// Half width of the uniform noise in units of epsilon; 2 in the paper.
    pub noise: f64,
    /// Length of the step in units of epsilon; 1 in the paper.
    pub step: f64,
}

impl Default for NFgsmConfig {
    fn default() -> Self {
        Self { objective: Target::default(), noise: 2.0, step: 1.0 }
    }
}

/// In which mode batch-norm and dropout are while a training attack runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackMode {
    /// Evaluation: an image's attack depends on nothing but the image. The default, see
    /// docs/decisions/0004-attack-in-evaluation-mode.md.
    #[default]
    Evaluation,
    /// Training, as in the public Triple Wins code (neo-kd.md section 8, point 12).
    Training,
}

impl TrainingAttackConfig {
    /// What it maximises.
    pub fn objective(&self) -> Target {
        match self {
            Self::Pgd(config) => config.objective,
            Self::Fgsm(config) => config.objective,
            Self::FgsmRs(config) => config.objective,
            Self::NFgsm(config) => config.objective,
        }
    }

    /// Whether one gradient step is all it takes, so that catastrophic overfitting is to be feared.
    pub fn is_single_step(&self) -> bool {
        match self {
            Self::Pgd(config) => config.steps == 1,
            Self::Fgsm(_) | Self::FgsmRs(_) | Self::NFgsm(_) => true,
        }
    }

    /// The attack under the given threat.
    pub fn attack(&self, threat: &Threat) -> TrainingAttack {
        let single_step = |objective, step: f64, random_start| Attack {
            target: objective,
            pgd: Pgd { steps: 1, step_size: step * threat.epsilon, random_start, restarts: 1 },
        };
        let attack = match self {
            Self::Pgd(PgdConfig { objective, steps, step_size, random_start, restarts }) => {
                let (steps, step_size, random_start, restarts) = (*steps, *step_size, *random_start, *restarts);
                Attack { target: *objective, pgd: Pgd { steps, step_size, random_start, restarts } }
            }
            Self::Fgsm(config) => single_step(config.objective, 1.0, false),
            Self::FgsmRs(config) => single_step(config.objective, config.step, true),
            Self::NFgsm(config) => single_step(config.objective, config.step, false),
        };
        let noise = match self {
            Self::NFgsm(config) => Some(config.noise),
            _ => None,
        };
        TrainingAttack { attack, threat: *threat, noise }
    }

    /// Why this attack makes no sense for a network with `exits` exits, if so: the key inside the
    /// section, and the cure.
    pub fn problem(&self, exits: usize) -> Option<String> {
        let not_positive = |key: &str, value: f64| {
            let fine = value.is_finite() && value > 0.0;
            (!fine).then(|| format!("{key} = {value}: must be a finite number larger than 0, in units of epsilon"))
        };
        match self {
            Self::Pgd(config) => AttackConfig::Pgd(config.clone()).problem(exits),
            Self::Fgsm(config) => AttackConfig::Fgsm(config.clone()).problem(exits),
            Self::FgsmRs(config) => AttackConfig::Fgsm(FgsmConfig { objective: config.objective })
                .problem(exits)
                .or(not_positive("step", config.step)),
            Self::NFgsm(config) => AttackConfig::Fgsm(FgsmConfig { objective: config.objective })
                .problem(exits)
                .or(not_positive("step", config.step))
                .or(not_positive("noise", config.noise)),
        }
    }
}

/// A training attack with all its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingAttack {
    attack: Attack,
    threat: Threat,
    noise: Option<f64>,
}

impl TrainingAttack {
    /// The attack by which held-out images are judged: this one, inside the ball.
    pub fn inside_the_ball(&self) -> Attack {
        self.attack
    }

    /// Adversarial pixels for a training step.
    ///
    /// N-FGSM steps out from a noised image and stays in `[0, 1]`, but not in the ball of the threat:
    /// its images are audited against a ball of the step's length around the noised ones.
    ///
    /// # Errors
    /// As [`neokd_attack::perturb`].
    pub fn perturb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        key: u64,
    ) -> Result<Adversarial, AttackError> {
        let Some(noise) = self.noise else {
            return neokd_attack::perturb(model, batch, &self.attack, &self.threat, key);
        };
        let noised = Batch { pixels: noised(batch, noise * self.threat.epsilon, key), ..batch.clone() };
        let reach = Threat { epsilon: self.attack.pgd.step_size, ..self.threat };
        neokd_attack::perturb(model, &noised, &self.attack, &reach, key)
    }
}

fn noised(batch: &Batch, width: f64, key: u64) -> Tensor<4> {
    let [_, channels, height, width_of_image] = batch.pixels.dims();
    let shape = [channels, height, width_of_image];
    let noise = RandomKey::new(key).uniform(&batch.examples, shape, &batch.pixels.device());
    (batch.pixels.clone() + noise.mul_scalar(width)).clamp(0.0, 1.0)
}
