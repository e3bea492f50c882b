//! Exit policies as users name them, and the file that calibration writes.

use std::path::Path;

use neokd_model::policy::{Policy, Rule};
use serde::{Deserialize, Serialize};

use crate::{Error, files};

/// Version of the file's schema.
pub const SCHEMA: &str = "neokd.budget/1";

/// Thresholds found on validation images: one set per budget, and the one that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetFile {
    /// [`SCHEMA`].
    pub schema: String,
    /// Data set whose validation split was used.
    pub data: String,
    /// Number of validation images.
    pub n: u64,
    /// Whether answers and confidences are those of the ensemble of exits so far.
    pub ensemble: bool,
    /// Index of the chosen budget in `budgets`.
    pub chosen: usize,
    /// The budgets, from cheap to expensive.
    pub budgets: Vec<Budget>,
}

/// One allocation of validation images to exits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Share of images allocated to each exit.
    pub shares: Vec<f64>,
    /// Confidence at which images leave each exit but the last; null where nobody leaves.
    #[serde(deserialize_with = "exactly")]
    pub thresholds: Vec<Option<f64>>,
    /// Mean multiply-adds of a validation image.
    pub multiply_adds: f64,
    /// Share of validation images answered correctly.
    pub accuracy: f64,
}

/// Reads thresholds to the bit. They are confidences, thus 32-bit numbers, and images leave where theirs is not below:
/// a threshold that is higher by the last of 64 bits keeps the image that it was taken from. The JSON reader is off by
/// that much in one number of seven; whatever is so close to a 32-bit number is that number.
fn exactly<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Vec<Option<f64>>, D::Error> {
    let exact = |threshold: f64| {
        let confidence = f64::from(threshold as f32);
        if (threshold - confidence).abs() <= 4.0 * f64::EPSILON * confidence.abs() { confidence } else { threshold }
    };
    let thresholds = Vec::<Option<f64>>::deserialize(reader)?;
    Ok(thresholds.into_iter().map(|threshold| threshold.map(exact)).collect())
}

impl BudgetFile {
    /// Reads a file that `neokd calibrate` wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Config`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::Config(format!("{}: {why}; make it again with neokd calibrate", path.display()));
        let file: Self = serde_json::from_slice(&files::read(path)?).map_err(|error| bad(error.to_string()))?;
        match file.schema == SCHEMA && file.chosen < file.budgets.len() {
            true => Ok(file),
            false => Err(bad(format!("schema {:?} with {} budgets is not {SCHEMA}", file.schema, file.budgets.len()))),
        }
    }

    /// The policies of all its budgets, for a network with `exits` exits.
    ///
    /// # Errors
    /// [`Error::Config`] if it was made for a network with another number of exits.
    pub fn policies(&self, exits: usize) -> Result<Vec<Policy>, Error> {
        let policies: Vec<Policy> = (0..self.budgets.len()).map(|budget| self.policy(budget)).collect();
        match policies.iter().find_map(|policy| policy.problem(exits)) {
            Some(why) => Err(Error::Config(format!("thresholds made for another network: {why}"))),
            None => Ok(policies),
        }
    }

    /// The policy of one of its budgets.
    pub fn policy(&self, budget: usize) -> Policy {
        let thresholds = self.budgets[budget].thresholds.iter().map(|threshold| threshold.unwrap_or(f64::INFINITY));
        Policy { rule: Rule::Confidence(thresholds.collect()), ensemble: self.ensemble }
    }
}

/// Reads `confidence:T`, `entropy:T`, `patience:N`, `fixed:EXIT` or `budget:FILE`, for a network with
/// `exits` exits.
///
/// # Errors
/// [`Error::Config`] names the text and what it should be.
pub fn parse(text: &str, ensemble: bool, exits: usize) -> Result<Policy, Error> {
    let bad = |why: &str| {
        Error::Config(format!(
            "policy {text:?}: {why}; there are confidence:T, entropy:T, patience:N, fixed:EXIT and budget:FILE"
        ))
    };
    let (name, value) = text.split_once(':').ok_or_else(|| bad("a colon is missing"))?;
    let number = || value.parse::<f64>().map_err(|_| bad("not a number"));
    let count = || value.parse::<usize>().map_err(|_| bad("not a whole number"));
    let policy = match name {
        "confidence" => match number()? {
            // Above 1 nobody leaves early, which is asked for at times.
            share if (0.0..2.0).contains(&share) => Policy { rule: Rule::Confidence(vec![share]), ensemble },
            percent if (2.0..=100.0).contains(&percent) => {
                return Err(bad(&format!("a confidence is from 0 to 1; did you mean {}?", percent / 100.0)));
            }
            _ => return Err(bad("a confidence is from 0 to 1")),
        },
        "entropy" => match number()? {
            nats if nats >= 0.0 => Policy { rule: Rule::Entropy(nats), ensemble },
            _ => return Err(bad("an entropy is 0 or more, in nats")),
        },
        "patience" => Policy { rule: Rule::Patience(count()?), ensemble },
        "fixed" => Policy { rule: Rule::Fixed(count()?), ensemble },
        "budget" => {
            let file = BudgetFile::read(Path::new(value))?;
            file.policy(file.chosen)
        }
        _ => return Err(bad("unknown")),
    };
    match policy.problem(exits) {
        Some(why) => Err(bad(&why)),
        None => Ok(policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_that_cannot_be_is_refused() {
        for (text, says) in
            [("confidence:90", "did you mean 0.9"), ("confidence:-1", "from 0 to 1"), ("entropy:-2", "nats")]
        {
            let error = parse(text, false, 3).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(parse("confidence:0.9", false, 3).is_ok() && parse("entropy:2.5", true, 3).is_ok());
    }

    /// Confidences of images, and numbers that were typed.
    #[test]
    fn thresholds_come_back_to_the_bit() {
        let confidences = (1..20_000u32).map(|step| f64::from(1.0 / (1.0 + step as f32 * 0.37)));
        let thresholds: Vec<Option<f64>> = confidences.chain([0.0, 1.0, 0.9, 0.123_456_789]).map(Some).collect();
        let budget = Budget { shares: Vec::new(), thresholds, multiply_adds: 0.0, accuracy: 0.0 };
        let read: Budget = serde_json::from_str(&serde_json::to_string(&budget).unwrap()).unwrap();
        assert_eq!(read.thresholds, budget.thresholds);
        let nobody: Budget =
            serde_json::from_str(r#"{"shares": [], "thresholds": [null, 0.5], "multiply_adds": 1.0, "accuracy": 0.5}"#)
                .unwrap();
        assert_eq!(nobody.thresholds, [None, Some(0.5)]);
    }
}
