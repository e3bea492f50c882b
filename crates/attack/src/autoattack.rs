//! AutoAttack (Croce and Hein 2020, arXiv 2003.01690) for networks with several exits: an ordered set
//! of attacks, cheap ones first, each on the images that none before it broke.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::apgd::{Apgd, ApgdLoss};
use crate::audit::Audit;
use crate::criterion::Criterion;
use crate::fab::Fab;
use crate::max_average::max_average;
use crate::passes::Passes;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::search::Search;
use crate::square::Square;
use crate::survivors::{put, read_bools};
use crate::{Adversarial, Batch, Threat};

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
    /// `[batch, channels, height, width]`: adversarial pixels of the broken images; of the others the
    /// clean ones.
    pub pixels: Tensor<4>,
    /// What became of each image.
    pub fates: Vec<Fate>,
    /// One entry for each member that was run.
    pub spent: Vec<Spent>,
    /// The worst of all audits, broken images or not.
    pub audit: Audit,
}

impl AutoAttack {
    /// The standard set with its published parameters: APGD-CE, APGD-T, FAB-T and Square. With fewer
    /// than four classes, APGD on the margin stands in for APGD-T, whose ratio needs four.
    pub fn standard(classes: usize) -> Self {
        let apgd = |loss| Search::Apgd(Apgd { loss, steps: 100, restarts: 1 });
        let second = if classes < 4 { ApgdLoss::Margin } else { ApgdLoss::Targeted { targets: 9 } };
        Self {
            members: vec![
                apgd(ApgdLoss::CrossEntropy),
                apgd(second),
                Search::Fab(Fab { steps: 100, restarts: 1, targets: 9 }),
                Search::Square(Square { queries: 5000, share: 0.8, restarts: 1 }),
            ],
        }
    }

    /// Runs all members on one batch.
    ///
    /// The same `key`, criterion and example give the same fate and pixels in any batch.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`advance`](Self::advance).
    pub fn run<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        criterion: &Criterion,
        threat: &Threat,
        key: u64,
    ) -> Result<Standing, AttackError> {
        let mut standing = self.start(model, batch, criterion)?;
        while self.advance(model, batch, criterion, threat, key, &mut standing)? {}
        Ok(standing)
    }

    /// The max-average version (neo-kd.md 4.4): the whole set against each exit by itself, and of the
    /// results per image the one with the largest mean cross-entropy over all exits.
    ///
    /// Returns the pixels of that image's worst case, and where each exit's evaluation ended.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn max_average<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        threat: &Threat,
        key: u64,
    ) -> Result<(Tensor<4>, Vec<Standing>), AttackError> {
        let mut standings = Vec::new();
        let (pixels, _) = max_average(model, batch, |exit| {
            let standing = self.run(model, batch, &Criterion::Exit(exit), threat, key)?;
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
        model: &Frozen<M>,
        batch: &Batch,
        criterion: &Criterion,
    ) -> Result<Standing, AttackError> {
        criterion.problem(model.exits()).map_or(Ok(()), |why| Err(AttackError::Misfit(why)))?;
        let wrong = match batch.is_empty() {
            true => Vec::new(),
            false => judge(model, batch, criterion)?,
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
        model: &Frozen<M>,
        batch: &Batch,
        criterion: &Criterion,
        threat: &Threat,
        key: u64,
        standing: &mut Standing,
    ) -> Result<bool, AttackError> {
        let number = standing.spent.len();
        let Some(member) = self.members.get(number) else {
            return Ok(false);
        };
        let survivors = standing.survivors();
        let mut spent = Spent {
            attack: member.name().to_string(),
            attacked: survivors.len() as u64,
            broken: 0,
            passes: Passes::default(),
        };
        if !survivors.is_empty() {
            let part = batch.pick(&survivors);
            let found = break_with(member, model, &part, criterion, threat, key)?;
            let attacked = Batch { pixels: found.pixels.clone(), ..part };
            let broken = judge(model, &attacked, criterion)?;
            let kept: Vec<usize> = (0..survivors.len()).filter(|&at| broken[at]).collect();
            let rows: Vec<usize> = kept.iter().map(|&at| survivors[at]).collect();
            if !rows.is_empty() {
                standing.pixels = put(&standing.pixels, &rows, attacked.pick(&kept).pixels);
            }
            rows.iter().for_each(|&row| standing.fates[row] = Fate::Broken(number));
            standing.audit = standing.audit.merge(found.audit);
            spent.broken = rows.len() as u64;
            spent.passes = found.passes + Passes::forward(attacked.len());
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
    search: &Search,
    model: &Frozen<M>,
    batch: &Batch,
    criterion: &Criterion,
    threat: &Threat,
    key: u64,
) -> Result<Adversarial, AttackError> {
    let (pixels, passes) = search.search_all(model, batch, criterion, threat, RandomKey::new(key))?;
    let audit = Audit::check(batch, &pixels, threat)?;
    Ok(Adversarial { pixels, audit, passes })
}

/// Who is broken, by a forward pass of its own.
pub(crate) fn judge<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    criterion: &Criterion,
) -> Result<Vec<bool>, AttackError> {
    let logits = match criterion {
        Criterion::Exit(exit) => model.forward_at(batch.pixels.clone(), &[*exit]),
        _ => model.forward(batch.pixels.clone()),
    };
    read_bools(criterion.broken(&logits, &batch.labels))
}
