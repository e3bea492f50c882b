//! Does an attack on one exit also fool the others: the transfer matrix (docs/papers/neo-kd.md 4.3).

use std::ops::AddAssign;

use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::run::run;
use crate::attack::Attack;
use crate::error::AttackError;
use crate::objective::Objective;
use crate::passes::Passes;
use crate::read::read_counts;
use crate::scenario::Scenario;
use crate::search::Search;

/// Counts of a transfer matrix; those of several batches add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Images that all exits classify correctly; only these are counted.
    pub images: u64,
    /// How many of them an attack on one exit (row) makes another (column) misclassify.
    pub fooled: Vec<Vec<u64>>,
    /// What it cost.
    pub passes: Passes,
}

impl Transfer {
    /// Attacks every exit by itself, on the images that all exits classify correctly, and counts at
    /// which exits it succeeds.
    ///
    /// # Errors
    /// As [`run`].
    pub fn measure<M: MultiExit>(scenario: &Scenario<'_, M>, search: Search) -> Result<Self, AttackError> {
        let Scenario { model, batch, .. } = *scenario;
        let right = model.forward(batch.pixels.clone()).correct(&batch.labels).min_dim(0);
        let right = read_counts(right.squeeze_dim(0))?;
        let rows: Vec<usize> = (0..batch.len()).filter(|&row| right[row] == 1).collect();
        let passes = Passes::forward(batch.len());
        if rows.is_empty() {
            let fooled = vec![vec![0; model.exits()]; model.exits()];
            return Ok(Self { images: 0, fooled, passes });
        }
        let mut transfer = Self { images: rows.len() as u64, fooled: Vec::new(), passes };
        let part = batch.pick(&rows);
        for exit in 0..model.exits() {
            let outcome = run(&scenario.on(&part), &Attack::new(Objective::Single(exit), search))?;
            let correct = outcome.logits.correct(&part.labels);
            let correct = read_counts(correct.sum_dim(1).squeeze_dim(1))?;
            transfer.fooled.push(correct.into_iter().map(|correct| transfer.images - correct).collect());
            transfer.passes += outcome.adversarial.passes;
        }
        Ok(transfer)
    }

    /// Success rates, attacked exit by measured exit; `None` where no image was counted.
    pub fn rates(&self) -> Option<Vec<Vec<f64>>> {
        let rate = |count: &u64| *count as f64 / self.images as f64;
        (self.images > 0).then(|| self.fooled.iter().map(|row| row.iter().map(rate).collect()).collect())
    }
}

impl AddAssign for Transfer {
    fn add_assign(&mut self, other: Self) {
        self.images += other.images;
        self.passes += other.passes;
        if self.fooled.is_empty() {
            self.fooled = other.fooled;
            return;
        }
        for (row, more) in self.fooled.iter_mut().zip(other.fooled) {
            row.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }
}
