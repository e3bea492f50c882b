//! Learning rates as pure functions of the step, so that a resumed run needs no schedule state.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over training; `kind` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Multiplied by `factor` once each milestone is reached.
    Step {
        /// Learning rate at the start.
        rate: f64,
        /// Shares of the whole training, ascending, in `(0, 1)`.
        milestones: Vec<f64>,
        /// What the rate is multiplied by at each milestone.
        #[serde(default = "tenth")]
        factor: f64,
    },
    /// Half a cosine from `rate` down to `last` (Loshchilov and Hutter 2017).
    Cosine {
        /// Learning rate at the start.
        rate: f64,
        /// Learning rate at the end.
        #[serde(default)]
        last: f64,
    },
    /// A straight line from zero up to `rate` at `peak`, and down to zero at the end (Smith 2018, as
    /// Wong et al. 2020 use it for fast adversarial training).
    Cyclic {
        /// Largest learning rate.
        rate: f64,
        /// Where it is reached, as a share of the whole training in `(0, 1)`.
        peak: f64,
    },
}

fn tenth() -> f64 {
    0.1
}

impl ScheduleConfig {
    /// Learning rate of step `step` (from 0) of `steps`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let done = step as f64 / steps.max(1) as f64;
        match self {
            Self::Step { rate, milestones, factor } => {
                let passed = milestones.iter().filter(|milestone| done >= **milestone).count();
                rate * factor.powi(passed as i32)
            }
            Self::Cosine { rate, last } => last + (rate - last) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Cyclic { rate, peak } => {
                // The middle of the step, so that neither the first nor the last step is wasted at zero.
                let middle = (step as f64 + 0.5) / steps.max(1) as f64;
                rate * (middle / peak).min((1.0 - middle) / (1.0 - peak))
            }
        }
    }

    /// Why this schedule makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let (Self::Step { rate, .. } | Self::Cosine { rate, .. } | Self::Cyclic { rate, .. }) = self;
        if !(rate.is_finite() && *rate > 0.0) {
            return Some(format!("rate = {rate}: must be a finite number larger than 0"));
        }
        match self {
            Self::Step { milestones, factor, .. } => {
                let ordered = milestones.windows(2).all(|pair| pair[0] < pair[1]);
                if !ordered || milestones.iter().any(|at| !(*at > 0.0 && *at < 1.0)) {
                    return Some(format!(
                        "milestones = {milestones:?}: must ascend inside (0, 1), shares of the training"
                    ));
                }
                let fine = factor.is_finite() && *factor > 0.0;
                (!fine).then(|| format!("factor = {factor}: must be a finite number larger than 0"))
            }
            Self::Cosine { last, rate } => {
                let fine = *last >= 0.0 && last <= rate;
                (!fine).then(|| format!("last = {last}: must be in [0, rate]"))
            }
            Self::Cyclic { peak, .. } => {
                let fine = *peak > 0.0 && *peak < 1.0;
                (!fine).then(|| format!("peak = {peak}: must be in (0, 1), a share of the training"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_at_their_milestones_as_in_triple_wins() {
        let schedule = ScheduleConfig::Step {
            rate: 0.033,
            milestones: vec![11_700.0 / 13_100.0, 12_900.0 / 13_100.0],
            factor: 0.1,
        };
        let rate = |step| schedule.rate(step, 13_100);
        assert_eq!(rate(0), 0.033);
        assert_eq!(rate(11_699), 0.033);
        assert!((rate(11_700) - 0.0033).abs() < 1e-12);
        assert!((rate(12_900) - 0.00033).abs() < 1e-12);
    }

    #[test]
    fn cosine_and_cyclic_keep_between_their_ends() {
        let cosine = ScheduleConfig::Cosine { rate: 0.1, last: 0.001 };
        assert_eq!(cosine.rate(0, 100), 0.1);
        assert!((cosine.rate(50, 100) - 0.0505).abs() < 1e-12);
        let cyclic = ScheduleConfig::Cyclic { rate: 0.2, peak: 0.4 };
        let rates: Vec<f64> = (0..1000).map(|step| cyclic.rate(step, 1000)).collect();
        assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= 0.2));
        let peak = (0..1000).max_by(|a, b| rates[*a].total_cmp(&rates[*b])).unwrap_or(0);
        assert!((399..=400).contains(&peak), "{peak}");
    }
}
