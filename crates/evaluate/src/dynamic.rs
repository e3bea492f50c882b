//! Budgeted prediction: how accurate and how expensive a network is when images leave early
//! (docs/papers/neo-kd.md 4.2, docs/papers/msdnet.md section 11).

use burn::tensor::Device;
use burn::tensor::activation::softmax;
use neokd_datasets::Images;
use neokd_model::calibration::{budget_shares, thresholds};
use neokd_model::policy::{Answer, Policy, Rule};
use neokd_model::{ExitCost, ExitLogits, Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::batches::Batches;
use crate::interval::Share;
use crate::policy_file::{Budget, BudgetFile, SCHEMA};

/// What a policy makes of a set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dynamic {
    /// Images answered correctly.
    pub accuracy: Share,
    /// Mean multiply-adds of an image.
    pub multiply_adds: f64,
    /// Images that left at each exit.
    pub left: Vec<u64>,
}

impl Dynamic {
    /// Of so many correct answers, and so many images that left at each exit.
    pub(crate) fn new(correct: u64, left: Vec<u64>, costs: &[ExitCost]) -> Self {
        let n: u64 = left.iter().sum();
        let spent = left.iter().zip(costs).map(|(images, cost)| *images as f64 * cost.multiply_adds as f64);
        let multiply_adds = spent.sum::<f64>() / n.max(1) as f64;
        Self { accuracy: Share::new(correct, n), multiply_adds, left }
    }
}

/// DeepSloth's efficacy (Hong et al. 2021, section 3.1; `get_plot_data_and_auc` in its `delay_attack_cost.py`): the
/// area under the share of images that have left by the share of the whole cost that is spent, between the points of
/// the exits joined by straight lines, from (0, 0) to (1, 1), as everybody has left after the last exit.
///
/// 1 if all left for nothing. If nobody leaves early it is half the last block's share of the cost, not 0.
pub fn efficacy(left: &[u64], costs: &[ExitCost]) -> f64 {
    let all = left.iter().sum::<u64>().max(1) as f64;
    let whole = costs.last().map_or(1.0, |cost| cost.multiply_adds as f64);
    let (mut area, mut cost, mut gone) = (0.0, 0.0, 0.0);
    for (count, exit) in left.iter().zip(costs) {
        let (next_cost, next_gone) = (exit.multiply_adds as f64 / whole, gone + *count as f64 / all);
        area += (next_cost - cost) * (gone + next_gone) / 2.0;
        (cost, gone) = (next_cost, next_gone);
    }
    area
}

/// What becomes of one of `images` images, given `[images * classes]` of probabilities per exit.
pub(crate) fn decide(probabilities: &[Vec<f32>], images: usize, image: usize, policy: &Policy) -> Answer {
    let row = |exit: &'_ Vec<f32>| -> std::ops::Range<usize> {
        let classes = exit.len() / images;
        image * classes..(image + 1) * classes
    };
    policy.decide(probabilities.iter().map(|exit| &exit[row(exit)])).expect("the last exit takes every image")
}

/// Probabilities of every exit on the host: one `[images * classes]` per exit.
///
/// # Errors
/// [`Error::Device`] if the device could not be read.
pub fn probabilities(logits: &ExitLogits) -> Result<Vec<Vec<f32>>, Error> {
    let host = |logits: &burn::tensor::Tensor<2>| {
        softmax(logits.clone(), 1).into_data().try_into_vec().map_err(|error| Error::unreadable(&error))
    };
    logits.as_slice().iter().map(host).collect()
}

/// What every exit would answer to each validation image: all that thresholds depend on.
#[derive(Clone, Debug)]
pub struct ExitAnswers {
    ensemble: bool,
    exits: Vec<Vec<Answer>>,
    labels: Vec<usize>,
}

impl ExitAnswers {
    /// Runs the whole network on a set; `done` hears how many images are finished.
    ///
    /// # Errors
    /// [`Error::Data`] if an image could not be read, [`Error::Device`] if the device could not.
    pub fn of<M: MultiExit>(
        model: &Frozen<M>,
        set: &dyn Images,
        batch_size: usize,
        ensemble: bool,
        device: &Device,
        done: &mut dyn FnMut(usize),
    ) -> Result<Self, Error> {
        let mut found = Self { ensemble, exits: vec![Vec::new(); model.exits()], labels: Vec::new() };
        for data in Batches::in_order(set, set.len(), batch_size, device) {
            let data = data?;
            let images = data.labels.len();
            let rows = probabilities(&model.forward(data.batch.pixels))?;
            for (exit, answers) in found.exits.iter_mut().enumerate() {
                let fixed = Policy { rule: Rule::Fixed(exit), ensemble };
                answers.extend((0..images).map(|image| decide(&rows, images, image, &fixed)));
            }
            found.labels.extend(data.labels);
            done(images);
        }
        Ok(found)
    }

    /// Finds the thresholds of all 39 budgets, and chooses the most accurate whose mean cost is within
    /// `limit` multiply-adds; without a limit, the uniform allocation.
    ///
    /// # Errors
    /// [`Error::Config`] if no budget is within the limit.
    pub fn calibrate(&self, data: &str, costs: &[ExitCost], limit: Option<f64>) -> Result<BudgetFile, Error> {
        let confidence = |exit: &Vec<Answer>| exit.iter().map(|answer| answer.confidence).collect();
        let confidences: Vec<Vec<f32>> = self.exits.iter().map(confidence).collect();
        let shares = budget_shares(self.exits.len()).into_iter();
        let budgets: Vec<Budget> = shares.map(|shares| self.budget(&confidences, shares, costs)).collect();
        let chosen = match limit {
            None => budgets.len() / 2,
            Some(limit) => most_accurate_within(&budgets, limit)?,
        };
        let (schema, n) = (SCHEMA.to_string(), self.labels.len() as u64);
        Ok(BudgetFile { schema, data: data.to_string(), n, ensemble: self.ensemble, chosen, budgets })
    }

    fn budget(&self, confidences: &[Vec<f32>], shares: Vec<f64>, costs: &[ExitCost]) -> Budget {
        let thresholds = thresholds(confidences, &shares);
        let (mut correct, mut spent) = (0.0, 0.0);
        for (image, label) in self.labels.iter().enumerate() {
            let leaves = |exit: &usize| f64::from(confidences[*exit][image]) >= thresholds[*exit];
            let exit = (0..self.exits.len()).find(leaves).unwrap_or(self.exits.len() - 1);
            spent += costs[exit].multiply_adds as f64;
            correct += f64::from(u8::from(self.exits[exit][image].label == *label));
        }
        let n = self.labels.len().max(1) as f64;
        let finite = |threshold: &f64| threshold.is_finite().then_some(*threshold);
        let thresholds = thresholds[..thresholds.len() - 1].iter().map(finite).collect();
        Budget { shares, thresholds, multiply_adds: spent / n, accuracy: correct / n }
    }
}

fn most_accurate_within(budgets: &[Budget], limit: f64) -> Result<usize, Error> {
    let affordable = budgets.iter().enumerate().filter(|(_, budget)| budget.multiply_adds <= limit);
    let best = affordable.max_by(|a, b| a.1.accuracy.total_cmp(&b.1.accuracy)).map(|(index, _)| index);
    best.ok_or_else(|| {
        let least = budgets.iter().map(|budget| budget.multiply_adds).fold(f64::INFINITY, f64::min);
        Error::Config(format!("--budget {limit}: the cheapest allocation costs {least:.0} multiply-adds; allow more"))
    })
}

#[cfg(test)]
mod tests {
    use neokd_model::{MsdNetConfig, SmallCnnConfig};

    use super::*;

    #[test]
    fn leaving_early_is_worth_the_area_above_what_is_paid() {
        let costs = [25, 50, 100].map(|multiply_adds| ExitCost { multiply_adds, ..ExitCost::default() });
        // A triangle over the last block's half of the cost: everybody has left at the end.
        assert!((efficacy(&[0, 0, 8], &costs) - 0.25).abs() < 1e-12);
        // A triangle up to a quarter of the cost, then everybody is gone.
        assert!((efficacy(&[8, 0, 0], &costs) - (0.125 + 0.75)).abs() < 1e-12);
        // The same on the costs of the paper's networks: half the last block's share, as DeepSloth's code has it.
        let nobody_early = |costs: &[ExitCost]| {
            let mut left = vec![0; costs.len()];
            left[costs.len() - 1] = 100;
            efficacy(&left, costs)
        };
        let mnist = Frozen::new(&SmallCnnConfig::default().init(0, &Device::flex())).costs();
        let cifar100 =
            Frozen::new(&MsdNetConfig { blocks: 7, classes: 100, ..MsdNetConfig::default() }.init(0, &Device::flex()))
                .costs();
        assert!((nobody_early(&mnist) - 0.117).abs() < 5e-4, "{}", nobody_early(&mnist));
        assert!((nobody_early(&cifar100) - 0.059).abs() < 5e-4, "{}", nobody_early(&cifar100));
        // A triangle and two trapezia.
        let expected = 0.25 * 0.25 / 2.0 + 0.25 * 0.375 + 0.5 * 0.75;
        assert!((efficacy(&[2, 2, 4], &costs) - expected).abs() < 1e-12);
    }
}
