//! Budgeted prediction: how accurate and how expensive a network is when images leave early
//! (neo-kd.md 4.2, msdnet.md section 11).

use burn::tensor::Device;
use burn::tensor::activation::softmax;
use neokd_datasets::ImageSet;
use neokd_model::calibration::{budget_shares, thresholds};
use neokd_model::policy::{Answer, Policy, Rule};
use neokd_model::{ExitCost, Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::interval::Share;
use crate::policy_file::{Budget, BudgetFile, SCHEMA};
use crate::{Error, batches};

/// What all exits say to a set of images.
#[derive(Clone, Debug)]
pub struct Probabilities {
    /// One `[images * classes]` per exit.
    exits: Vec<Vec<f32>>,
    classes: usize,
    labels: Vec<usize>,
}

/// What a policy makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dynamic {
    /// Images answered correctly.
    pub accuracy: Share,
    /// Mean multiply-adds of an image.
    pub multiply_adds: f64,
    /// Images that left at each exit.
    pub left: Vec<u64>,
}

impl Probabilities {
    /// Runs the whole network on the first `images` of a set; `done` hears how many are finished.
    ///
    /// # Errors
    /// [`Error::Device`] if the device could not be read.
    pub fn of<M: MultiExit>(
        model: &Frozen<M>,
        set: &ImageSet,
        images: usize,
        batch_size: usize,
        device: &Device,
        done: &mut dyn FnMut(usize),
    ) -> Result<Self, Error> {
        let indices: Vec<usize> = (0..images.min(set.len())).collect();
        let mut found = Self { exits: vec![Vec::new(); model.exits()], classes: model.classes(), labels: Vec::new() };
        for chunk in indices.chunks(batch_size) {
            let data = batches::collect(set, chunk, device);
            let logits = model.forward(data.batch.pixels);
            for (rows, logits) in found.exits.iter_mut().zip(logits.as_slice()) {
                let values = softmax(logits.clone(), 1).into_data().try_into_vec::<f32>();
                rows.extend(
                    values.map_err(|error| Error::Device(format!("cannot read back from the device: {error:?}")))?,
                );
            }
            found.labels.extend(data.labels);
            done(chunk.len());
        }
        Ok(found)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Accuracy, cost and exits under a policy.
    pub fn under(&self, policy: &Policy, costs: &[ExitCost]) -> Dynamic {
        let (mut correct, mut left) = (0, vec![0; self.exits.len()]);
        for image in 0..self.len() {
            let answer = self.answer(image, policy);
            left[answer.exit] += 1;
            correct += u64::from(answer.label == self.labels[image]);
        }
        let spent: f64 = left.iter().zip(costs).map(|(images, cost)| *images as f64 * cost.multiply_adds as f64).sum();
        Dynamic {
            accuracy: Share::new(correct, self.len() as u64),
            multiply_adds: spent / self.len().max(1) as f64,
            left,
        }
    }

    /// Finds the thresholds of all 39 budgets on these images, and chooses the most accurate whose
    /// mean cost is within `limit` multiply-adds; without a limit, the uniform allocation.
    ///
    /// # Errors
    /// [`Error::Config`] if no budget is within the limit.
    pub fn calibrate(
        &self,
        data: &str,
        ensemble: bool,
        costs: &[ExitCost],
        limit: Option<f64>,
    ) -> Result<BudgetFile, Error> {
        let confidences: Vec<Vec<f32>> = (0..self.exits.len())
            .map(|exit| {
                let at_exit = Policy { rule: Rule::Fixed(exit), ensemble };
                (0..self.len()).map(|image| self.answer(image, &at_exit).confidence).collect()
            })
            .collect();
        let budgets: Vec<Budget> = budget_shares(self.exits.len())
            .into_iter()
            .map(|shares| {
                let thresholds = thresholds(&confidences, &shares);
                let found = self.under(&Policy { rule: Rule::Confidence(thresholds.clone()), ensemble }, costs);
                let finite = |threshold: f64| threshold.is_finite().then_some(threshold);
                let thresholds = thresholds[..thresholds.len() - 1].iter().copied().map(finite).collect();
                Budget { shares, thresholds, multiply_adds: found.multiply_adds, accuracy: found.accuracy.value }
            })
            .collect();
        let chosen = match limit {
            None => budgets.len() / 2,
            Some(limit) => {
                let affordable = budgets.iter().enumerate().filter(|(_, budget)| budget.multiply_adds <= limit);
                let best = affordable.max_by(|a, b| a.1.accuracy.total_cmp(&b.1.accuracy)).map(|(index, _)| index);
                best.ok_or_else(|| {
                    let least = budgets.iter().map(|budget| budget.multiply_adds).fold(f64::INFINITY, f64::min);
                    Error::Config(format!("--budget {limit}: the cheapest allocation costs {least:.0} multiply-adds"))
                })?
            }
        };
        Ok(BudgetFile {
            schema: SCHEMA.to_string(),
            data: data.to_string(),
            n: self.len() as u64,
            ensemble,
            chosen,
            budgets,
        })
    }

    fn answer(&self, image: usize, policy: &Policy) -> Answer {
        let rows = self.exits.iter().map(|exit| &exit[image * self.classes..][..self.classes]);
        policy.decide(rows).expect("the last exit takes every image")
    }
}
