//! `report.json`: what came out, how it was made, and how sure it is, written and read by the same types.

use std::path::Path;

use neokd_attack::{Audit, Diagnostics, Level, Norm, Objective, Passes, Spent, Verdict};
use neokd_datasets::{DataSplits, Images, Provenance};
use neokd_evaluate::accuracy::{Accuracy, Versions};
use neokd_evaluate::attack_run::{AttackRun, Method};
use neokd_evaluate::dynamic::{Dynamic, efficacy};
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::Calibration;
use neokd_evaluate::{Bits, Error, Evaluation, ImageOutcomes, PerImage, Scored, files};
use neokd_model::policy::Policy;
use neokd_model::{Backbone, ExitCost, MultiExit};
use neokd_train::RunConfig;
use neokd_train::run::origin::Origin;
use neokd_train::run::progress::Progress;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chart::number;

/// Version of the report's schema; docs/report.md describes it.
pub const SCHEMA: &str = "neokd.report/1";

/// What is said of weights whose file does not say where they come from.
const UNKNOWN: &str =
    "of unknown training: their file does not say how they were made, or not so that this version can read it";

/// What the shares of a transfer matrix are of.
pub const FOOLED: &str = "shares of the images that all exits classify correctly when clean, and that the answering exit \
                          then misclassifies";

/// A report; the JSON has these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Versions of what computed it.
    pub versions: Versions,
    /// Seed of everything random.
    pub seed: u64,
    /// The configuration, fully resolved; of weights alone without training and validation, which are not known.
    pub config: Value,
    /// Which device computed it.
    pub device: String,
    /// File and SHA-256 of the weights, of weights alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<[String; 2]>,
    /// Where they come from, of weights alone, if their file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The images.
    pub data: DataReport,
    /// Cumulative cost of each exit for one image.
    pub costs: Vec<ExitCost>,
    /// How far training went; absent for weights without a run.
    pub training: Option<TrainingReport>,
    /// Test images that were scored.
    pub n: u64,
    /// Accuracy per exit on clean test images.
    pub clean: Accuracy,
    /// What each exit's confidence is worth on clean test images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<Calibration>,
    /// What each exit policy makes of the clean test images; of budgets, one per budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyReport>,
    /// The place in `policies` of the one that attacks on the deployed policy are aimed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<usize>,
    /// Accuracy per exit under each attack, small radii first.
    pub attacks: Vec<AttackReport>,
    /// Per radius, the worst of everything that was tried; absent in old files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstReport>,
    /// Passes spent on this evaluation, verdicts not counted.
    pub passes: Passes,
    /// Wall time of this evaluation in seconds.
    pub seconds: f64,
}

/// The images of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// Source files with their digests, where they are of a known set.
    pub provenance: Option<Provenance>,
    /// File and SHA-256 of the table that fixes the validation split.
    pub split: Option<[String; 2]>,
    /// SHA-256 over the test images and labels; over their index where they are left in their files.
    pub test_digest: String,
}

/// How far training went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Whether all epochs were done.
    pub complete: bool,
    /// Steps planned.
    pub planned_steps: u64,
    /// What was done.
    pub progress: Progress,
}

/// What a policy makes of the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The policy.
    pub policy: Policy,
    /// Accuracy, cost and exits.
    #[serde(flatten)]
    pub found: Dynamic,
    /// How much of the cost is saved ([`efficacy`]): 1 if all left for nothing.
    #[serde(default)]
    pub efficacy: f64,
    /// Policy-robust accuracy: images that the policy answers correctly as they are and whatever was tried; beside an
    /// attack that is several (max-average, AutoAttack), whatever that one tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robust: Option<Share>,
}

/// Accuracy under one attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackReport {
    /// How it searches, as flags name it.
    #[serde(default = "pgd")]
    pub search: String,
    /// Objective of the attack.
    pub objective: String,
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
    /// Gradient steps, of the longest search.
    pub steps: usize,
    /// Length of the first step, where the search has a fixed one.
    pub step_size: Option<f64>,
    /// Whether it starts at a random point of the ball.
    pub random_start: bool,
    /// Independent runs.
    pub restarts: usize,
    /// All settings in one line; absent in old files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// Accuracy.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// What each exit's confidence is worth on the attacked images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<Calibration>,
    /// Of the images that all exits classify correctly when clean, the share that each exit then misclassifies; for
    /// attacks on single exits, a row of the transfer matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fooled: Vec<Share>,
    /// What each exit policy makes of the same adversarial images; the attack is on the exits, not on the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyReport>,
    /// Accuracy of each exit under the attack on it alone; null where there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Option<Share>>,
    /// Images that every exit is right about, whatever this attack tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_exit: Option<Share>,
    /// How its attacks on single exits carry over, where it is made of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferReport>,
    /// How far the nearest adversarial images are, for attacks that look for them: one per search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<DistanceReport>,
    /// Of an ordered set: what each member was run on, broke and spent, added up over the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Spent>,
    /// Whether the accuracy is to be believed, where that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What the verdict was measured by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
    /// Whether it kept to its rules: largest perturbation, pixel range.
    pub audit: Audit,
    /// Passes spent on it, those of judging included.
    pub passes: Passes,
    /// Wall time of attacking and judging in seconds, all sessions of a journal together; absent in old files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// The worst of everything that was tried at one radius and at smaller ones, and of the image as it is, image by image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstReport {
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
    /// Accuracy.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// Accuracy of each exit under the attacks on it alone; null where there was none.
    pub own: Vec<Option<Share>>,
    /// Images that every exit is right about.
    pub any_exit: Share,
    /// Images that the deployed system answers correctly, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Share>,
}

/// How attacks on single exits carry over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Row: the attacked exit; column: the measured one.
    pub rows: Vec<Vec<Share>>,
    /// What the shares are of, in words.
    pub measure: String,
}

/// Sizes of the smallest adversarial perturbations found, in the threat's norm and pixel units, whatever epsilon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistanceReport {
    /// Whose answer the perturbation makes wrong: `single:EXIT`, `average` or `policy`.
    pub objective: String,
    /// Of the images that are right as they are, those for which one was found.
    pub found: Share,
    /// Size at the shares [`QUANTILES`] of those that are right as they are, from the smallest; null where none was found
    /// that far.
    pub quantiles: Vec<Option<f64>>,
    /// Per image: 0 where it is wrong as it is, null where none was found.
    pub images: Vec<Option<f64>>,
}

/// The shares of [`DistanceReport::quantiles`].
pub const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// What a report is made of, beside an evaluation and what it found.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// See [`config_of_run`], [`config_of_weights`].
    pub config: Value,
    /// Name of the device.
    pub device: &'a str,
    /// File and SHA-256 of the weights, of weights alone.
    pub weights: Option<[String; 2]>,
    /// Where they come from, of weights alone, if their file says so.
    pub origin: Option<Origin>,
    /// The images.
    pub data: DataReport,
    /// How far training went.
    pub training: Option<&'a TrainingReport>,
}

/// The search of reports that were written before there was a choice.
fn pgd() -> String {
    "pgd".to_string()
}

/// The configuration of an evaluation; without training and validation where how the network was trained is not known:
/// what a configuration says of that is of another network.
///
/// # Errors
/// [`Error::Config`] if JSON cannot hold it.
pub fn config_of_run<B: Backbone>(config: &RunConfig<B>, is_trained_so: bool) -> Result<Value, Error> {
    let mut value = as_value(config)?;
    if let (Some(fields), false) = (value.as_object_mut(), is_trained_so) {
        fields.remove("training");
        fields.remove("validation");
    }
    Ok(value)
}

/// All that is known of weights that were attacked without a configuration.
///
/// # Errors
/// [`Error::Config`] if JSON cannot hold it.
pub fn config_of_weights<B: Backbone>(model: &B, data: &str, seed: u64) -> Result<Value, Error> {
    Ok(json!({"seed": seed, "model": as_value(model)?, "data": {"name": data}}))
}

fn as_value(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::Config(format!("report cannot be written as JSON: {error}")))
}

impl DataReport {
    /// Of the test images of a set.
    pub fn of<S: Images>(data: &DataSplits<S>) -> Self {
        let split = data.split.as_ref().map(|split| [split.file.to_string(), split.sha256.clone()]);
        Self { provenance: Some(data.provenance.clone()), split, test_digest: data.test.digest() }
    }

    /// How far their bytes are known (`verified`, say), if that is known.
    pub fn trust(&self) -> Option<String> {
        let trust = serde_json::to_value(self.provenance.as_ref()?.trust).ok()?;
        trust.as_str().map(str::to_string)
    }
}

impl Report {
    /// Where the weights come from, in a sentence; nothing of a run, whose configuration is in the report.
    pub fn origin(&self) -> Option<String> {
        match (&self.origin, &self.weights) {
            (Some(origin), _) => Some(origin.to_string()),
            (None, Some(_)) => Some(UNKNOWN.to_string()),
            (None, None) => None,
        }
    }

    /// Puts what an evaluation found and its circumstances together.
    pub fn new<M: MultiExit>(evaluation: &Evaluation<'_, M>, scored: &Scored, about: About<'_>) -> Self {
        let (costs, clean) = (evaluation.model.costs(), &scored.clean);
        let mut standing = Standing::new(clean);
        let mut worst: Vec<WorstReport> = Vec::new();
        for (run, found) in evaluation.runs.iter().zip(&scored.runs) {
            standing.add(run.target, found);
            let found = standing.report(run, evaluation.deployed);
            match worst.last_mut().filter(|last| last.epsilon == run.threat.epsilon) {
                Some(last) => *last = found,
                None => worst.push(found),
            }
        }
        let robust = |policy: usize| Some(standing.policies[policy].share());
        let attack = |(run, found)| AttackReport::new(evaluation, scored, (run, found), &costs);
        Self {
            schema: SCHEMA.to_string(),
            versions: Versions::current(),
            seed: evaluation.seed,
            config: about.config,
            device: about.device.to_string(),
            weights: about.weights,
            origin: about.origin,
            data: about.data,
            training: about.training.cloned(),
            n: scored.labels.len() as u64,
            clean: clean.whole.accuracy(),
            calibration: clean.whole.calibration(),
            policies: policies(evaluation.policies, clean, &costs, robust),
            deployed: evaluation.deployed,
            attacks: evaluation.runs.iter().zip(&scored.runs).map(attack).collect(),
            worst,
            passes: scored.runs.iter().fold(clean.passes, |sum, found| sum + found.passes),
            seconds: scored.seconds,
            costs,
        }
    }

    /// The report as JSON, indented.
    ///
    /// # Errors
    /// [`Error::Config`] if JSON cannot hold it.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::Config(format!("report cannot be written as JSON: {error}")))
    }

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
    /// policy, and policy-robust accuracy; each with its name, its setting and the attack that it is under.
    pub fn of_deployed(&self) -> Vec<(String, String, &Share, Option<&AttackReport>)> {
        let Some(clean) = self.deployed() else { return Vec::new() };
        let whole =
            ("deployed system, clean".to_string(), "where images leave early".to_string(), &clean.found.accuracy, None);
        let attacks = self.attacks.iter().filter(|attack| attack.objective == "policy").filter_map(|attack| {
            let name = format!("deployed system under {}", attack.label());
            Some((name, attack.setting(), &attack.under(clean)?.found.accuracy, Some(attack)))
        });
        let robust = clean.robust.as_ref();
        let is_attacked = self.attacks.iter().any(|attack| attack.objective == "policy");
        let (name, setting) = match is_attacked {
            true => ("policy-robust", "right whatever was tried"),
            false => ("deployed system, worst of the attacks on exits", "the policy itself was not attacked"),
        };
        let robust = robust.map(|robust| (name.to_string(), setting.to_string(), robust, None));
        std::iter::once(whole).chain(attacks).chain(robust).collect()
    }

    /// On clean images, under each attack, and the worst case at each radius.
    pub fn accuracies(&self) -> impl Iterator<Item = &Accuracy> {
        let attacked = self.attacks.iter().map(|attack| &attack.accuracy);
        std::iter::once(&self.clean).chain(attacked).chain(self.worst.iter().map(|worst| &worst.accuracy))
    }

    /// The deployed policy on clean images; in reports that do not say which it is, the middle one of a curve of budgets.
    pub fn deployed(&self) -> Option<&PolicyReport> {
        self.policies.get(self.deployed.unwrap_or(self.policies.len() / 2))
    }

    /// The attacks on the network as a whole; those on single exits only where there are no others.
    pub fn on_the_whole(&self) -> impl Iterator<Item = &AttackReport> {
        let all_single = self.attacks.iter().all(|attack| attack.single().is_some());
        self.attacks.iter().filter(move |attack| all_single || attack.single().is_none())
    }

    /// The transfer matrix that the attacks on single exits make, if there is one for every exit.
    pub fn transfer_of_singles(&self) -> Option<TransferReport> {
        let row = |exit: usize| {
            let of_exit = |attack: &&AttackReport| attack.single() == Some(exit) && !attack.fooled.is_empty();
            self.attacks.iter().find(of_exit).map(|attack| attack.fooled.clone())
        };
        let rows: Vec<Vec<Share>> = (0..self.costs.len()).map(row).collect::<Option<_>>()?;
        (!rows.is_empty()).then(|| TransferReport { rows, measure: FOOLED.to_string() })
    }

    /// The worst verdict of its attacks, with the sentences of all of that level.
    pub fn verdict(&self) -> Option<(Level, Vec<String>)> {
        let judged = || self.attacks.iter().filter_map(|attack| Some((attack, attack.judged()?)));
        let worst = judged().map(|(_, (level, _))| level).max()?;
        let named = |(attack, (_, sentences)): (&AttackReport, (Level, Vec<String>))| {
            let label = attack.label();
            sentences.into_iter().map(move |sentence| format!("{label}: {sentence}"))
        };
        let of_worst = judged().filter(|(_, (level, _))| *level == worst);
        Some((worst, of_worst.flat_map(named).collect()))
    }
}

impl AttackReport {
    fn new<M: MultiExit>(
        evaluation: &Evaluation<'_, M>,
        scored: &Scored,
        (run, found): (&AttackRun, &ImageOutcomes),
        costs: &[ExitCost],
    ) -> Self {
        let clean = &scored.clean;
        let budget = match &run.method {
            Method::Search(search) => Some(search.method().budget(&run.threat)),
            Method::Set(_) => None,
        };
        let same = |other: &AttackRun| other.threat == run.threat && other.objective() == run.objective();
        let checked = scored.verdicts.iter().find(|checked| same(&evaluation.runs[checked.run]));
        let several = !found.parts.is_empty();
        let robust = |policy: usize| several.then(|| found.right_under(policy).share());
        let distances = run.searches(costs.len()).into_iter().zip(&found.distances);
        Self {
            search: run.name.to_string(),
            objective: run.objective(),
            norm: run.threat.norm,
            epsilon: run.threat.epsilon,
            steps: budget.as_ref().map_or_else(|| run.gradient_steps(), |budget| budget.steps),
            step_size: budget.as_ref().and_then(|budget| budget.step_size),
            random_start: budget.as_ref().is_none_or(|budget| budget.random_start),
            restarts: budget.as_ref().map_or(1, |budget| budget.restarts),
            settings: run.settings(),
            accuracy: found.whole.accuracy(),
            calibration: found.whole.calibration(),
            fooled: found.fooled(clean),
            policies: policies(evaluation.policies, found, costs, robust),
            own: (0..costs.len()).map(|exit| found.own(run.target, exit).map(Bits::share)).collect(),
            any_exit: Some(found.right_everywhere().share()),
            transfer: several.then(|| TransferReport { rows: found.transfer(clean), measure: FOOLED.to_string() }),
            distances: distances.map(|(objective, found)| DistanceReport::new(objective, found)).collect(),
            members: found.members.clone(),
            verdict: checked.map(|checked| checked.signs.verdict()),
            diagnostics: checked.map(|checked| checked.signs),
            audit: found.audit(),
            passes: found.passes,
            seconds: Some(found.seconds),
        }
    }

    /// Its verdict and its sentences, where there is one.
    pub fn judged(&self) -> Option<(Level, Vec<String>)> {
        let verdict = self.verdict.as_ref()?;
        Some((verdict.level, verdict.reasons.iter().map(|reason| reason.text.clone()).collect()))
    }

    /// The exit that it attacks, if that is a single one.
    pub fn single(&self) -> Option<usize> {
        self.objective.strip_prefix("single:")?.parse().ok()
    }

    /// What a policy makes of its images.
    pub fn under(&self, policy: &PolicyReport) -> Option<&PolicyReport> {
        self.policies.iter().find(|found| found.policy == policy.policy)
    }

    /// What it is called in tables: its objective, and how it searches unless that is PGD.
    pub fn label(&self) -> String {
        match self.search.as_str() {
            "pgd" => self.objective.clone(),
            search => format!("{search} {}", self.objective),
        }
    }

    /// The threat: `linf 8/255`.
    pub fn threat(&self) -> String {
        threat(self.norm, self.epsilon)
    }

    /// The threat and how hard the attack tried: `linf 8/255, 20 steps`.
    pub fn setting(&self) -> String {
        let steps = format!("{} step{}", self.steps, if self.steps == 1 { "" } else { "s" });
        let runs = if self.restarts > 1 { format!(", {} runs", self.restarts) } else { String::new() };
        format!("{}, {steps}{runs}", self.threat())
    }
}

impl WorstReport {
    /// The threat: `linf 8/255`.
    pub fn threat(&self) -> String {
        threat(self.norm, self.epsilon)
    }
}

fn threat(norm: Norm, epsilon: f64) -> String {
    format!("{norm} {}", pixel_units(epsilon))
}

fn policies(
    policies: &[Policy],
    found: &ImageOutcomes,
    costs: &[ExitCost],
    robust: impl Fn(usize) -> Option<Share>,
) -> Vec<PolicyReport> {
    let each = policies.iter().zip(&found.whole.policies).enumerate();
    each.map(|(at, (policy, leaving))| {
        let found = leaving.dynamic(costs);
        PolicyReport { policy: policy.clone(), efficacy: efficacy(&found.left, costs), found, robust: robust(at) }
    })
    .collect()
}

impl DistanceReport {
    fn new(objective: String, distances: &PerImage) -> Self {
        let known = |distance: f32| distance.is_finite().then_some(f64::from(distance));
        let mut right: Vec<f32> = distances.0.iter().copied().filter(|distance| *distance > 0.0).collect();
        right.sort_by(f32::total_cmp);
        let last = right.len().saturating_sub(1) as f64;
        let at = |share: f64| right.get((share * last).round() as usize).copied().and_then(known);
        let found = right.iter().filter(|distance| distance.is_finite()).count() as u64;
        Self {
            objective,
            found: Share::new(found, right.len() as u64),
            quantiles: QUANTILES.map(at).to_vec(),
            images: distances.0.iter().copied().map(known).collect(),
        }
    }
}

/// Images that nothing so far has broken.
struct Standing {
    exits: Vec<Bits>,
    own: Vec<Option<Bits>>,
    everywhere: Bits,
    policies: Vec<Bits>,
}

impl Standing {
    fn new(clean: &ImageOutcomes) -> Self {
        Self {
            exits: clean.whole.right.clone(),
            own: vec![None; clean.whole.right.len()],
            everywhere: clean.right_everywhere(),
            policies: clean.whole.policies.iter().map(|found| found.right.clone()).collect(),
        }
    }

    fn add(&mut self, target: Objective, found: &ImageOutcomes) {
        for (exit, own) in self.own.iter_mut().enumerate() {
            if let Some(right) = found.own(target, exit) {
                *own = Some(own.as_ref().map_or_else(|| right.clone(), |so_far| so_far.and(right)));
            }
        }
        for answers in found.tried() {
            self.exits.iter_mut().zip(&answers.right).for_each(|(sum, right)| *sum = sum.and(right));
            self.policies.iter_mut().zip(&answers.policies).for_each(|(sum, found)| *sum = sum.and(&found.right));
        }
        self.everywhere = self.everywhere.and(&found.right_everywhere());
    }

    fn report(&self, run: &AttackRun, deployed: Option<usize>) -> WorstReport {
        WorstReport {
            norm: run.threat.norm,
            epsilon: run.threat.epsilon,
            accuracy: Accuracy::new(self.exits.iter().map(Bits::share).collect()),
            own: self.own.iter().map(|own| own.as_ref().map(Bits::share)).collect(),
            any_exit: self.everywhere.share(),
            deployed: deployed.and_then(|deployed| self.policies.get(deployed)).map(Bits::share),
        }
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
