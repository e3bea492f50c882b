//! Is a robust accuracy to be believed: signs that attacks fail because of how the network is built,
//! not because it is robust (after Athalye et al. 2018; Carlini et al. 2019; Zimmermann et al. 2022).
//!
//! [`Diagnostics::measure`] measures the signs, [`Diagnostics::verdict`] is a pure function of them.

use std::fmt;

use burn::tensor::{Bool, Device, Tensor};
use neokd_model::{ExitLogits, MultiExit};
use serde::{Deserialize, Serialize};

use super::autoattack::{break_with, judge};
use crate::batch::{Batch, per_image};
use crate::error::AttackError;
use crate::objective::aim::Aim;
use crate::objective::criterion::Criterion;
use crate::objective::loss::Loss;
use crate::random::RandomKey;
use crate::read::{read_bools, read_floats};
use crate::scenario::Scenario;
use crate::search::{Apgd, ApgdCe, ApgdMargin, ApgdT, Ascent, Fgsm, Search, Square};
use crate::threat::{Norm, Threat, per_image_factor};

/// A gradient whose largest entry is this small has vanished in 32-bit floats: the softmax rounds to 0
/// and 1.
const VANISHED: f64 = 1e-8;
/// Relative difference of two passes up to which they are the same, on a device whose sums have one order.
const SAME: f64 = 1e-6;
/// The same on a device that adds in an order of its own each time, in 32-bit floats or fewer bits.
const ROUNDED: f64 = 1e-4;
/// Half a level of an 8-bit image: no smaller radius was ever meant.
const HALF_A_LEVEL: f64 = 0.5 / 255.0;
/// Halvings of the way to the boundary when an adversarial is planted.
const HALVINGS: usize = 12;
/// How many other images are tried as the far end of that way.
const PARTNERS: usize = 8;

/// How much the checks spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Steps of each gradient attack.
    pub steps: usize,
    /// Queries of Square.
    pub queries: usize,
}

impl Effort {
    /// To check the result of an attack of so many gradient steps: as many, within reason.
    pub fn for_attack_of(steps: usize) -> Self {
        Self { steps: steps.clamp(20, 100), ..Self::default() }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self { steps: 50, queries: 500 }
    }
}

/// The signs, each a share of the images that are right without an attack unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Images that are right without an attack.
    pub images: u64,
    /// Whose cross-entropy has no gradient, or one that vanished.
    pub zero_gradient: f64,
    /// Broken by Square but not by any gradient attack.
    pub square_gain: f64,
    /// Of the rise of the loss of unbroken images, the part that came in the last tenth of the steps.
    pub still_rising: f64,
    /// Broken by two more random starts but not by the first.
    pub restart_gain: f64,
    /// Broken by one full step but not by many.
    pub single_step_gain: f64,
    /// Broken by an attack on another exit but not by those on the exit itself.
    pub transfer_gain: f64,
    /// Unbroken in a ball that holds every image there is.
    pub huge_epsilon: f64,
    /// Images next to a known adversarial one that attacks were run from.
    pub planted: u64,
    /// Share of them for which the attack missed it.
    pub planted_missed: f64,
    /// Largest difference between two passes over the same pixels, relative to the largest logit.
    pub random_output: f64,
    /// Largest difference between an image's answers alone and among others, relative to the largest logit.
    #[serde(default)]
    pub batch_dependence: f64,
    /// Share of the exits whose answers are probabilities in place of logits.
    pub softmax_output: f64,
    /// Broken by any attack of the checks.
    #[serde(default)]
    pub broken: f64,
    /// How much larger that is than the share that the attack of the result broke ([`Diagnostics::compared`]).
    #[serde(default)]
    pub attack_gap: f64,
    /// Of the exits' answers, in mean over the exits, the share that is right under an attack on each exit by itself.
    #[serde(default)]
    pub own_exit: f64,
    /// How much larger that is under the attack of the result ([`Diagnostics::quoted`]).
    #[serde(default)]
    pub exit_gap: f64,
    /// By how much rounding alone can make two passes differ on the device that computed; 0 where it cannot.
    #[serde(default)]
    pub rounding: f64,
    /// Radius in pixel units where it is that of an Linf ball, 0 otherwise.
    #[serde(default)]
    pub radius: f64,
}

/// One sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// No image is right without an attack.
    NoImages,
    /// [`Diagnostics::zero_gradient`].
    ZeroGradient,
    /// [`Diagnostics::square_gain`].
    SquareGain,
    /// [`Diagnostics::still_rising`].
    StillRising,
    /// [`Diagnostics::restart_gain`].
    RestartGain,
    /// [`Diagnostics::single_step_gain`].
    SingleStepGain,
    /// [`Diagnostics::transfer_gain`].
    TransferGain,
    /// [`Diagnostics::huge_epsilon`].
    HugeEpsilon,
    /// [`Diagnostics::planted_missed`].
    PlantedMissed,
    /// [`Diagnostics::random_output`].
    RandomOutput,
    /// [`Diagnostics::batch_dependence`].
    BatchDependence,
    /// [`Diagnostics::softmax_output`].
    SoftmaxOutput,
    /// [`Diagnostics::attack_gap`].
    AttackGap,
    /// [`Diagnostics::exit_gap`].
    ExitGap,
    /// [`Diagnostics::radius`].
    LargeRadius,
    /// [`Diagnostics::radius`], below half a level of an 8-bit image.
    SmallRadius,
}

/// How far a result is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// No sign of a masked gradient.
    Pass,
    /// The number may be too high.
    Warn,
    /// The number says nothing.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// A sign that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Which.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// What was measured.
    pub value: f64,
    /// A sentence with the number, the threshold and what to do.
    pub text: String,
}

/// What the signs add up to: the worst of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst level of any reason.
    pub level: Level,
    /// Every sign that was found.
    pub reasons: Vec<Reason>,
}

/// A sign with the values above which it warns and fails.
struct Rule {
    check: Check,
    value: f64,
    warn: f64,
    fail: f64,
    says: &'static str,
}

impl Diagnostics {
    /// The verdict. Thresholds (warn, fail): vanished gradients 5 %, 50 %; Square's gain 2 %, 10 %; loss
    /// still rising 10 %, 30 %; gain of restarts 5 %, 20 %; of a single step 2 %, 10 %; of transfer 2 %,
    /// 10 %; unbroken in a huge ball 1 %, 10 %; planted adversarial missed 5 %, 25 %; two passes that
    /// differ by more than a part in a million fail (on a device that is not a CPU: in ten thousand);
    /// an answer that differs by more than a part in ten thousand with the images beside it fails;
    /// probabilities in place of logits warn; broken by the checks and not by the attack of the result 5 %,
    /// 20 %; exits that are right 8 points more often than under attacks on themselves warn; an Linf radius above
    /// 0.5 or below half a level of 255 warns.
    pub fn verdict(&self) -> Verdict {
        let rules = self.rules();
        let mut reasons: Vec<Reason> = rules.iter().filter_map(Rule::reason).collect();
        if self.images == 0 {
            let text = "no image is right without an attack: there is nothing to attack".to_string();
            reasons.push(Reason { check: Check::NoImages, level: Level::Warn, value: 0.0, text });
        }
        if self.radius > 0.0 && self.radius < HALF_A_LEVEL {
            let text = format!(
                "{:.1e} is the radius, less than half a level of an 8-bit image: pixels are in [0, 1], 8 levels are 8/255",
                self.radius
            );
            reasons.push(Reason { check: Check::SmallRadius, level: Level::Warn, value: self.radius, text });
        }
        let level = reasons.iter().map(|reason| reason.level).max().unwrap_or(Level::Pass);
        Verdict { level, reasons }
    }

    fn rules(&self) -> [Rule; 14] {
        let rule = |check, value, warn, fail, says| Rule { check, value, warn, fail, says };
        [
            rule(
                Check::ZeroGradient,
                self.zero_gradient,
                0.05,
                0.5,
                "of the images have no gradient: use losses that do not depend on the scale, and Square",
            ),
            rule(
                Check::SquareGain,
                self.square_gain,
                0.02,
                0.1,
                "of the images are broken by Square and not by gradients: the gradient is masked",
            ),
            rule(
                Check::StillRising,
                self.still_rising,
                0.1,
                0.3,
                "of the loss came in the last tenth of the steps: use more steps",
            ),
            rule(
                Check::RestartGain,
                self.restart_gain,
                0.05,
                0.2,
                "of the images are broken by more random starts: use more restarts",
            ),
            rule(
                Check::SingleStepGain,
                self.single_step_gain,
                0.02,
                0.1,
                "of the images are broken by one step and not by many: the gradient misleads",
            ),
            rule(
                Check::TransferGain,
                self.transfer_gain,
                0.02,
                0.1,
                "of the images are broken by attacks on other exits alone: the exit's own gradient misleads",
            ),
            rule(
                Check::HugeEpsilon,
                self.huge_epsilon,
                0.01,
                0.1,
                "of the images survive in a ball that holds every image: the attack does not work",
            ),
            rule(
                Check::PlantedMissed,
                self.planted_missed,
                0.05,
                0.25,
                "of the adversarial images known to be near were missed: the attack does not work",
            ),
            rule(
                Check::RandomOutput,
                self.random_output,
                self.rounding.max(SAME),
                self.rounding.max(SAME),
                "is how far two passes over the same pixels differ: average over the randomness",
            ),
            rule(
                Check::BatchDependence,
                self.batch_dependence,
                ROUNDED,
                ROUNDED,
                "is how far an answer differs with the images beside it: put batch-norm into evaluation mode",
            ),
            rule(
                Check::SoftmaxOutput,
                self.softmax_output,
                0.0,
                f64::INFINITY,
                "of the exits answer with probabilities: attack the logits before the softmax",
            ),
            rule(
                Check::AttackGap,
                self.attack_gap,
                0.05,
                0.2,
                "of the images are broken by the checks beyond those that the attack broke: it is too weak, use more \
                 steps or autoattack",
            ),
            rule(
                Check::ExitGap,
                self.exit_gap,
                0.08,
                f64::INFINITY,
                "of the exits' answers are right here and wrong under attacks on each exit by itself: this is not the robust \
                 accuracy of every exit; quote the row \"own exit\" of max-average as well",
            ),
            rule(
                Check::LargeRadius,
                self.radius,
                0.5,
                f64::INFINITY,
                "is the radius: in such a ball every image can be made grey; pixels are in [0, 1], 8 levels of 255 are \
                 8/255",
            ),
        ]
    }

    /// Measures the signs on one batch, of a result that counts images as broken by `criterion`.
    ///
    /// # Errors
    /// [`AttackError`], but a missing gradient is a sign and not an error.
    pub fn measure<M: MultiExit>(
        scenario: &Scenario<'_, M>,
        criterion: &Criterion,
        effort: Effort,
    ) -> Result<Self, AttackError> {
        let Scenario { model, batch, threat, .. } = *scenario;
        criterion.problem(model.exits()).map_or(Ok(()), |why| Err(AttackError::Misfit(why)))?;
        let radius = if threat.norm == Norm::Linf { threat.epsilon } else { 0.0 };
        if batch.is_empty() {
            return Ok(Self { radius, ..Self::default() });
        }
        let (first, second) = (model.forward(batch.pixels.clone()), model.forward(batch.pixels.clone()));
        let outputs = Self {
            random_output: difference(&first, &second)?,
            rounding: rounding_of(&batch.pixels.device()),
            batch_dependence: alone_and_together(scenario, &first)?,
            softmax_output: share_of_softmax(&first)?,
            radius,
            ..Self::default()
        };
        let wrong = judge(scenario, criterion)?;
        let right: Vec<usize> = (0..batch.len()).filter(|&row| !wrong[row]).collect();
        if right.is_empty() {
            return Ok(outputs);
        }
        let right = batch.pick(&right);
        let bench = Bench { scenario: scenario.on(&right), criterion, effort };
        Ok(Self { images: right.len() as u64, ..bench.measure(outputs)? })
    }

    /// The signs of a result whose attack broke the share `broken` of the images that are right without one.
    pub fn compared(self, broken: f64) -> Self {
        Self { attack_gap: (self.broken - broken).max(0.0), ..self }
    }

    /// The signs of a result under whose attack the exits' answers to the images that are right without one were right
    /// in the share `right`, mean over the exits.
    pub fn quoted(self, right: f64) -> Self {
        Self { exit_gap: if self.images == 0 { 0.0 } else { (right - self.own_exit).max(0.0) }, ..self }
    }
}

/// The share of the images that are right without an attack which a search breaks: what
/// [`Diagnostics::compared`] wants to know of the attack of a result; 0 where it finds no gradient.
///
/// # Errors
/// As [`Diagnostics::measure`].
pub fn share_broken<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    criterion: &Criterion,
    search: Search,
) -> Result<f64, AttackError> {
    let wrong = judge(scenario, criterion)?;
    let right = unbroken(&wrong);
    if right.is_empty() {
        return Ok(0.0);
    }
    let part = scenario.batch.pick(&right);
    let bench = Bench { scenario: scenario.on(&part), criterion, effort: Effort::default() };
    let broken = bench.broken(search, &bench.scenario)?;
    Ok(broken.iter().filter(|broken| **broken).count() as f64 / right.len() as f64)
}

impl Rule {
    fn reason(&self) -> Option<Reason> {
        let level = match self.value {
            value if value > self.fail => Level::Fail,
            value if value > self.warn => Level::Warn,
            _ => return None,
        };
        let bound = if level == Level::Fail { self.fail } else { self.warn };
        let text = match self.check {
            Check::RandomOutput | Check::BatchDependence => {
                format!("{:.2e} {} (bound {bound:.0e})", self.value, self.says)
            }
            Check::LargeRadius => format!("{:.3} {} (bound {bound:.1})", self.value, self.says),
            _ => format!("{:.1} % {} (bound {:.0} %)", 100.0 * self.value, self.says, 100.0 * bound),
        };
        Some(Reason { check: self.check, level, value: self.value, text })
    }
}

/// What the measurements have in common.
struct Bench<'a, M> {
    /// Its images are all right.
    scenario: Scenario<'a, M>,
    criterion: &'a Criterion,
    effort: Effort,
}

impl<M: MultiExit> Bench<'_, M> {
    fn measure(&self, outputs: Diagnostics) -> Result<Diagnostics, AttackError> {
        let Scenario { batch, threat, key, .. } = self.scenario;
        let share = |count: usize| count as f64 / batch.len() as f64;
        let mut broken = vec![false; batch.len()];
        self.also(self.gradient_search(), key, &mut broken)?;
        let still_rising = match &unbroken(&broken)[..] {
            [] => 0.0,
            rows => self.still_rising(&batch.pick(rows))?,
        };
        let single_step = self.also(Fgsm {}.into(), key, &mut broken.clone())?;
        let mut restarts = 0;
        for bits in [1, 2] {
            restarts += self.also(self.gradient_search(), key.flipped(bits), &mut broken)?;
        }
        self.also(self.thorough_search(), key, &mut broken)?;
        let transferred = self.transferred(&broken)?;
        let square = Square { queries: self.effort.queries, share: 0.8, restarts: 1 };
        let by_square = self.also(square.into(), key, &mut broken)?;

        let huge = Scenario { threat: everything(batch, threat.norm), ..self.scenario };
        let huge = self.broken(self.gradient_search(), &huge)?;
        let (planted, missed) = self.planted()?;
        Ok(Diagnostics {
            zero_gradient: share(self.without_gradient()?),
            single_step_gain: share(single_step),
            still_rising,
            restart_gain: share(restarts),
            transfer_gain: share(transferred),
            square_gain: share(by_square),
            broken: share(broken.iter().filter(|broken| **broken).count()),
            own_exit: self.own_exit()?,
            huge_epsilon: share(huge.iter().filter(|broken| !**broken).count()),
            planted: planted as u64,
            planted_missed: if planted == 0 { 0.0 } else { missed as f64 / planted as f64 },
            ..outputs
        })
    }

    fn gradient_search(&self) -> Search {
        ApgdCe(self.apgd()).into()
    }

    /// What cross-entropy misses on several classes, a loss for each of them finds.
    fn thorough_search(&self) -> Search {
        let Apgd { steps, restarts } = self.apgd();
        match self.scenario.model.classes() {
            0..4 => ApgdMargin(self.apgd()).into(),
            _ => ApgdT { steps, restarts, targets: 9 }.into(),
        }
    }

    fn apgd(&self) -> Apgd {
        Apgd { steps: self.effort.steps, restarts: 1 }
    }

    /// Which images a search breaks; none where it finds no gradient.
    fn broken(&self, search: Search, scenario: &Scenario<'_, M>) -> Result<Vec<bool>, AttackError> {
        match break_with(search, scenario, self.criterion) {
            Ok(found) => self.judge(found.pixels, scenario.batch),
            Err(AttackError::NoGradient) => Ok(vec![false; scenario.batch.len()]),
            Err(error) => Err(error),
        }
    }

    /// Who is broken by these pixels of a batch's images.
    fn judge(&self, pixels: Tensor<4>, of: &Batch) -> Result<Vec<bool>, AttackError> {
        judge(&self.scenario.on(&Batch { pixels, ..of.clone() }), self.criterion)
    }

    /// Runs a search on the images that are unbroken so far and marks those that it breaks; returns how
    /// many these are.
    fn also(&self, search: Search, key: RandomKey, broken: &mut [bool]) -> Result<usize, AttackError> {
        let rows = unbroken(broken);
        if rows.is_empty() {
            return Ok(0);
        }
        let part = self.scenario.batch.pick(&rows);
        let hits = self.broken(search, &Scenario { key, ..self.scenario.on(&part) })?;
        rows.iter().zip(&hits).for_each(|(&row, hit)| broken[row] = *hit);
        Ok(hits.iter().filter(|hit| **hit).count())
    }

    fn aims(&self) -> Vec<Aim> {
        self.criterion.aims(self.scenario.model.exits(), self.scenario.model.classes())
    }

    /// How many unbroken images an attack on an exit that the criterion does not aim at breaks. Where all exits
    /// have to be wrong there is none: the search climbs their mean loss, which is another thing, so that an attack
    /// on one of them may well get further without any gradient that misleads.
    fn transferred(&self, broken: &[bool]) -> Result<usize, AttackError> {
        let own = self.aims();
        let all = *self.criterion == Criterion::AllExits;
        let others = (0..self.scenario.model.exits()).map(Aim::Exit).filter(|aim| !all && !own.contains(aim));
        let rows = unbroken(broken);
        if rows.is_empty() {
            return Ok(0);
        }
        let part = self.scenario.batch.pick(&rows);
        let mut any = vec![false; rows.len()];
        for aim in others {
            match self.gradient_search().search(&self.scenario.on(&part), &aim) {
                Ok((pixels, _)) => merge(&mut any, &self.judge(pixels, &part)?),
                Err(AttackError::NoGradient) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(any.iter().filter(|any| **any).count())
    }

    /// The share of right answers under a search on each exit by itself, mean over the exits.
    fn own_exit(&self) -> Result<f64, AttackError> {
        let (batch, exits) = (self.scenario.batch, self.scenario.model.exits());
        let mut wrong = 0;
        for exit in 0..exits {
            let on_exit = Bench { criterion: &Criterion::Exit(exit), scenario: self.scenario.on(batch), ..*self };
            let broken = on_exit.broken(self.gradient_search(), &self.scenario)?;
            // Without a gradient, those that are wrong as they are.
            let mut any = judge(&self.scenario, on_exit.criterion)?;
            merge(&mut any, &broken);
            wrong += any.iter().filter(|wrong| **wrong).count();
        }
        Ok(1.0 - wrong as f64 / (batch.len() * exits) as f64)
    }

    /// The part of the rise of the mean loss that came in the last tenth of the steps.
    fn still_rising(&self, unbroken: &Batch) -> Result<f64, AttackError> {
        let mut largest = 0.0;
        for aim in self.aims() {
            match self.apgd().climb(&self.scenario.on(unbroken), &aim, &Loss::Margin) {
                Ok(climb) => {
                    let means = climb.trace.into_iter().map(|values| values.mean()).collect();
                    let means = read_floats(Tensor::cat(means, 0))?;
                    let (start, end) = (means[0], means[means.len() - 1]);
                    let late = means[means.len() - 1 - means.len() / 10];
                    let rise = f64::from(end - start);
                    largest = f64::max(largest, if rise > 0.0 { f64::from(end - late) / rise } else { 0.0 });
                }
                Err(AttackError::NoGradient) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(largest)
    }

    /// How many images have no usable gradient towards some aim.
    fn without_gradient(&self) -> Result<usize, AttackError> {
        let batch = self.scenario.batch;
        let mut none = vec![false; batch.len()];
        for aim in self.aims() {
            match Ascent::at(&self.scenario, &aim, &Loss::CrossEntropy, batch.pixels.clone()) {
                Ok(look) => {
                    let largest = look.gradient.abs().flatten::<2>(1, 3).max_dim(1).squeeze_dim::<1>(1);
                    merge(&mut none, &read_bools(largest.lower_equal_scalar(VANISHED))?);
                }
                Err(AttackError::NoGradient) => return Ok(batch.len()),
                Err(error) => return Err(error),
            }
        }
        Ok(none.iter().filter(|none| **none).count())
    }

    /// Plants adversarial images: on the way from an image to another one that the network answers
    /// otherwise there is a boundary; from half of epsilon before it, an attack with epsilon has to get
    /// across. Returns how many could be planted and how many of them the attack missed.
    fn planted(&self) -> Result<(usize, usize), AttackError> {
        let Scenario { model, batch, threat, .. } = self.scenario;
        let wrong = |pixels: Tensor<4>| {
            let logits = model.forward(pixels);
            self.criterion.broken(&logits, &batch.labels)
        };
        let (far, found) = partners(batch, &wrong);
        let (mut near, mut across) = (batch.pixels.clone(), far);
        for _ in 0..HALVINGS {
            let middle = (near.clone() + across.clone()).div_scalar(2.0);
            let beyond = per_image(wrong(middle.clone()), &middle);
            across = across.mask_where(beyond.clone(), middle.clone());
            near = middle.mask_where(beyond, near);
        }
        let way = threat.sizes(&across, &batch.pixels).clamp_min(f64::from(f32::MIN_POSITIVE));
        let part = way.recip().mul_scalar(threat.epsilon / 2.0).clamp_max(1.0);
        let start = across.clone() + (batch.pixels.clone() - across.clone()) * per_image_factor(part);
        let usable = found.bool_and(wrong(start.clone()).bool_not()).bool_and(wrong(across));
        let usable = read_bools(usable)?;
        let planted: Vec<usize> = (0..batch.len()).filter(|&row| usable[row]).collect();
        if planted.is_empty() || threat.epsilon == 0.0 {
            return Ok((0, 0));
        }
        let from = Batch { pixels: start.clamp(0.0, 1.0), ..batch.clone() }.pick(&planted);
        let broken = self.broken(self.gradient_search(), &self.scenario.on(&from))?;
        Ok((planted.len(), broken.iter().filter(|broken| !**broken).count()))
    }
}

/// For each image another one of the batch that its label would be wrong for, if one of the next few is.
fn partners(batch: &Batch, wrong: &impl Fn(Tensor<4>) -> Tensor<1, Bool>) -> (Tensor<4>, Tensor<1, Bool>) {
    let images = batch.len();
    let mut far = batch.pixels.clone();
    let mut found = batch.labels.zeros_like().equal_scalar(1);
    for shift in 1..images.min(PARTNERS + 1) {
        let order: Vec<usize> = (0..images).map(|row| (row + shift) % images).collect();
        let other = batch.pick(&order).pixels;
        let new = wrong(other.clone()).bool_and(found.clone().bool_not());
        far = far.mask_where(per_image(new.clone(), &other), other);
        found = found.bool_or(new);
    }
    (far, found)
}

/// A ball that holds every image.
fn everything(batch: &Batch, norm: Norm) -> Threat {
    let [_, channels, height, width] = batch.pixels.dims();
    match norm {
        Norm::Linf => Threat::linf(1.0),
        Norm::L2 => Threat::l2(((channels * height * width) as f64).sqrt()),
    }
}

fn unbroken(broken: &[bool]) -> Vec<usize> {
    (0..broken.len()).filter(|&row| !broken[row]).collect()
}

fn merge(any: &mut [bool], more: &[bool]) {
    any.iter_mut().zip(more).for_each(|(any, more)| *any |= more);
}

/// By how much rounding alone can make two passes differ on a device: a CPU adds in one order, a GPU in any.
fn rounding_of(device: &Device) -> f64 {
    let name = format!("{device:?}").to_lowercase();
    let one_order = ["flex", "ndarray", "cpu"].iter().any(|kind| name.contains(kind));
    if one_order { 0.0 } else { ROUNDED }
}

fn difference(one: &ExitLogits, other: &ExitLogits) -> Result<f64, AttackError> {
    let pairs = one.as_slice().iter().zip(other.as_slice());
    let largest = |tensor: Tensor<2>| tensor.abs().max();
    let differences = pairs.map(|(one, other)| largest(one.clone() - other.clone())).collect();
    let scales = one.as_slice().iter().map(|exit| largest(exit.clone())).collect();
    let (difference, scale) =
        (read_floats(Tensor::cat(differences, 0).max())?, read_floats(Tensor::cat(scales, 0).max())?);
    Ok(f64::from(difference[0]) / f64::from(scale[0]).max(f64::MIN_POSITIVE))
}

/// How far the first half of the images is answered otherwise without the rest beside it.
fn alone_and_together<M: MultiExit>(scenario: &Scenario<'_, M>, together: &ExitLogits) -> Result<f64, AttackError> {
    let half = scenario.batch.len() / 2;
    if half == 0 {
        return Ok(0.0);
    }
    let alone = scenario.model.forward(scenario.batch.pixels.clone().narrow(0, 0, half));
    let together = together.as_slice().iter().map(|exit| exit.clone().narrow(0, 0, half));
    difference(&alone, &ExitLogits::all(together.collect()))
}

/// Share of the exits all of whose rows are non-negative and sum to 1.
fn share_of_softmax(logits: &ExitLogits) -> Result<f64, AttackError> {
    let mut count = 0;
    for exit in logits.as_slice() {
        let off = exit.clone().sum_dim(1).sub_scalar(1.0).abs().max();
        let values = read_floats(Tensor::cat(vec![off, exit.clone().min()], 0))?;
        count += usize::from(values[0] < 1e-4 && values[1] >= 0.0);
    }
    Ok(count as f64 / logits.as_slice().len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_no_randomness() {
        assert_eq!(rounding_of(&Device::flex()), 0.0);
        let on = |rounding| Diagnostics { images: 1, random_output: 2e-5, rounding, ..Diagnostics::default() };
        assert_eq!(on(0.0).verdict().level, Level::Fail);
        assert_eq!(on(ROUNDED).verdict().level, Level::Pass);
    }
}
