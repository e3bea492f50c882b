//! The attacks to choose from, and how one is run on one aim or several.

use burn::tensor::Tensor;
use neokd_model::{Frozen, MultiExit};

use crate::aim::{Aim, Goal};
use crate::apgd::{Apgd, ApgdLoss};
use crate::criterion::Criterion;
use crate::cw::Cw;
use crate::fab::Fab;
use crate::loss::Loss;
use crate::passes::Passes;
use crate::pgd::Pgd;
use crate::random::RandomKey;
use crate::run::AttackError;
use crate::slowdown::Slowdown;
use crate::square::Square;
use crate::survivors::{Candidates, Survivors};
use crate::{Batch, Threat};

/// How an attack searches, with all its settings.
///
/// A new attack is one file and one variant here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Search {
    /// Projected gradient descent on the cross-entropy; FGSM is one step of it.
    Pgd(Pgd),
    /// Auto-PGD on one of its losses.
    Apgd(Apgd),
    /// PGD steps on the margin.
    Cw(Cw),
    /// Towards the nearest boundary; the average attack's one answer is the mean of the exits'.
    Fab(Fab),
    /// Random squares; the average attack's one answer is the mean of the exits'.
    Square(Square),
    /// Towards unsure exits, whatever they answer.
    Slowdown(Slowdown),
}

impl Search {
    /// Searches for pixels in the ball that meet the aim, or else come closest to it.
    ///
    /// # Errors
    /// Those of the search.
    pub fn search<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        aim: &Aim,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let key = self.key(aim, key);
        match self {
            Self::Pgd(pgd) => pgd.search(model, batch, &Goal { aim, loss: &Loss::CrossEntropy }, threat, key),
            Self::Apgd(apgd) => apgd.search(model, batch, aim, threat, key),
            Self::Cw(cw) => cw.search(model, batch, aim, threat, key),
            Self::Fab(fab) => fab.search(model, batch, aim, threat, key),
            Self::Square(square) => square.search(model, batch, aim, threat, key),
            Self::Slowdown(slowdown) => slowdown.search(model, batch, threat, key),
        }
    }

    /// Where its random numbers come from on one aim; PGD is number 0, and a single attack draws what it
    /// draws as a part of max-average.
    pub(crate) fn key(&self, aim: &Aim, key: RandomKey) -> RandomKey {
        key.for_attack(aim.number() ^ (self.number() << 32))
    }

    /// Searches every aim that a criterion is made of, each on the images that none before it broke by
    /// that criterion.
    ///
    /// # Errors
    /// As [`search`](Self::search), and [`AttackError::Read`].
    pub(crate) fn search_all<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        criterion: &Criterion,
        threat: &Threat,
        key: RandomKey,
    ) -> Result<(Tensor<4>, Passes), AttackError> {
        let aims = criterion.aims(model.exits(), model.classes());
        if let [aim] = &aims[..] {
            return self.search(model, batch, aim, threat, key);
        }
        Survivors::all(batch).run(aims.len(), |part, number| {
            let aim = &aims[number];
            let (pixels, spent) = self.search(model, &part.batch, aim, threat, key)?;
            let logits = model.forward(pixels.clone());
            let value = aim.value(&Loss::Margin, &logits.only(&aim.exits(model.exits())), &part.batch.labels);
            let broken = criterion.broken(&logits, &part.batch.labels);
            Ok(Candidates { pixels, value, broken, passes: spent + Passes::forward(part.count()) })
        })
    }

    /// What the average attack aims at: the mean loss of all exits; a search that needs one answer per
    /// image takes the mean of their probabilities (neo-kd.md 4.4).
    pub(crate) fn average_aim(&self) -> Aim {
        match self {
            Self::Fab(_) | Self::Square(_) => Aim::Ensemble,
            _ => Aim::Average,
        }
    }

    /// As flags, configuration files and reports name it; FGSM is called `pgd`, being that.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pgd(_) => "pgd",
            Self::Apgd(Apgd { loss: ApgdLoss::CrossEntropy, .. }) => "apgd-ce",
            Self::Apgd(Apgd { loss: ApgdLoss::Dlr, .. }) => "apgd-dlr",
            Self::Apgd(Apgd { loss: ApgdLoss::Margin, .. }) => "apgd-margin",
            Self::Apgd(Apgd { loss: ApgdLoss::Targeted { .. }, .. }) => "apgd-t",
            Self::Cw(_) => "cw",
            Self::Fab(_) => "fab-t",
            Self::Square(_) => "square",
            Self::Slowdown(_) => "slowdown",
        }
    }

    /// Steps of one run, or its queries.
    pub fn steps(&self) -> usize {
        match self {
            Self::Apgd(apgd) => apgd.steps,
            Self::Fab(fab) => fab.steps,
            Self::Square(square) => square.queries,
            Self::Pgd(pgd) | Self::Cw(Cw(pgd)) | Self::Slowdown(Slowdown { pgd, .. }) => pgd.steps,
        }
    }

    /// Length of the first step in pixel units, where the search has a fixed one.
    pub fn step_size(&self, threat: &Threat) -> Option<f64> {
        match self {
            Self::Apgd(_) => Some(2.0 * threat.epsilon),
            Self::Fab(_) | Self::Square(_) => None,
            Self::Pgd(pgd) | Self::Cw(Cw(pgd)) | Self::Slowdown(Slowdown { pgd, .. }) => Some(pgd.step_size),
        }
    }

    /// Whether the first run starts from a random point.
    pub fn random_start(&self) -> bool {
        match self {
            Self::Apgd(_) | Self::Square(_) => true,
            Self::Fab(_) => false,
            Self::Pgd(pgd) | Self::Cw(Cw(pgd)) | Self::Slowdown(Slowdown { pgd, .. }) => pgd.random_start,
        }
    }

    /// Independent runs.
    pub fn restarts(&self) -> usize {
        match self {
            Self::Apgd(apgd) => apgd.restarts,
            Self::Fab(fab) => fab.restarts,
            Self::Square(square) => square.restarts,
            Self::Pgd(pgd) | Self::Cw(Cw(pgd)) | Self::Slowdown(Slowdown { pgd, .. }) => pgd.restarts,
        }
    }

    /// Passes that one image costs for one aim, at most: an image that breaks early costs less.
    pub fn passes(&self) -> Passes {
        let (steps, restarts) = (self.steps(), self.restarts());
        match self {
            Self::Pgd(_) | Self::Slowdown(_) => {
                let choosing = if restarts > 1 { restarts } else { 0 };
                Passes::gradient(steps * restarts) + Passes::forward(choosing)
            }
            Self::Apgd(Apgd { loss: ApgdLoss::Targeted { targets }, .. }) => {
                Passes::forward(1) + (Passes::gradient(steps + 1) + Passes::forward(1)).times(restarts * targets)
            }
            Self::Apgd(_) => (Passes::gradient(steps + 1) + Passes::forward(1)).times(restarts),
            Self::Fab(fab) => Passes::forward(1) + fab.passes().times(restarts * fab.targets),
            Self::Square(_) => Passes::forward(1).times((steps + 1) * restarts),
            Self::Cw(_) => (Passes::gradient(steps) + Passes::forward(2)).times(restarts),
        }
    }

    /// The number that keeps its random numbers apart from those of other searches.
    fn number(&self) -> u64 {
        match self {
            Self::Pgd(_) => 0,
            Self::Apgd(Apgd { loss: ApgdLoss::CrossEntropy, .. }) => 1,
            Self::Apgd(Apgd { loss: ApgdLoss::Dlr, .. }) => 2,
            Self::Apgd(Apgd { loss: ApgdLoss::Margin, .. }) => 3,
            Self::Apgd(Apgd { loss: ApgdLoss::Targeted { .. }, .. }) => 4,
            Self::Cw(_) => 5,
            Self::Slowdown(_) => 6,
            Self::Fab(_) => 7,
            Self::Square(_) => 8,
        }
    }
}
