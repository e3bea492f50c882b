//! The attack that makes the adversarial batch of a training step: PGD, or a single step.

use burn::tensor::{Int, Tensor};
use neokd_attack::{
    Adversarial, Attack, AttackError, Audit, Batch, Fgsm, Objective, Passes, Pgd, Scenario, Search, Start, Threat,
    cross_entropy, row_numbers,
};
use neokd_distill::{ExitLoss, Memory, divergence};
use neokd_model::{ExitLogits, MultiExit};
use serde::{Deserialize, Serialize};

/// An attack for training, as a configuration file has it; `kind` names the search, whose settings stand beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingAttack {
    /// `single:EXIT`, `average`, `max-average` or `random-exit`.
    #[serde(default)]
    pub objective: TrainingObjective,
    /// How.
    #[serde(flatten)]
    pub search: TrainingSearch,
}

/// What a training attack maximises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TrainingObjective {
    /// The same for every image.
    Of(Objective),
    /// The loss of one exit per image, drawn anew in every epoch; written `random-exit`. In expectation every exit is
    /// attacked by itself, as max-average attacks it, for one search on the part of the network up to that exit.
    RandomExit,
}

impl Default for TrainingObjective {
    fn default() -> Self {
        Self::Of(Objective::default())
    }
}

impl TrainingObjective {
    /// What held-out images are attacked on.
    pub fn on_held_out(self) -> Objective {
        match self {
            Self::Of(objective) => objective,
            Self::RandomExit => Objective::MaxAverage,
        }
    }
}

impl From<Objective> for TrainingObjective {
    fn from(objective: Objective) -> Self {
        Self::Of(objective)
    }
}

impl TryFrom<String> for TrainingObjective {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            RANDOM_EXIT => Ok(Self::RandomExit),
            text => text.parse().map(Self::Of).map_err(|why| format!("{why}, {RANDOM_EXIT}")),
        }
    }
}

impl From<TrainingObjective> for String {
    fn from(objective: TrainingObjective) -> Self {
        match objective {
            TrainingObjective::Of(objective) => objective.to_string(),
            TrainingObjective::RandomExit => RANDOM_EXIT.to_string(),
        }
    }
}

const RANDOM_EXIT: &str = "random-exit";
/// The number under which exits are drawn, far from those of searches.
const DRAW: u64 = u64::MAX - 16;

/// How a training attack searches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TrainingSearch {
    /// Projected gradient descent (Madry et al. 2018).
    Pgd(Pgd),
    /// One step of length epsilon from the clean image (Goodfellow et al. 2015). Prone to catastrophic
    /// overfitting.
    Fgsm(Fgsm),
    /// One long step from a random start, projected ("Fast is better than free", Wong et al. 2020).
    FgsmRs(FgsmRs),
    /// One step from a strongly noised image, not projected (de Jorge et al. 2022, "Make some noise").
    NFgsm(NFgsm),
}

/// Settings of [`TrainingSearch::FgsmRs`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FgsmRs {
    /// Length of the step in units of epsilon; 1.25 in the paper.
    pub step: f64,
}

impl Default for FgsmRs {
    fn default() -> Self {
        Self { step: 1.25 }
    }
}

/// Settings of [`TrainingSearch::NFgsm`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NFgsm {
    /// Half width of the uniform noise in units of epsilon; 2 in the paper.
    pub noise: f64,
    /// Length of the step in units of epsilon; 1 in the paper.
    pub step: f64,
}

impl Default for NFgsm {
    fn default() -> Self {
        Self { noise: 2.0, step: 1.0 }
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
    /// Training, as in the public Triple Wins code (docs/papers/neo-kd.md section 8, point 12).
    Training,
}

/// What a training attack climbs at each exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackLoss {
    /// The cross-entropy against the labels; the default.
    #[default]
    CrossEntropy,
    /// `KL(softmax f(x) || softmax f(x'))` against the answer to the clean image, from `x + 0.001 N(0, 1)`, as
    /// in the authors' code of TRADES (Zhang et al. 2019). N-FGSM keeps its own start.
    Kl,
}

/// Standard deviation of the noise from which the divergence is climbed.
const TRADES_NOISE: f64 = 1e-3;

/// What a training attack climbs: its loss, and what the training loss adds.
#[derive(Clone, Copy, Default)]
pub struct Climb<'a> {
    /// At each exit.
    pub loss: AttackLoss,
    /// A training loss with a penalty ([`ExitLoss::penalty`]), and what that reads.
    pub penalty: Option<(&'a (dyn ExitLoss + Send + Sync), Memory<'a>)>,
}

impl Climb<'_> {
    /// At these exits, whose logits are given, the mean over them; `clean` are the answers of all exits to the clean
    /// images, where it compares with them.
    fn height(
        &self,
        clean: Option<&[Tensor<2>]>,
        exits: &[usize],
        logits: &ExitLogits,
        labels: &Tensor<1, Int>,
    ) -> Tensor<1> {
        let at_exit = |(&exit, logits): (&usize, &Tensor<2>)| {
            let loss = match clean {
                None => cross_entropy(logits, labels),
                Some(clean) => divergence(&clean[exit], logits),
            };
            let penalty = self.penalty.and_then(|(of, memory)| of.penalty(exit, logits, memory));
            match penalty {
                None => loss,
                Some(penalty) => loss + penalty,
            }
        };
        let values: Vec<Tensor<1>> = exits.iter().zip(logits.as_slice()).map(at_exit).collect();
        let exits = values.len() as f64;
        values.into_iter().reduce(|sum, value| sum + value).expect("at least one exit").div_scalar(exits)
    }
}

impl TrainingAttack {
    /// Whether one gradient step is all it takes, so that catastrophic overfitting is to be feared.
    pub fn is_single_step(&self) -> bool {
        match self.search {
            TrainingSearch::Pgd(pgd) => pgd.steps == 1,
            TrainingSearch::Fgsm(_) | TrainingSearch::FgsmRs(_) | TrainingSearch::NFgsm(_) => true,
        }
    }

    /// The attack by which held-out images are judged: this one, inside the ball.
    pub fn inside_the_ball(&self, threat: &Threat) -> Attack {
        Attack::new(self.objective.on_held_out(), self.pgd(threat))
    }

    fn pgd(&self, threat: &Threat) -> Pgd {
        let single_step =
            |step: f64, random_start| Pgd { step_size: step * threat.epsilon, random_start, ..Pgd::fgsm(threat) };
        match self.search {
            TrainingSearch::Pgd(pgd) => pgd,
            TrainingSearch::Fgsm(_) => Pgd::fgsm(threat),
            TrainingSearch::FgsmRs(FgsmRs { step }) => single_step(step, true),
            TrainingSearch::NFgsm(NFgsm { step, .. }) => single_step(step, false),
        }
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
        scenario: &Scenario<'_, M>,
        climb: &Climb<'_>,
    ) -> Result<Adversarial, AttackError> {
        match self.objective {
            TrainingObjective::Of(objective) => self.perturb_on(scenario, objective, climb),
            TrainingObjective::RandomExit => self.perturb_on_random_exits(scenario, climb),
        }
    }

    /// Attacks the images of each exit's share of the batch, and puts them together in their order.
    fn perturb_on_random_exits<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        climb: &Climb<'_>,
    ) -> Result<Adversarial, AttackError> {
        let (batch, exits) = (scenario.batch, scenario.model.exits());
        let draw = |example: &u64| scenario.key.for_attack(DRAW).choose(*example, exits);
        let drawn: Vec<usize> = batch.examples.iter().map(draw).collect();
        let (mut order, mut parts) = (Vec::with_capacity(batch.len()), Vec::new());
        for exit in 0..exits {
            let rows: Vec<usize> = (0..batch.len()).filter(|&row| drawn[row] == exit).collect();
            if !rows.is_empty() {
                parts.push(self.perturb_on(&scenario.on(&batch.pick(&rows)), Objective::Single(exit), climb)?);
                order.extend(rows);
            }
        }
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &row)| place[row] = at);
        let passes = parts.iter().fold(Passes::default(), |sum, part| sum + part.passes);
        let audit = parts.iter().map(|part| part.audit).reduce(Audit::merge).unwrap_or_default();
        let pixels = Tensor::cat(parts.into_iter().map(|part| part.pixels).collect(), 0);
        let pixels = pixels.select(0, row_numbers(&place, &batch.pixels.device()));
        Ok(Adversarial { pixels, audit, passes })
    }

    fn perturb_on<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        objective: Objective,
        climb: &Climb<'_>,
    ) -> Result<Adversarial, AttackError> {
        let pgd = self.pgd(&scenario.threat);
        let TrainingSearch::NFgsm(NFgsm { noise, .. }) = self.search else {
            return self.ascend(scenario, scenario.batch, objective, &pgd, climb);
        };
        let noised = Batch { pixels: noised(scenario, noise * scenario.threat.epsilon), ..scenario.batch.clone() };
        let reach = Threat { epsilon: pgd.step_size, ..scenario.threat };
        self.ascend(&Scenario { threat: reach, ..scenario.on(&noised) }, scenario.batch, objective, &pgd, climb)
    }

    /// Attacks the images of a scenario, the clean ones or noised ones, in the ball of its threat around them.
    fn ascend<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        clean: &Batch,
        objective: Objective,
        pgd: &Pgd,
        climb: &Climb<'_>,
    ) -> Result<Adversarial, AttackError> {
        if climb.loss == AttackLoss::CrossEntropy && climb.penalty.is_none() {
            return neokd_attack::perturb(scenario, &Attack::new(objective, *pgd));
        }
        let answers = (climb.loss == AttackLoss::Kl).then(|| scenario.model.forward(clean.pixels.clone()));
        let start = match (&answers, self.search) {
            (None, _) | (Some(_), TrainingSearch::NFgsm(_)) => Start::Usual,
            (Some(_), _) => Start::Noise(TRADES_NOISE),
        };
        let answered = answers.as_ref().map(ExitLogits::as_slice);
        let height = |exits: &[usize], logits: &ExitLogits, labels: &Tensor<1, Int>| {
            climb.height(answered, exits, logits, labels)
        };
        let mut found = neokd_attack::perturb_on(scenario, objective, pgd, &height, start)?;
        found.passes += Passes::forward(if answers.is_some() { clean.len() } else { 0 });
        Ok(found)
    }

    /// Why this attack makes no sense for a network with `exits` exits, if so: the key inside the
    /// section, and the cure.
    pub fn problem(&self, exits: usize) -> Option<String> {
        let not_positive = |key: &str, value: f64| {
            let fine = value.is_finite() && value > 0.0;
            (!fine).then(|| format!("{key} = {value}: must be a finite number larger than 0, in units of epsilon"))
        };
        self.objective.on_held_out().problem(exits).or_else(|| match self.search {
            TrainingSearch::Pgd(pgd) => Search::from(pgd).problem(),
            TrainingSearch::Fgsm(_) => None,
            TrainingSearch::FgsmRs(FgsmRs { step }) => not_positive("step", step),
            TrainingSearch::NFgsm(NFgsm { step, noise }) => {
                not_positive("step", step).or_else(|| not_positive("noise", noise))
            }
        })
    }
}

fn noised<M>(scenario: &Scenario<'_, M>, width: f64) -> Tensor<4> {
    let batch = scenario.batch;
    let [_, channels, height, width_of_image] = batch.pixels.dims();
    let shape = [channels, height, width_of_image];
    let noise = scenario.key.uniform(&batch.examples, shape, &batch.pixels.device());
    (batch.pixels.clone() + noise.mul_scalar(width)).clamp(0.0, 1.0)
}
