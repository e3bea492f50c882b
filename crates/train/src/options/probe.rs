//! An alarm for catastrophic overfitting: a network trained against a single gradient step can become
//! immune to that step and to nothing else (Wong et al. 2020, section 5.4; Andriushchenko and Flammarion
//! 2020). A few held-out images under FGSM and under PGD tell, while it happens.

use burn::tensor::Device;
use neokd_attack::{Attack, Objective, Pgd, Threat};
use neokd_datasets::Images;
use neokd_evaluate::Error;
use neokd_evaluate::attack_run::AttackRun;
use neokd_evaluate::images::Source;
use neokd_evaluate::interval::Share;
use neokd_evaluate::{Evaluation, ImageOutcomes};
use neokd_model::{Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::options::training_attack::TrainingAttack;

/// Share of what clean accuracy has above chance that FGSM accuracy must keep for an exit to count as immune to it.
const IMMUNE: f64 = 0.5;
/// PGD accuracy has collapsed where, above chance, it is below this share of FGSM accuracy.
const COLLAPSED: f64 = 0.3;

/// Settings of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// `single-step` (where the training attack is one step), `always` or `never`.
    pub when: When,
    /// Look every so many steps.
    pub every_steps: u64,
    /// Number of held-out images, the first of the validation split.
    pub images: usize,
    /// Steps of the PGD attack, each a quarter of epsilon.
    pub steps: usize,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { when: When::SingleStep, every_steps: 100, images: 64, steps: 10 }
    }
}

/// When to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// While the training attack is a single step.
    #[default]
    SingleStep,
    /// Whatever the training attack.
    Always,
    /// Never.
    Never,
}

/// Accuracy on a few held-out training images under one gradient step and under many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Steps done.
    pub step: u64,
    /// Accuracy per exit without an attack; absent in old files.
    #[serde(default)]
    pub clean: Vec<Share>,
    /// Accuracy per exit under FGSM.
    pub fgsm: Vec<Share>,
    /// Accuracy per exit under PGD.
    pub pgd: Vec<Share>,
    /// Exits that withstand FGSM and not PGD: the alarm, if there are any.
    pub collapsed: Vec<usize>,
}

impl ProbeConfig {
    /// Why this makes no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        let numbers = [("every_steps", self.every_steps), ("images", self.images as u64), ("steps", self.steps as u64)];
        let zero = numbers.into_iter().find(|(_, value)| *value == 0)?;
        Some(format!("{} = 0: must be at least 1; when = \"never\" switches the probe off", zero.0))
    }

    /// Whether to look after `step` steps of training with `attack`.
    pub fn is_due(&self, step: u64, attack: &TrainingAttack) -> bool {
        let wanted = match self.when {
            When::SingleStep => attack.is_single_step(),
            When::Always => true,
            When::Never => false,
        };
        wanted && step.is_multiple_of(self.every_steps)
    }

    /// Accuracy of every exit on held-out images under FGSM and PGD on the average of the exits.
    ///
    /// # Errors
    /// As [`Evaluation::run`].
    pub fn look<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        set: &dyn Images,
        threat: &Threat,
        key: u64,
        step: u64,
        device: &Device,
    ) -> Result<ProbeRecord, Error> {
        let pgd = Pgd { steps: self.steps, step_size: threat.epsilon / 4.0, random_start: true, restarts: 1 };
        let runs = [Pgd::fgsm(threat), pgd].map(|pgd| AttackRun::of(&Attack::new(Objective::Average, pgd), threat));
        let images = Source::from(set);
        let scored = Evaluation {
            count: images.count(self.images),
            batch_size: self.images,
            key,
            ..Evaluation::new(model, &images, &runs, 0, device)
        }
        .run()?;
        let accuracy = |found: &ImageOutcomes| found.whole.accuracy().exits;
        let (clean, fgsm, pgd) = (accuracy(&scored.clean), accuracy(&scored.runs[0]), accuracy(&scored.runs[1]));
        let chance = 1.0 / model.classes() as f64;
        Ok(ProbeRecord { step, collapsed: collapsed(&clean, &fgsm, &pgd, chance), clean, fgsm, pgd })
    }
}

/// Exits that withstand one step and not many, measured above `chance` and by what they know without an attack:
/// half of a clean accuracy of 16 % of 100 classes is as much of a warning as half of 98 % of ten. The 95 %
/// intervals of FGSM and PGD accuracy must be apart, so that a few images alone raise no alarm.
fn collapsed(clean: &[Share], fgsm: &[Share], pgd: &[Share], chance: f64) -> Vec<usize> {
    let overfitted = |(clean, (fgsm, pgd)): (&Share, (&Share, &Share))| {
        let above = |share: &Share| (share.value - chance).max(0.0);
        let immune = above(fgsm) > 0.0 && above(fgsm) >= IMMUNE * above(clean);
        immune && above(pgd) < COLLAPSED * above(fgsm) && fgsm.low > pgd.high
    };
    let exits = clean.iter().zip(fgsm.iter().zip(pgd)).enumerate();
    exits.filter(|(_, exit)| overfitted(*exit)).map(|(exit, _)| exit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares<const N: usize>(counts: [u64; N], n: u64) -> [Share; N] {
        counts.map(|count| Share::new(count, n))
    }

    #[test]
    fn only_an_exit_that_is_immune_to_one_step_alone_has_collapsed() {
        let (clean, fgsm) = (shares([97, 97, 90, 97], 100), shares([95, 95, 30, 60], 100));
        assert_eq!(collapsed(&clean, &fgsm, &shares([2, 80, 1, 40], 100), 0.1), [0]);
    }

    #[test]
    fn a_network_that_knows_little_can_collapse_too() {
        // CIFAR-100 early in training: 16 % clean, of which one step leaves 14 and many leave none.
        let (clean, fgsm) = (shares([16, 16, 16], 100), shares([14, 14, 5], 100));
        assert_eq!(collapsed(&clean, &fgsm, &shares([0, 9, 0], 100), 0.01), [0]);
        // On ten classes 10 % is chance, and eight images say little.
        assert!(collapsed(&shares([14], 100), &shares([10], 100), &shares([0], 100), 0.1).is_empty());
        assert!(collapsed(&shares([2], 8), &shares([2], 8), &shares([0], 8), 0.01).is_empty());
    }
}
