//! Targeted FAB (Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
//! boundary attack", arXiv 1907.02044): walk along the boundary to a class, always towards the clean
//! image. It finds small perturbations, not the largest loss.

use burn::tensor::{Bool, Int, Tensor};
use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::ascent::gradient;
use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use super::survivors::{Candidates, Part, Survivors};
use crate::batch::{Batch, per_image};
use crate::error::AttackError;
use crate::objective::Mean;
use crate::objective::aim::Aim;
use crate::objective::criterion::Criterion;
use crate::objective::loss::{of_class, rivals};
use crate::passes::{Passes, Searched};
use crate::random::RandomKey;
use crate::scenario::Scenario;
use crate::threat::{Norm, Threat, lengths};

/// How far each step goes beyond the boundary (eta).
const OVERSHOOT: f64 = 1.05;
/// Largest weight of the clean image's own projection (alpha_max).
const PULL: f64 = 0.1;
/// How much of the way out remains after a broken point was found (beta).
const BACK: f64 = 0.9;
/// Halvings of the way between the nearest broken point and the clean image at the end of a run.
const HALVINGS: usize = 10;
/// Newton steps of a projection: each ends on a further piece of a concave, piecewise linear function,
/// and a handful reaches the last one.
const NEWTON: usize = 16;

/// Targeted FAB, Linf and L2; the average attack's one answer is the mean of the exits'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fab {
    /// Steps of each run, at least 1; 100, as in the paper, unless said otherwise.
    #[serde(default = "default::hundred")]
    pub steps: usize,
    /// Independent runs towards each class, at least 1; all but the first start at random.
    #[serde(default = "default::one")]
    pub restarts: usize,
    /// Number of classes, most likely first, at least 1; 9, as in AutoAttack, unless said otherwise; where the
    /// network has fewer wrong ones, all of them.
    #[serde(default = "default::nine")]
    pub targets: usize,
}

/// The smallest perturbations found.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// `[batch, channels, height, width]`: the nearest broken pixels found, else the clean ones.
    pub pixels: Tensor<4>,
    /// `[batch]`: how far they are, in the threat's norm; infinite where none was found.
    pub distances: Tensor<1>,
    /// What it cost.
    pub passes: Passes,
}

/// See [`Search::number`](super::Search::number).
pub(super) const NUMBER: u64 = 7;

impl Method for Fab {
    fn budget(&self, _threat: &Threat) -> Budget {
        let Self { steps, restarts, targets } = *self;
        Budget { steps, gradient: true, step_size: None, random_start: false, restarts, targets: Some(targets) }
    }

    fn passes(&self) -> Passes {
        Passes::forward(1) + self.passes_of_a_run().times(self.restarts * self.targets)
    }

    fn mean(&self) -> Mean {
        Mean::Answers
    }

    fn set(knobs: &Knobs, _threat: &Threat) -> Self {
        Self { steps: knobs.steps.unwrap_or(100), restarts: knobs.restarts, targets: knobs.targets }
    }

    /// Images that a run broke are left out of the next. Where the nearest broken point is outside, it is projected.
    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        let threat = scenario.threat;
        let (start, targets) = self.start(scenario, aim);
        let mut survivors = Survivors::all(scenario.batch);
        survivors.passes += start.passes;
        survivors.run(self.restarts * targets.dims()[1], |part, number| {
            let run = self.run(number, part.of(&targets), scenario.key);
            let found = walk(&scenario.on(&part.batch), aim, &run, start.of(part))?;
            let pixels = found.within(&part.batch.pixels, &threat);
            let passes = self.passes_of_a_run().times(part.count());
            Ok(Candidates { pixels, value: found.distances.clone().neg(), broken: found.inside(&threat), passes })
        })
    }
}

impl Fab {
    /// The smallest perturbation of each image that breaks it, wherever that is; epsilon only bounds
    /// the random starts. An image that is broken as it is has distance 0.
    ///
    /// # Errors
    /// [`AttackError::NoGradient`].
    pub fn nearest<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Result<Nearest, AttackError> {
        let (mut found, targets) = self.start(scenario, aim);
        let each = targets.dims()[1];
        for run in 0..self.restarts * each {
            found = walk(scenario, aim, &self.run(run, targets.clone(), scenario.key), found)?;
            found.passes += self.passes_of_a_run().times(scenario.batch.len());
        }
        Ok(found)
    }

    /// The smallest perturbation of each image that breaks it by this criterion: the smallest over all aims
    /// that the criterion is made of, judged by a forward pass of its own.
    ///
    /// The same key, criterion and example give the same distance in any batch; epsilon only bounds the
    /// random starts.
    ///
    /// # Errors
    /// [`AttackError::Misfit`] for a criterion that does not fit the network, [`AttackError::NoGradient`].
    pub fn nearest_by<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        criterion: &Criterion,
    ) -> Result<Nearest, AttackError> {
        let (model, batch) = (scenario.model, scenario.batch);
        criterion.problem(model.exits()).map_or(Ok(()), |why| Err(AttackError::Misfit(why)))?;
        let mut nearest = Nearest::none(batch);
        for aim in criterion.aims(model.exits(), model.classes()) {
            let found = self.nearest(&Scenario { key: aim.key(NUMBER, scenario.key), ..*scenario }, &aim)?;
            let broken = criterion.broken(&model.forward(found.pixels.clone()), &batch.labels);
            nearest.add(&found.pixels, found.distances, broken);
            nearest.passes += found.passes + Passes::forward(batch.len());
        }
        Ok(nearest)
    }

    /// What a run costs per image.
    fn passes_of_a_run(&self) -> Passes {
        Passes::gradient(self.steps) + Passes::forward(self.steps + HALVINGS)
    }

    /// The run of this number, given everybody's targets: all classes in turn, first from the clean
    /// image, then from random points.
    fn run(&self, number: usize, targets: Tensor<2, Int>, key: RandomKey) -> Run {
        let each = targets.dims()[1];
        Run {
            steps: self.steps,
            target: targets.narrow(1, number % each, 1).squeeze_dim(1),
            random_start: (number >= each).then(|| key.for_restart(number as u64)),
        }
    }

    /// Distance 0 where the clean image is broken, and the classes to walk to, `[batch, targets]`.
    fn start<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> (Nearest, Tensor<2, Int>) {
        let batch = scenario.batch;
        let logits = scenario.logits(aim, batch.pixels.clone());
        let broken = aim.broken(&logits, &batch.labels);
        let none = Nearest::none(batch);
        let distances = none.distances.clone().mask_fill(broken, 0.0);
        let targets = rivals(&aim.answer(&logits), &batch.labels, self.targets.min(scenario.model.classes() - 1));
        (Nearest { distances, passes: Passes::forward(batch.len()), ..none }, targets)
    }
}

struct Run {
    steps: usize,
    target: Tensor<1, Int>,
    random_start: Option<RandomKey>,
}

impl Nearest {
    /// The clean pixels, infinitely far from being broken.
    fn none(batch: &Batch) -> Self {
        let distances = Tensor::full([batch.len()], f32::INFINITY, &batch.pixels.device());
        Self { pixels: batch.pixels.clone(), distances, passes: Passes::default() }
    }

    /// The broken pixels that lie in the ball; of those outside, the nearest point of it.
    ///
    /// # Shapes
    /// - `clean` and output: `[batch, channels, height, width]`
    pub fn within(&self, clean: &Tensor<4>, threat: &Threat) -> Tensor<4> {
        let projected = threat.project(clean, self.pixels.clone());
        projected.mask_where(per_image(self.inside(threat), &self.pixels), self.pixels.clone())
    }

    fn inside(&self, threat: &Threat) -> Tensor<1, Bool> {
        self.distances.clone().lower_equal_scalar(threat.epsilon)
    }

    /// Halves the way to the clean image as long as that stays broken, to undo the overshoot.
    fn come_closer(&mut self, clean: &Tensor<4>, threat: &Threat, broken: impl Fn(Tensor<4>) -> Tensor<1, Bool>) {
        let (mut near, mut far) = (clean.clone(), self.pixels.clone());
        for _ in 0..HALVINGS {
            let middle = (near.clone() + far.clone()).div_scalar(2.0);
            let broken = broken(middle.clone());
            let beyond = per_image(broken.clone(), &middle);
            self.add(&middle, threat.sizes(clean, &middle), broken);
            far = far.mask_where(beyond.clone(), middle.clone());
            near = middle.mask_where(beyond, near);
        }
    }

    fn of(&self, part: &Part) -> Self {
        Self { pixels: part.of(&self.pixels), distances: part.of(&self.distances), passes: Passes::default() }
    }

    fn add(&mut self, pixels: &Tensor<4>, distances: Tensor<1>, broken: Tensor<1, Bool>) {
        let nearer = distances.clone().lower(self.distances.clone()).bool_and(broken);
        self.pixels = self.pixels.clone().mask_where(per_image(nearer.clone(), pixels), pixels.clone());
        self.distances = self.distances.clone().mask_where(nearer, distances);
    }
}

/// One run towards one class: project the current and the clean image on the linearised boundary, step
/// a little beyond it between the two, and from a broken point come some of the way back.
fn walk<M: MultiExit>(
    scenario: &Scenario<'_, M>,
    aim: &Aim,
    run: &Run,
    mut nearest: Nearest,
) -> Result<Nearest, AttackError> {
    let (batch, threat, clean) = (scenario.batch, scenario.threat, &scenario.batch.pixels);
    let mut pixels = match run.random_start {
        None => clean.clone(),
        Some(key) => Threat { epsilon: threat.epsilon / 2.0, ..threat }.random_edge(clean, &batch.examples, key),
    };
    for _ in 0..run.steps {
        let leaf = pixels.clone().autodiff().require_grad();
        let answer = aim.answer(&scenario.logits(aim, leaf.clone()));
        let lead = of_class(&answer, &run.target) - of_class(&answer, &batch.labels);
        let slope = gradient(&leaf, &lead)?;
        let gap = lead.inner().neg();
        let back = dot(&slope, &(pixels.clone() - clean.clone()));
        let here = to_plane(threat.norm, &pixels, &slope, gap.clone());
        let home = to_plane(threat.norm, clean, &slope, gap + back);
        let (near, far) = (size(threat.norm, &here), size(threat.norm, &home));
        let pull = (near.clone() / (near + far)).clamp_max(PULL);
        let moved = (pixels + here.mul_scalar(OVERSHOOT)) * pull.clone().neg().add_scalar(1.0);
        let moved = (moved + (clean.clone() + home.mul_scalar(OVERSHOOT)) * pull).clamp(0.0, 1.0);

        let broken = aim.broken(&scenario.logits(aim, moved.clone()), &batch.labels);
        nearest.add(&moved, threat.sizes(clean, &moved), broken.clone());
        let inward = clean.clone() + (moved.clone() - clean.clone()).mul_scalar(BACK);
        pixels = moved.mask_where(per_image(broken, clean), inward);
    }
    let exact = |pixels: Tensor<4>| aim.broken(&scenario.logits(aim, pixels), &batch.labels);
    nearest.come_closer(clean, &threat, exact);
    Ok(nearest)
}

/// The smallest change, within the pixel cube, that moves each image onto `slope . change = gap`; the
/// farthest in that direction where the cube does not reach so far.
///
/// A change of strength `t` moves each pixel by `t` (Linf) or `t |slope|` (L2), as far as the cube lets
/// it. What that gains is a concave, piecewise linear function of `t`, so Newton's method from 0 never
/// oversteps the solution.
///
/// # Shapes
/// - `pixels`, `slope` and output: `[batch, channels, height, width]`; `gap`: `[batch]`
fn to_plane(norm: Norm, pixels: &Tensor<4>, slope: &Tensor<4>, gap: Tensor<1>) -> Tensor<4> {
    let images = pixels.dims()[0];
    // Only the direction of the slope matters; this keeps its squares from vanishing.
    let steepest = slope.clone().abs().flatten::<2>(1, 3).max_dim(1).reshape([images, 1, 1, 1]);
    let steepest = steepest.clamp_min(f64::from(f32::MIN_POSITIVE));
    let slope = slope.clone() / steepest.clone();
    let gap = gap.reshape([images, 1, 1, 1]) / steepest;
    let direction = slope.clone().sign() * gap.clone().sign();
    let room = pixels.clone().mask_where(direction.clone().greater_scalar(0.0), pixels.clone().neg().add_scalar(1.0));
    let (weight, gap) = (slope.abs(), gap.abs());
    let speed = match norm {
        Norm::Linf => weight.ones_like(),
        Norm::L2 => weight.clone(),
    };
    let total = |values: Tensor<4>| values.flatten::<2>(1, 3).sum_dim(1).reshape([images, 1, 1, 1]);
    let mut strength = gap.zeros_like();
    for _ in 0..NEWTON {
        let move_ = speed.clone() * strength.clone();
        let free = room.clone().greater(move_.clone()).float();
        let gained = total(weight.clone() * move_.min_pair(room.clone()));
        let rate = total(weight.clone() * speed.clone() * free);
        let stuck = rate.clone().lower_equal_scalar(0.0);
        let further =
            ((gap.clone() - gained).clamp_min(0.0) / rate.mask_fill(stuck.clone(), 1.0)).mask_fill(stuck, 0.0);
        strength = strength + further;
    }
    direction * (speed * strength).min_pair(room)
}

fn dot(one: &Tensor<4>, other: &Tensor<4>) -> Tensor<1> {
    (one.clone() * other.clone()).flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1)
}

/// Size of each change, `[batch, 1, 1, 1]`, never 0.
fn size(norm: Norm, change: &Tensor<4>) -> Tensor<4> {
    let size = match norm {
        Norm::Linf => change.clone().abs().flatten::<2>(1, 3).max_dim(1).reshape([change.dims()[0], 1, 1, 1]),
        Norm::L2 => lengths(change),
    };
    size.clamp_min(1e-8)
}
