//! AutoAttack (Croce and Hein 2020, arXiv 2003.01690) for networks with several exits: an ordered set
//! of attacks, cheap ones first, each on the images that none before it broke.

use burn::tensor::Tensor;
use neokd_model::{ExitLogits, MultiExit};
use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::max_average::max_average;
use super::run::Adversarial;
use crate::batch::{Batch, put};
use crate::error::AttackError;
use crate::objective::Mean;
use crate::objective::answers::mean_over_exits;
use crate::objective::criterion::Criterion;
use crate::objective::loss::Loss;
use crate::passes::Passes;
use crate::read::read_bools;
use crate::scenario::Scenario;
use crate::search::{Apgd, ApgdCe, ApgdMargin, ApgdT, Fab, Knobs, Method, Search, Square};
use crate::threat::Threat;

/// An ordered set of attacks.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoAttack {
    /// The attacks, in the order in which they are run.
    pub members: Vec<Search>,
}

/// What became of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Wrong without any attack.
    WrongClean,
    /// Broken by the member of this number, from 0.
    Broken(usize),
    /// Not broken by any member so far.
    Robust,
}

/// What a member did and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Its name.
    pub attack: String,
    /// Images that it was run on.
    pub attacked: u64,
    /// Those that it broke.
    pub broken: u64,
    /// Its passes, that of judging included.
    pub passes: Passes,
}

/// Where an evaluation of one batch stands. It holds all that the next member needs, so it can be
/// stored after each and gone on from.
#[derive(Clone, Debug)]
pub struct Standing {
    /// `[batch, channels, height, width]`: adversarial pixels of the broken images; of those that nothing
    /// broke, the point of the largest cross-entropy that a member left them at (of the clean image, if none
    /// is larger), so that the mean over exits that max-average is chosen by is of attacked images.
    pub pixels: Tensor<4>,
    /// What became of each image.
    pub fates: Vec<Fate>,
    /// One entry for each member that was run.
    pub spent: Vec<Spent>,
    /// The worst of all audits, broken images or not.
    pub audit: Audit,
}

impl AutoAttack {
    /// What the average objective is the average of: the members answer for one vector of logits, the mean of all
    /// exits' (docs/papers/neo-kd.md 4.4).
    pub const MEAN: Mean = Mean::Answers;

    /// The standard set with its published parameters: APGD-CE, APGD-T, FAB-T and Square. With fewer
    /// than four classes, APGD on the margin stands in for APGD-T, whose ratio needs four.
    pub fn standard(classes: usize) -> Self {
        Self::set(&Knobs::default(), classes)
    }

    /// The standard set with other steps, queries, targets or runs.
    pub fn set(knobs: &Knobs, classes: usize) -> Self {
        // No member has a step of a length of its own, so any ball will do.
        let (apgd, threat) = (Apgd::set(knobs), Threat::linf(0.0));
        let second = if classes < 4 { ApgdMargin(apgd).into() } else { ApgdT::set(knobs, &threat).into() };
        let (fab, square) = (Fab::set(knobs, &threat), Square::set(knobs, &threat));
        Self { members: vec![ApgdCe(apgd).into(), second, fab.into(), square.into()] }
    }

    /// Runs all members on one batch.
    ///
    /// The same `key`, criterion and example give the same fate and pixels in any batch.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`advance`](Self::advance).
    pub fn run<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        criterion: &Criterion,
    ) -> Result<Standing, AttackError> {
        let mut standing = self.start(scenario, criterion)?;
        while self.advance(scenario, criterion, &mut standing)? {}
        Ok(standing)
    }

    /// The max-average version (docs/papers/neo-kd.md 4.4): the whole set against each exit by itself, and of the
    /// results per image the one with the largest mean cross-entropy over all exits.
    ///
    /// Returns the pixels of that image's worst case, and where each exit's evaluation ended.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn max_average<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
    ) -> Result<(Tensor<4>, Vec<Standing>), AttackError> {
        let mut standings = Vec::new();
        let (pixels, _) = max_average(scenario, |exit| {
            let standing = self.run(scenario, &Criterion::Exit(exit))?;
            let pixels = standing.pixels.clone();
            standings.push(standing);
            Ok((pixels, Passes::default()))
        })?;
        Ok((pixels, standings))
    }

    /// Judges the clean images: nobody is attacked yet.
    ///
    /// # Errors
    /// [`AttackError::Misfit`] for a criterion that does not fit the network, [`AttackError::Read`].
    pub fn start<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        criterion: &Criterion,
    ) -> Result<Standing, AttackError> {
        let Scenario { model, batch, .. } = *scenario;
        criterion.problem(model.exits()).map_or(Ok(()), |why| Err(AttackError::Misfit(why)))?;
        let wrong = match batch.is_empty() {
            true => Vec::new(),
            false => judge(scenario, criterion)?,
        };
        let fate = |wrong: &bool| if *wrong { Fate::WrongClean } else { Fate::Robust };
        Ok(Standing {
            pixels: batch.pixels.clone(),
            fates: wrong.iter().map(fate).collect(),
            spent: Vec::new(),
            audit: Audit { lowest: 1.0, ..Audit::default() },
        })
    }

    /// Runs the next member on the survivors; false if none is left to run.
    ///
    /// # Errors
    /// Those of the member, a broken rule, or [`AttackError::Read`].
    pub fn advance<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        criterion: &Criterion,
        standing: &mut Standing,
    ) -> Result<bool, AttackError> {
        let number = standing.spent.len();
        let Some(member) = self.members.get(number) else {
            return Ok(false);
        };
        let survivors = standing.survivors();
        let mut spent = Spent {
            attack: member.kind().to_string(),
            attacked: survivors.len() as u64,
            broken: 0,
            passes: Passes::default(),
        };
        if !survivors.is_empty() {
            let part = scenario.batch.pick(&survivors);
            let found = break_with(*member, &scenario.on(&part), criterion)?;
            let attacked = Batch { pixels: found.pixels.clone(), ..part };
            let so_far = Batch { pixels: standing.pixels.clone(), ..scenario.batch.clone() }.pick(&survivors);
            let [before, after] = [&so_far, &attacked].map(|batch| answers(&scenario.on(batch), criterion));
            let harm = |logits: &ExitLogits| mean_over_exits(&Loss::CrossEntropy, logits, &attacked.labels);
            let worse = read_bools(harm(&after).greater(harm(&before)))?;
            let broken = read_bools(criterion.broken(&after, &attacked.labels))?;
            let kept: Vec<usize> = (0..survivors.len()).filter(|&at| broken[at] || worse[at]).collect();
            let rows: Vec<usize> = kept.iter().map(|&at| survivors[at]).collect();
            if !rows.is_empty() {
                standing.pixels = put(&standing.pixels, &rows, attacked.pick(&kept).pixels);
            }
            let fallen: Vec<usize> = (0..survivors.len()).filter(|&at| broken[at]).map(|at| survivors[at]).collect();
            fallen.iter().for_each(|&row| standing.fates[row] = Fate::Broken(number));
            standing.audit = standing.audit.merge(found.audit);
            spent.broken = fallen.len() as u64;
            spent.passes = found.passes + Passes::forward(2 * attacked.len());
        }
        standing.spent.push(spent);
        Ok(true)
    }
}

impl Standing {
    /// Rows of the images that nothing has broken so far.
    pub fn survivors(&self) -> Vec<usize> {
        (0..self.fates.len()).filter(|&row| self.fates[row] == Fate::Robust).collect()
    }
}

/// Runs one search on everything that the criterion is made of, and audits what it found.
pub(crate) fn break_with<M: MultiExit>(
    search: Search,
    scenario: &Scenario<'_, M>,
    criterion: &Criterion,
) -> Result<Adversarial, AttackError> {
    let (pixels, passes) = search.search_all(scenario, criterion)?;
    let audit = Audit::check(scenario.batch, &pixels, &scenario.threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

/// Logits of the exits that a criterion looks at; no other part of the network is run.
fn answers<M: MultiExit>(scenario: &Scenario<'_, M>, criterion: &Criterion) -> ExitLogits {
    let pixels = scenario.batch.pixels.clone();
    match criterion {
        Criterion::Exit(exit) => scenario.model.forward_at(pixels, &[*exit]),
        _ => scenario.model.forward(pixels),
    }
}

/// Who is broken, by a forward pass of its own.
pub(crate) fn judge<M: MultiExit>(scenario: &Scenario<'_, M>, criterion: &Criterion) -> Result<Vec<bool>, AttackError> {
    read_bools(criterion.broken(&answers(scenario, criterion), &scenario.batch.labels))
}
