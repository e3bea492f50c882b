//! `report.json` as a reader meets it: the fields that are shown, and nothing that need not be there.
//!
//! Writing has the strict [`Report`](crate::report::Report); reading is apart from it, so that a report made by an earlier or
//! later build of the same schema version can still be shown.

use std::path::Path;

use neokd_attack::Passes;
use neokd_evaluate::accuracy::{Accuracy, Versions};
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::Calibration;
use neokd_evaluate::{Error, files};
use neokd_model::ExitCost;
use serde::Deserialize;
use serde_json::Value;

use crate::chart::number;
use crate::report::SCHEMA;

/// A report that was read.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// Versions of what computed it.
    pub versions: Option<Versions>,
    /// Seed of everything random.
    pub seed: u64,
    /// The configuration, as it is written.
    pub config: Value,
    /// Which device computed it.
    #[serde(default)]
    pub device: String,
    /// The images, as they are written.
    #[serde(default)]
    pub data: Value,
    /// Cumulative cost of each exit for one image.
    pub costs: Vec<ExitCost>,
    /// How far training went.
    pub training: Option<Training>,
    /// Test images that were scored.
    pub n: u64,
    /// On clean test images.
    pub clean: Accuracy,
    /// What each exit's confidence is worth on clean test images.
    #[serde(default)]
    pub calibration: Vec<Calibration>,
    /// Exit policies on clean test images.
    #[serde(default)]
    pub policies: Vec<PolicyResult>,
    /// The place in `policies` of the deployed one.
    pub deployed: Option<usize>,
    /// The attacks.
    #[serde(default)]
    pub attacks: Vec<AttackResult>,
    /// Passes spent on the evaluation.
    pub passes: Option<Passes>,
    /// Wall time of the evaluation in seconds.
    pub seconds: Option<f64>,
    /// Whether the whole evaluation is to be believed.
    pub verdict: Option<Verdict>,
    /// How attacks on one exit do at the others.
    pub transfer: Option<Transfer>,
}

/// How far training went.
#[derive(Clone, Debug, Deserialize)]
pub struct Training {
    /// Whether all epochs were done.
    pub complete: bool,
    /// Steps planned.
    pub planned_steps: u64,
    /// What was done.
    pub progress: Progress,
}

/// What was done in training.
#[derive(Clone, Debug, Deserialize)]
pub struct Progress {
    /// Steps.
    pub step: u64,
    /// Passes, attacks included.
    pub passes: Option<Passes>,
    /// Wall time.
    pub seconds: Option<f64>,
}

/// Accuracy under one attack.
#[derive(Clone, Debug, Deserialize)]
pub struct AttackResult {
    /// Name of the attack, where it is more than its objective.
    pub name: Option<String>,
    /// How it searches; PGD where a report does not say.
    pub search: Option<String>,
    /// What it maximises.
    #[serde(default)]
    pub objective: String,
    /// Norm of the threat.
    #[serde(default)]
    pub norm: String,
    /// Radius in pixel units.
    pub epsilon: Option<f64>,
    /// Gradient steps.
    pub steps: Option<u64>,
    /// Length of a step.
    pub step_size: Option<f64>,
    /// Whether it starts at a random point of the ball.
    pub random_start: Option<bool>,
    /// Independent runs.
    pub restarts: Option<u64>,
    /// Accuracy.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// What each exit's confidence is worth on the attacked images.
    #[serde(default)]
    pub calibration: Vec<Calibration>,
    /// Accuracy of each exit under the attack on it alone, where there was one.
    #[serde(default)]
    pub own: Vec<Option<Share>>,
    /// Images that every exit is right about, whatever was tried.
    pub any_exit: Option<Share>,
    /// Exit policies on the same adversarial images.
    #[serde(default)]
    pub policies: Vec<PolicyResult>,
    /// Passes spent on it.
    pub passes: Option<Passes>,
    /// Of the images that all exits classify correctly when clean, the share that each exit then misclassifies.
    #[serde(default)]
    pub fooled: Vec<Share>,
    /// Whether it is to be believed.
    pub verdict: Option<Verdict>,
    /// How it does at exits that it did not attack.
    pub transfer: Option<Transfer>,
}

/// What a policy makes of the test images.
#[derive(Clone, Debug, Deserialize)]
pub struct PolicyResult {
    /// The policy, as it is written.
    #[serde(default)]
    pub policy: Value,
    /// Images answered correctly.
    pub accuracy: Share,
    /// Mean multiply-adds of an image.
    pub multiply_adds: f64,
    /// Images that left at each exit.
    pub left: Vec<u64>,
    /// How much of the cost is saved: 1 if all left for nothing.
    pub efficacy: Option<f64>,
    /// Images answered correctly as they are and whatever was tried.
    pub robust: Option<Share>,
}

/// Whether numbers are to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// The judgement.
    pub level: Level,
    /// What it rests on.
    #[serde(default)]
    pub reasons: Vec<Reason>,
}

/// A sentence, alone or with what it was measured by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Reason {
    /// The sentence.
    Plain(String),
    /// The sentence beside other fields, which are not shown.
    Measured {
        /// The sentence.
        text: String,
    },
}

impl Reason {
    /// The sentence.
    pub fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Measured { text } => text,
        }
    }
}

impl Verdict {
    /// The sentences.
    pub fn sentences(&self) -> Vec<String> {
        self.reasons.iter().map(|reason| reason.text().to_string()).collect()
    }
}

/// A judgement; the later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing speaks against it.
    Pass,
    /// Something should be looked at.
    Warn,
    /// Not to be believed.
    Fail,
}

impl Level {
    /// As it is written in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Exit-by-exit shares, or counts of images; rows are attacked exits, columns answering exits.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Transfer {
    /// The shares, row by row.
    #[serde(default)]
    pub rows: Vec<Vec<Cell>>,
    /// Instead of shares: how many of `images` the attack on an exit makes another misclassify.
    #[serde(default)]
    pub fooled: Vec<Vec<u64>>,
    /// Images that all exits classify correctly when clean.
    #[serde(default)]
    pub images: u64,
    /// What the shares are of.
    pub measure: Option<String>,
}

/// What the shares of a transfer matrix are of, where it is made of counts.
pub(super) const FOOLED: &str = "shares of the images that all exits classify correctly when clean, and that the answering exit \
                      then misclassifies";

impl Transfer {
    /// The matrix in per cent; not a number where nothing was measured.
    pub fn percent(&self) -> Vec<Vec<f64>> {
        let shares = self.rows.iter().map(|row| row.iter().map(Cell::percent).collect());
        let counts =
            self.fooled.iter().map(|row| row.iter().map(|count| 100.0 * *count as f64 / self.images as f64).collect());
        if self.rows.is_empty() { counts.collect() } else { shares.collect() }
    }

    /// What the shares are of, in words.
    pub fn meaning(&self) -> Option<&str> {
        self.measure.as_deref().or((!self.fooled.is_empty()).then_some(FOOLED))
    }
}

/// A share with or without its interval.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// With counts and interval.
    Share(Share),
    /// The ratio alone.
    Ratio(f64),
    /// Not measured.
    None(()),
}

impl Cell {
    /// The ratio in per cent; not a number where nothing was measured.
    pub fn percent(&self) -> f64 {
        match self {
            Self::Share(share) => 100.0 * share.value,
            Self::Ratio(ratio) => 100.0 * ratio,
            Self::None(()) => f64::NAN,
        }
    }
}

impl Document {
    /// Reads a report.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::RunDir`] names the file, the field and what helps: for another schema version, the
    /// program that wrote it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::RunDir { folder: path.to_path_buf(), why };
        let again = "write it again with neokd evaluate RUN --out";
        let value: Value = serde_json::from_slice(&files::read(path)?)
            .map_err(|error| bad(format!("not a complete report ({error}); {again} {}", path.display())))?;
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {}
            Some(other) if other.starts_with("neokd.report/") => {
                let version = value.pointer("/versions/neokd").and_then(Value::as_str).unwrap_or("that wrote it");
                return Err(bad(format!(
                    "schema {other}, this program reads {SCHEMA}; show it with neokd {version}, or {again} {}",
                    path.display()
                )));
            }
            _ => {
                return Err(bad(format!(
                    "no \"schema\": \"{SCHEMA}\" inside, so no report; {again} {}",
                    path.display()
                )));
            }
        }
        serde_path_to_error::deserialize(value)
            .map_err(|error| bad(format!("{}: {}; {again} {}", error.path(), error.inner(), path.display())))
    }

    /// The deployed system's own figures, where there is one: accuracy on clean images, under every attack on its
    /// policy, and policy-robust accuracy; each with its name and setting.
    pub fn of_deployed(&self) -> Vec<(String, String, &Share, Option<&Verdict>)> {
        let Some(clean) = self.deployed() else { return Vec::new() };
        let whole =
            ("deployed system, clean".to_string(), "where images leave early".to_string(), &clean.accuracy, None);
        let attacks = self.attacks.iter().filter(|attack| attack.objective == "policy").filter_map(|attack| {
            let name = format!("deployed system under {}", attack.label());
            Some((name, attack.setting(), &attack.under(clean)?.accuracy, attack.verdict.as_ref()))
        });
        let robust = clean.robust.as_ref();
        let robust =
            robust.map(|robust| ("policy-robust".to_string(), "right whatever was tried".to_string(), robust, None));
        std::iter::once(whole).chain(attacks).chain(robust).collect()
    }

    /// The deployed policy on clean images; in reports that do not say which it is, the middle one of a curve of budgets.
    pub fn deployed(&self) -> Option<&PolicyResult> {
        self.policies.get(self.deployed.unwrap_or(self.policies.len() / 2))
    }

    /// The attacks on the network as a whole; those on single exits only where there are no others.
    pub fn on_the_whole(&self) -> impl Iterator<Item = &AttackResult> {
        let all_single = self.attacks.iter().all(|attack| attack.single().is_some());
        self.attacks.iter().filter(move |attack| all_single || attack.single().is_none())
    }

    /// The transfer matrix that the attacks on single exits make, if there is one for every exit.
    pub fn transfer_of_singles(&self) -> Option<Transfer> {
        let row = |exit: usize| {
            let attack =
                self.attacks.iter().find(|attack| attack.single() == Some(exit) && !attack.fooled.is_empty())?;
            Some(attack.fooled.iter().copied().map(Cell::Share).collect())
        };
        let rows: Vec<Vec<Cell>> = (0..self.costs.len()).map(row).collect::<Option<_>>()?;
        (!rows.is_empty()).then(|| Transfer { rows, measure: Some(FOOLED.to_string()), ..Transfer::default() })
    }

    /// The worst verdict of the report and its attacks, with the reasons of all of that level.
    pub fn verdict(&self) -> Option<Verdict> {
        let attacks = self.attacks.iter().filter_map(|attack| Some((attack.label(), attack.verdict.as_ref()?)));
        let named: Vec<(String, &Verdict)> =
            self.verdict.iter().map(|verdict| (String::new(), verdict)).chain(attacks).collect();
        let level = named.iter().map(|(_, verdict)| verdict.level).max()?;
        let worst = named.iter().filter(|(_, verdict)| verdict.level == level);
        let reasons = worst.flat_map(|(name, verdict)| {
            let prefix = if name.is_empty() { String::new() } else { format!("{name}: ") };
            verdict.reasons.iter().map(move |reason| Reason::Plain(format!("{prefix}{}", reason.text())))
        });
        Some(Verdict { level, reasons: reasons.collect() })
    }
}

impl AttackResult {
    /// The exit that it attacks, if that is a single one.
    pub fn single(&self) -> Option<usize> {
        self.objective.strip_prefix("single:")?.parse().ok()
    }

    /// What a policy makes of its images.
    pub fn under(&self, policy: &PolicyResult) -> Option<&PolicyResult> {
        self.policies.iter().find(|found| found.policy == policy.policy)
    }

    /// What it is called in tables.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if self.objective.is_empty() => "attack".to_string(),
            None => match self.search.as_deref().filter(|search| *search != "pgd") {
                Some(search) => format!("{search} {}", self.objective),
                None => self.objective.clone(),
            },
        }
    }

    /// The threat: `linf 8/255`.
    pub fn threat(&self) -> String {
        match self.epsilon {
            Some(epsilon) => format!("{} {}", self.norm, pixel_units(epsilon)).trim().to_string(),
            None => self.norm.clone(),
        }
    }

    /// The threat and how hard the attack tried: `linf 8/255, 20 steps`.
    pub fn setting(&self) -> String {
        let runs = self.restarts.filter(|runs| *runs > 1).map(|runs| format!("{runs} runs"));
        let steps = self.steps.map(|steps| format!("{steps} step{}", if steps == 1 { "" } else { "s" }));
        let parts = [Some(self.threat()), steps, runs];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// A length in pixel units, as a number of 255ths where it is one.
pub fn pixel_units(value: f64) -> String {
    let levels = value * 255.0;
    match value > 0.0 && levels < 64.0 && (levels - levels.round()).abs() < 1e-6 {
        true => format!("{levels:.0}/255"),
        false => number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attack(text: &str) -> AttackResult {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_attack_needs_only_its_accuracy() {
        let bare = attack(r#"{"exits": [], "mean": 0.5}"#);
        assert_eq!((bare.label().as_str(), bare.setting().as_str()), ("attack", ""));
        let full = attack(
            r#"{"name": "apgd", "objective": "average", "norm": "linf", "epsilon": 0.03137254901960784, "steps": 1,
                "restarts": 5, "exits": [], "mean": 0.1, "verdict": {"level": "warn", "reasons": ["few steps"]},
                "transfer": {"rows": [[0.5, null], [{"count": 1, "n": 4, "value": 0.25, "low": 0.1, "high": 0.6}, 1]]}}"#,
        );
        assert_eq!((full.label().as_str(), full.setting().as_str()), ("apgd", "linf 8/255, 1 step, 5 runs"));
        let rows = &full.transfer.unwrap().rows;
        assert_eq!(rows[1].iter().map(Cell::percent).collect::<Vec<_>>(), [25.0, 100.0]);
        assert!(rows[0][1].percent().is_nan());
        assert_eq!(full.verdict.unwrap().level, Level::Warn);
    }

    #[test]
    fn a_verdict_may_carry_what_was_measured_and_a_matrix_its_counts() {
        let measured = attack(
            r#"{"exits": [], "mean": 0.1, "transfer": {"images": 4, "fooled": [[4, 1]], "passes": {}},
                "verdict": {"level": "fail", "reasons": [{"check": "zero-gradient", "value": 0.5, "text": "masked"}]}}"#,
        );
        assert_eq!(measured.verdict.unwrap().sentences(), ["masked"]);
        let transfer = measured.transfer.unwrap();
        assert_eq!((transfer.percent(), transfer.meaning()), (vec![vec![100.0, 25.0]], Some(FOOLED)));
    }

    #[test]
    fn lengths_that_are_levels_are_written_as_such() {
        assert_eq!([0.3, 2.0 / 255.0, 0.0, 0.5].map(pixel_units), ["0.3", "2/255", "0", "0.5"]);
    }
}
