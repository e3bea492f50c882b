//! `report.json`: what came out, how it was made, and how sure it is; and the pages that show it.

use neokd_attack::{Attack, Audit, Norm, Passes, Spent, Threat, Verdict};
use neokd_datasets::{DataSplits, Images, Provenance};
use neokd_evaluate::Error;
use neokd_evaluate::accuracy::{Accuracy, Versions};
use neokd_evaluate::dynamic::{Dynamic, efficacy};
use neokd_evaluate::evaluate::Scores;
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::Calibration;
use neokd_evaluate::robustness::{self, EpsilonReport, RobustnessReport, RunReport, Transfers};
use neokd_model::policy::Policy;
use neokd_model::{Backbone, ExitCost, ModelConfig};
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::Progress;
use serde::{Deserialize, Serialize};

use crate::document;

/// Version of the report's schema; docs/report.md describes it.
pub const SCHEMA: &str = "neokd.report/1";

/// A report; the JSON has these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "B: Backbone")]
pub struct Report<B = ModelConfig> {
    /// [`SCHEMA`].
    pub schema: String,
    /// Versions of what computed it.
    pub versions: Versions,
    /// Seed of everything random.
    pub seed: u64,
    /// The configuration, fully resolved.
    pub config: RunConfig<B>,
    /// Which device computed it.
    pub device: String,
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
    /// Accuracy per exit under each attack.
    pub attacks: Vec<AttackReport>,
    /// Passes spent on this evaluation.
    pub passes: Passes,
    /// Wall time of this evaluation in seconds.
    pub seconds: f64,
}

/// The images of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// Source files with their digests.
    pub provenance: Provenance,
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
    /// Policy-robust accuracy: images that the policy answers correctly as they are and under every attack; beside an
    /// attack that is several (AutoAttack), whatever that one tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robust: Option<Share>,
}

/// The search of reports that were written before there was a choice.
fn pgd() -> String {
    "pgd".to_string()
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
    /// Gradient steps.
    pub steps: usize,
    /// Length of the first step, where the search has a fixed one.
    pub step_size: Option<f64>,
    /// Whether it starts at a random point of the ball.
    pub random_start: bool,
    /// Independent runs.
    pub restarts: usize,
    /// Accuracy.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// What each exit's confidence is worth on the attacked images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<Calibration>,
    /// Of the images that all exits classify correctly when clean, the share that each exit then
    /// misclassifies; for attacks on single exits, a row of the transfer matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fooled: Vec<Share>,
    /// What each exit policy makes of the same adversarial images; the attack is on the exits, not on
    /// the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyReport>,
    /// Of AutoAttack: accuracy of each exit under the attack on it alone; null where there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Option<Share>>,
    /// Of AutoAttack: images that every exit is right about, whatever was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_exit: Option<Share>,
    /// Of AutoAttack: how its attacks on single exits carry over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferReport>,
    /// Of AutoAttack: what each member was run on, broke and spent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Spent>,
    /// Whether the accuracy is to be believed, where that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Whether it kept to its rules: largest perturbation, pixel range.
    pub audit: Audit,
    /// Passes spent on it.
    pub passes: Passes,
}

/// How attacks on single exits carry over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Row: the attacked exit; column: the measured one.
    pub rows: Vec<Vec<Share>>,
    /// What the shares are of, in words.
    pub measure: String,
}

impl PolicyReport {
    fn new(policy: Policy, found: Dynamic, costs: &[ExitCost], robust: Option<Share>) -> Self {
        Self { policy, efficacy: efficacy(&found.left, costs), found, robust }
    }
}

impl AttackReport {
    /// Of a run of [`robustness`] at the radius that it belongs to; `steps` is the longest gradient search's.
    fn of_run(
        run: RunReport,
        radius: &EpsilonReport,
        steps: usize,
        policy: Option<&Policy>,
        costs: &[ExitCost],
    ) -> Self {
        let deployed = policy.zip(run.found.deployed).and_then(|(policy, deployed)| {
            Some(PolicyReport::new(policy.clone(), deployed.found?, costs, Some(deployed.robust)))
        });
        let verdict = radius.verdicts.iter().find(|verdict| verdict.objective == run.objective);
        Self {
            search: run.attack,
            objective: run.objective,
            norm: radius.norm,
            epsilon: radius.epsilon,
            steps,
            step_size: None,
            random_start: true,
            restarts: 1,
            accuracy: run.found.accuracy,
            calibration: Vec::new(),
            fooled: Vec::new(),
            policies: deployed.into_iter().collect(),
            own: run.found.own,
            any_exit: Some(run.found.any_exit),
            transfer: run
                .transfer
                .map(|Transfers { matrix }| TransferReport { rows: matrix, measure: document::FOOLED.to_string() }),
            members: run.members,
            verdict: verdict.map(|verdict| verdict.verdict.clone()),
            audit: run.audit,
            passes: run.passes,
        }
    }
}

/// The exit policies that a network is scored under.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// All of them.
    pub policies: Vec<Policy>,
    /// The place in `policies` of the one that attacks on the deployed policy are aimed at.
    pub deployed: Option<usize>,
}

impl Deployment {
    /// The policy that attacks are aimed at.
    pub fn policy(&self) -> Option<&Policy> {
        self.deployed.and_then(|deployed| self.policies.get(deployed))
    }
}

/// What a report is made of, beside the scores.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a, S, B = ModelConfig> {
    /// The configuration.
    pub config: &'a RunConfig<B>,
    /// The images.
    pub data: &'a DataSplits<S>,
    /// Name of the device.
    pub device: &'a str,
    /// Cumulative cost of each exit.
    pub costs: &'a [ExitCost],
    /// How far training went.
    pub training: Option<&'a TrainingReport>,
}

impl<B: Backbone> Report<B> {
    /// Puts scores and their circumstances together.
    pub fn new<S: Images>(
        context: Context<'_, S, B>,
        threat: &Threat,
        attacks: &[Attack],
        deployment: &Deployment,
        scores: Scores,
        seconds: f64,
    ) -> Self {
        let with_policy = |found: Vec<Dynamic>, robust: &[Share]| {
            let robust = robust.iter().copied().map(Some).chain(std::iter::repeat(None));
            let each = deployment.policies.iter().cloned().zip(found).zip(robust);
            each.map(|((policy, found), robust)| PolicyReport::new(policy, found, context.costs, robust)).collect()
        };
        let attack_report = |(attack, scores): (&Attack, neokd_evaluate::evaluate::AttackScores)| AttackReport {
            search: attack.search.method().name().to_string(),
            objective: attack.aimed_at(),
            norm: threat.norm,
            epsilon: threat.epsilon,
            steps: attack.search.method().budget(threat).steps,
            step_size: attack.search.method().budget(threat).step_size,
            random_start: attack.search.method().budget(threat).random_start,
            restarts: attack.search.method().budget(threat).restarts,
            accuracy: Accuracy::new(scores.exits),
            calibration: scores.calibration,
            fooled: scores.fooled,
            policies: with_policy(scores.policies, &[]),
            own: Vec::new(),
            any_exit: None,
            transfer: None,
            members: Vec::new(),
            verdict: None,
            audit: scores.audit,
            passes: scores.passes,
        };
        let split = context.data.split.as_ref().map(|split| [split.file.to_string(), split.sha256.clone()]);
        Self {
            schema: SCHEMA.to_string(),
            versions: Versions::current(),
            seed: context.config.seed,
            config: context.config.clone(),
            device: context.device.to_string(),
            data: DataReport {
                provenance: context.data.provenance.clone(),
                split,
                test_digest: context.data.test.digest(),
            },
            costs: context.costs.to_vec(),
            training: context.training.cloned(),
            n: scores.clean.first().map_or(0, |share| share.n),
            clean: Accuracy::new(scores.clean),
            calibration: scores.calibration,
            policies: with_policy(scores.policies, &scores.robust),
            deployed: deployment.deployed,
            attacks: attacks.iter().zip(scores.attacks).map(attack_report).collect(),
            passes: scores.passes,
            seconds,
        }
    }

    /// Adds the runs of an evaluation by [`robustness`] on the same images, with their passes and seconds; `runs` says
    /// how each searched.
    pub fn join(&mut self, runs: &[robustness::Run], found: RobustnessReport) {
        let RobustnessReport { policy, mut epsilons, passes, seconds, .. } = found;
        let mut steps = runs.iter().map(robustness::Run::gradient_steps);
        for radius in &mut epsilons {
            for run in std::mem::take(&mut radius.runs) {
                let steps = steps.next().unwrap_or(0);
                self.attacks.push(AttackReport::of_run(run, radius, steps, policy.as_ref(), &self.costs));
            }
        }
        self.passes += passes;
        self.seconds += seconds;
    }

    /// The report as JSON, indented; of weights alone, `config` has no training and no validation.
    ///
    /// # Errors
    /// [`Error::Config`] if JSON cannot hold it.
    pub fn to_json(&self) -> Result<String, Error> {
        // How weights alone were trained is not known: what a configuration says of that is of another network.
        let known = match self.training {
            Some(_) => serde_json::to_string_pretty(self),
            None => serde_json::to_value(self).and_then(|mut value| {
                if let Some(config) = value.get_mut("config").and_then(serde_json::Value::as_object_mut) {
                    config.remove("training");
                    config.remove("validation");
                }
                serde_json::to_string_pretty(&value)
            }),
        };
        known.map_err(|error| Error::Config(format!("report cannot be written as JSON: {error}")))
    }
}
