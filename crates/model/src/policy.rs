//! When to leave: the exit policies of a deployed multi-exit network.

use serde::{Deserialize, Deserializer, Serialize};

/// How an image decides whether an exit's answer is good enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Leave where the largest probability reaches this exit's threshold (MSDNet, Huang et al.
    /// 2018); one threshold per exit but the last, or one for all.
    Confidence(#[serde(deserialize_with = "or_infinite")] Vec<f64>),
    /// Leave where the entropy `-sum p log(p + 1e-5)`, in nats, is below the threshold (Triple Wins,
    /// Hu et al. 2020).
    Entropy(f64),
    /// Leave where the answer has stayed the same for so many exits in a row after the first that
    /// gave it (PABEE, Zhou et al. 2020).
    Patience(usize),
    /// Always leave at this exit, from 0.
    Fixed(usize),
}

/// Thresholds, of which JSON writes one that nobody reaches as null.
fn or_infinite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let thresholds = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(thresholds.into_iter().map(|threshold| threshold.unwrap_or(f64::INFINITY)).collect())
}

/// A rule, and what it looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// When to leave; the last exit takes the rest.
    pub rule: Rule,
    /// Whether the answer at an exit is the mean of the probabilities of all exits so far, which
    /// have been computed anyway, instead of its own.
    pub ensemble: bool,
}

/// What an image left with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The exit, from 0.
    pub exit: usize,
    /// The class.
    pub label: usize,
    /// Its probability.
    pub confidence: f32,
}

impl Policy {
    /// Why this policy cannot serve a network with `exits` exits, if so.
    pub fn problem(&self, exits: usize) -> Option<String> {
        match &self.rule {
            Rule::Confidence(thresholds) if thresholds.len() != 1 && thresholds.len() + 1 < exits => {
                Some(format!("{} confidence thresholds for {exits} exits: give 1 or {}", thresholds.len(), exits - 1))
            }
            Rule::Confidence(thresholds) => thresholds
                .iter()
                .find(|threshold| threshold.is_nan())
                .map(|_| "a confidence threshold is not a number".to_string()),
            Rule::Entropy(threshold) if threshold.is_nan() => Some("the entropy threshold is not a number".to_string()),
            Rule::Patience(0) => {
                Some("patience 0 would always leave at the first exit: use fixed:0 for that".to_string())
            }
            Rule::Fixed(exit) if *exit >= exits => {
                Some(format!("fixed:{exit}: the network has {exits} exits, numbered 0 to {}", exits - 1))
            }
            _ => None,
        }
    }

    /// Starts an image on its way.
    pub fn walk(&self, exits: usize) -> Walk<'_> {
        Walk { policy: self, exits, exit: 0, sum: Vec::new(), label: usize::MAX, same: 0 }
    }

    /// Where an image leaves, given the probabilities of all exits.
    pub fn decide<'a>(&self, probabilities: impl ExactSizeIterator<Item = &'a [f32]>) -> Option<Answer> {
        let mut walk = self.walk(probabilities.len());
        probabilities.into_iter().find_map(|row| walk.visit(row))
    }
}

/// One image on its way along the exits.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    policy: &'a Policy,
    exits: usize,
    exit: usize,
    sum: Vec<f32>,
    label: usize,
    same: usize,
}

impl Walk<'_> {
    /// Shows the next exit's probabilities; gives the answer if the image leaves here.
    pub fn visit(&mut self, probabilities: &[f32]) -> Option<Answer> {
        let exit = self.exit;
        self.exit += 1;
        let answer = self.answer(exit, probabilities);
        self.same = if answer.label == self.label { self.same + 1 } else { 0 };
        self.label = answer.label;
        let leaves = match &self.policy.rule {
            Rule::Confidence(thresholds) => {
                let threshold =
                    if thresholds.len() == 1 { thresholds[0] } else { thresholds.get(exit).copied().unwrap_or(0.0) };
                f64::from(answer.confidence) >= threshold
            }
            Rule::Entropy(threshold) => entropy(self.seen(probabilities)) < *threshold,
            Rule::Patience(times) => self.same >= *times,
            Rule::Fixed(fixed) => exit == *fixed,
        };
        (leaves || exit + 1 == self.exits).then_some(answer)
    }

    fn answer(&mut self, exit: usize, probabilities: &[f32]) -> Answer {
        if self.policy.ensemble {
            self.sum.resize(probabilities.len(), 0.0);
            // A running mean: its largest entry is the confidence.
            let weight = 1.0 / (exit + 1) as f32;
            for (mean, value) in self.sum.iter_mut().zip(probabilities) {
                *mean += (value - *mean) * weight;
            }
        }
        let row = self.seen(probabilities);
        let label = (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        Answer { exit, label, confidence: row[label] }
    }

    fn seen<'b>(&'b self, probabilities: &'b [f32]) -> &'b [f32] {
        if self.policy.ensemble { &self.sum } else { probabilities }
    }
}

fn entropy(probabilities: &[f32]) -> f64 {
    probabilities.iter().map(|&value| f64::from(value)).map(|value| -value * (value + 1e-5).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURE: [f32; 3] = [0.9, 0.05, 0.05];
    const TORN: [f32; 3] = [0.4, 0.5, 0.1];

    fn exit_of(rule: Rule, ensemble: bool, rows: &[[f32; 3]]) -> (usize, usize) {
        let policy = Policy { rule, ensemble };
        let answer = policy.decide(rows.iter().map(|row| row.as_slice())).unwrap();
        (answer.exit, answer.label)
    }

    #[test]
    fn confidence_leaves_at_the_first_sure_exit_and_the_last_takes_the_rest() {
        let rule = || Rule::Confidence(vec![0.8]);
        assert_eq!(exit_of(rule(), false, &[TORN, SURE, SURE]), (1, 0));
        assert_eq!(exit_of(rule(), false, &[TORN, TORN, TORN]), (2, 1));
        let rising = Rule::Confidence(vec![f64::INFINITY, 0.45]);
        assert_eq!(exit_of(rising, false, &[SURE, TORN, SURE]), (1, 1));
    }

    #[test]
    fn entropy_patience_and_fixed_follow_their_definitions() {
        assert_eq!(exit_of(Rule::Entropy(0.5), false, &[TORN, SURE, TORN]), (1, 0));
        assert_eq!(exit_of(Rule::Patience(1), false, &[TORN, SURE, SURE, TORN]), (2, 0));
        assert_eq!(exit_of(Rule::Patience(2), false, &[TORN, TORN, TORN, SURE]), (2, 1));
        assert_eq!(exit_of(Rule::Fixed(1), false, &[SURE, TORN, SURE]), (1, 1));
    }

    #[test]
    fn the_ensemble_answers_with_the_mean_of_all_exits_so_far() {
        let policy = Policy { rule: Rule::Fixed(1), ensemble: true };
        let answer = policy.decide([TORN, SURE].iter().map(|row| row.as_slice())).unwrap();
        assert_eq!(answer.label, 0);
        assert!((answer.confidence - 0.65).abs() < 1e-6);
    }

    #[test]
    fn policies_that_do_not_fit_are_refused() {
        for rule in
            [Rule::Fixed(3), Rule::Patience(0), Rule::Confidence(vec![0.1, 0.2, f64::NAN]), Rule::Entropy(f64::NAN)]
        {
            assert!(Policy { rule, ensemble: false }.problem(3).is_some());
        }
        let few = Policy { rule: Rule::Confidence(vec![0.1, 0.2]), ensemble: false };
        assert!(few.problem(7).is_some() && few.problem(3).is_none());
    }
}
