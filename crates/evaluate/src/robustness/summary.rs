//! What an evaluation found, as it is printed and written: accuracies with intervals, the worst case over
//! the set per image, verdicts. docs/attacks.md describes the JSON.

use neokd_attack::{Audit, Diagnostics, Norm, Objective, Passes, Spent, Verdict};
use neokd_model::ExitCost;
use neokd_model::policy::Policy;
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::found::{Deployed, Distances, Found, Seen};
use super::plan::Run;
use super::{Checked, Scored};
use crate::Error;
use crate::accuracy::{Accuracy, Versions};
use crate::dynamic::{Dynamic, efficacy};
use crate::interval::Share;

/// Version of the JSON.
pub const SCHEMA: &str = "neokd.attack/1";

/// What an evaluation found; the JSON has these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustnessReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// Versions of what computed it.
    pub versions: Versions,
    /// Which device computed it.
    pub device: String,
    /// Weights file and its SHA-256.
    pub weights: [String; 2],
    /// Name of the images.
    pub data: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Images.
    pub n: u64,
    /// Cumulative cost of each exit for one image.
    pub costs: Vec<ExitCost>,
    /// The deployed policy, if there is one.
    pub policy: Option<Policy>,
    /// On the images as they are.
    pub clean: WorstCase,
    /// Each radius, small ones first.
    pub epsilons: Vec<EpsilonReport>,
    /// Everything spent but the verdicts.
    pub passes: Passes,
    /// Wall time of the last session in seconds.
    pub seconds: f64,
}

/// What was found at one radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpsilonReport {
    /// Norm of the threat.
    pub norm: Norm,
    /// Radius in pixel units.
    pub epsilon: f64,
    /// Every attack and objective.
    pub runs: Vec<RunReport>,
    /// Per image the worst of everything that was tried at this radius and at smaller ones, and of the image
    /// as it is.
    pub worst: WorstCase,
    /// Whether the numbers are to be believed, for each objective.
    pub verdicts: Vec<VerdictReport>,
}

/// Under one attack on one objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Name of the attack.
    pub attack: String,
    /// Objective.
    pub objective: String,
    /// Settings in one line.
    pub settings: String,
    /// What became of the images.
    #[serde(flatten)]
    pub found: WorstCase,
    /// How attacks on single exits carry over, where the attack is made of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfers>,
    /// How far the nearest adversarial images are, for attacks that look for them: one per search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<DistanceReport>,
    /// What each member of an ordered set did; over the parts of max-average added up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Spent>,
    /// Whether it kept to its rules.
    pub audit: Audit,
    /// Everything spent, the passes of judging included.
    pub passes: Passes,
    /// Wall time of attacking and judging in seconds, all sessions of a journal together; absent in old files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Sizes of the smallest adversarial perturbations found, in the threat's norm and pixel units, whatever
/// epsilon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistanceReport {
    /// Whose answer the perturbation makes wrong: `single:EXIT`, `average` or `policy`.
    pub objective: String,
    /// Of the images that are right as they are, those for which one was found.
    pub found: Share,
    /// Size at the shares [`QUANTILES`] of those that are right as they are, from the smallest; null where
    /// none was found that far.
    pub quantiles: Vec<Option<f64>>,
    /// Per image: 0 where it is wrong as it is, null where none was found.
    pub images: Vec<Option<f64>>,
}

/// The shares of [`DistanceReport::quantiles`].
pub const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// Shares of images that are answered correctly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstCase {
    /// By each exit, and their mean.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// By each exit under the attack on it alone; null where there was none.
    pub own: Vec<Option<Share>>,
    /// By every exit, whatever was tried.
    pub any_exit: Share,
    /// By the deployed system, where there is one; cost and exits are of the last images that were shown to
    /// it, so of a worst case over several there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<DeployedReport>,
}

/// What a deployed system makes of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployedReport {
    /// Answered correctly, whatever was tried.
    pub robust: Share,
    /// Accuracy, mean multiply-adds and where images left, of one set of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Dynamic>,
    /// [`efficacy`]: 1 if all left for nothing, half the last block's share of the cost if nobody left early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efficacy: Option<f64>,
}

/// Of the images that all exits classify correctly, the share that an attack on one exit (row) makes another
/// (column) misclassify.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfers {
    /// Row: the attacked exit; column: the measured one.
    pub matrix: Vec<Vec<Share>>,
}

/// Whether the numbers of one objective are to be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictReport {
    /// Objective.
    pub objective: String,
    /// The verdict, with reasons.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was measured.
    pub diagnostics: Diagnostics,
    /// Wall time of measuring in seconds; absent in old files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What a report is made of, beside what was found.
pub struct Context<'a> {
    /// Which device computes.
    pub device: &'a str,
    /// Weights file and its SHA-256.
    pub weights: [String; 2],
    /// Name of the images.
    pub data: &'a str,
    /// Seed of everything random.
    pub seed: u64,
    /// Cumulative cost of each exit.
    pub costs: &'a [ExitCost],
    /// The deployed policy.
    pub policy: Option<&'a Policy>,
    /// The runs.
    pub runs: &'a [Run],
}

impl RobustnessReport {
    /// Puts together what was found.
    pub fn new(context: &Context<'_>, scored: &Scored) -> Self {
        let mut worst = Union::of(&scored.clean.whole);
        let mut epsilons: Vec<EpsilonReport> = Vec::new();
        for (at, (run, found)) in context.runs.iter().zip(&scored.runs).enumerate() {
            if epsilons.last().is_none_or(|last| last.epsilon != run.threat.epsilon) {
                let (norm, epsilon) = (run.threat.norm, run.threat.epsilon);
                let verdicts = Vec::new();
                epsilons.push(EpsilonReport { norm, epsilon, runs: Vec::new(), worst: worst.report(), verdicts });
            }
            worst.add(run.target, found);
            let Some(report) = epsilons.last_mut() else { continue };
            report.runs.push(run_report(context, run, found, &scored.clean));
            report.worst = worst.report();
            let verdicts = scored.verdicts.iter().filter(|checked| checked.run == at);
            report.verdicts.extend(verdicts.map(|checked| VerdictReport::new(run, checked)));
        }
        let mut clean = Union::of(&scored.clean.whole).report();
        clean.deployed = deployed(context, &scored.clean);
        Self {
            schema: SCHEMA.to_string(),
            versions: Versions::current(),
            device: context.device.to_string(),
            weights: context.weights.clone(),
            data: context.data.to_string(),
            seed: context.seed,
            n: scored.labels.len() as u64,
            costs: context.costs.to_vec(),
            policy: context.policy.cloned(),
            clean,
            epsilons,
            passes: scored.runs.iter().fold(scored.clean.passes, |sum, found| sum + found.passes),
            seconds: scored.seconds,
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
}

impl VerdictReport {
    fn new(run: &Run, checked: &Checked) -> Self {
        let objective = run.target.to_string();
        let (verdict, diagnostics, seconds) = (checked.signs.verdict(), checked.signs, Some(checked.seconds));
        Self { objective, verdict, diagnostics, seconds }
    }
}

impl DistanceReport {
    fn new(objective: String, distances: &Distances) -> Self {
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

fn run_report(context: &Context<'_>, run: &Run, found: &Found, clean: &Found) -> RunReport {
    let exits = found.whole.right.len();
    let own = (0..exits).map(|exit| found.own(run.target, exit).map(share)).collect();
    RunReport {
        attack: run.name.to_string(),
        objective: run.objective(),
        settings: run.settings(),
        found: WorstCase {
            accuracy: Accuracy::new(found.whole.right.iter().map(share).collect()),
            own,
            any_exit: share(&found.right_everywhere()),
            deployed: deployed(context, found),
        },
        transfer: (!found.parts.is_empty()).then(|| transfers(&found.parts, clean)),
        distances: run
            .searches(exits)
            .into_iter()
            .zip(&found.distances)
            .map(|(objective, distances)| DistanceReport::new(objective, distances))
            .collect(),
        members: found.members.clone(),
        audit: found.audit(),
        passes: found.passes,
        seconds: Some(found.seconds),
    }
}

fn deployed(context: &Context<'_>, found: &Found) -> Option<DeployedReport> {
    let whole = found.whole.deployed.as_ref()?;
    let robust = found.tried().filter_map(|seen| seen.deployed.as_ref());
    let robust = robust.map(|deployed| deployed.right.clone()).reduce(|sum, right| sum.and(&right));
    let left = leaving(whole, context.costs.len());
    Some(DeployedReport {
        robust: share(&robust.unwrap_or_default()),
        efficacy: Some(efficacy(&left, context.costs)),
        found: Some(Dynamic::new(whole.right.count(), left, context.costs)),
    })
}

fn leaving(deployed: &Deployed, exits: usize) -> Vec<u64> {
    let mut left = vec![0; exits];
    deployed.left.iter().for_each(|exit| left[*exit] += 1);
    left
}

fn transfers(parts: &[Seen], clean: &Found) -> Transfers {
    let agreed = clean.right_everywhere();
    let n = agreed.count();
    let row = |part: &Seen| part.right.iter().map(|exit| Share::new(n - exit.and(&agreed).count(), n)).collect();
    Transfers { matrix: parts.iter().map(row).collect() }
}

fn share(bits: &Bits) -> Share {
    Share::new(bits.count(), bits.0.len() as u64)
}

/// Images that nothing so far has broken.
struct Union {
    exits: Vec<Bits>,
    own: Vec<Option<Bits>>,
    everywhere: Bits,
    deployed: Option<Bits>,
}

impl Union {
    fn of(clean: &Seen) -> Self {
        let everywhere = clean.right.iter().cloned().reduce(|sum, exit| sum.and(&exit)).unwrap_or_default();
        Self {
            exits: clean.right.clone(),
            own: vec![None; clean.right.len()],
            everywhere,
            deployed: clean.deployed.as_ref().map(|deployed| deployed.right.clone()),
        }
    }

    fn add(&mut self, target: Objective, found: &Found) {
        for (exit, own) in self.own.iter_mut().enumerate() {
            if let Some(right) = found.own(target, exit) {
                *own = Some(own.as_ref().map_or_else(|| right.clone(), |so_far| so_far.and(right)));
            }
        }
        for seen in found.tried() {
            self.exits.iter_mut().zip(&seen.right).for_each(|(sum, right)| *sum = sum.and(right));
            if let (Some(sum), Some(seen)) = (&mut self.deployed, &seen.deployed) {
                *sum = sum.and(&seen.right);
            }
        }
        self.everywhere = self.everywhere.and(&found.right_everywhere());
    }

    fn report(&self) -> WorstCase {
        let robust = self.deployed.as_ref().map(share);
        WorstCase {
            accuracy: Accuracy::new(self.exits.iter().map(share).collect()),
            own: self.own.iter().map(|own| own.as_ref().map(share)).collect(),
            any_exit: share(&self.everywhere),
            deployed: robust.map(|robust| DeployedReport { robust, found: None, efficacy: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_distances_are_of_images_that_were_right() {
        let distances = Distances(vec![0.0, 3.0, f32::INFINITY, 1.0, 2.0, 4.0]);
        let report = DistanceReport::new("single:0".to_string(), &distances);
        assert_eq!((report.found.count, report.found.n), (4, 5));
        assert_eq!(report.quantiles, [Some(1.0), Some(2.0), Some(3.0), Some(4.0), None]);
        assert_eq!(report.images, [Some(0.0), Some(3.0), None, Some(1.0), Some(2.0), Some(4.0)]);
        assert_eq!(DistanceReport::new(String::new(), &Distances(vec![0.0])).quantiles, [None; 5]);
    }

    #[test]
    fn a_worst_case_is_at_most_each_of_its_parts() {
        let seen = |bits: [&[bool]; 2]| Seen {
            right: bits.map(|bits| Bits(bits.to_vec())).to_vec(),
            average: Bits::default(),
            deployed: None,
        };
        let clean = seen([&[true, true, true], &[true, true, false]]);
        let attacked = seen([&[true, false, true], &[true, true, true]]);
        let mut union = Union::of(&clean);
        union.add(Objective::Single(0), &Found { whole: attacked, ..Found::none() });
        let worst = union.report();
        let counts: Vec<u64> = worst.accuracy.exits.iter().map(|share| share.count).collect();
        assert_eq!(counts, [2, 2]);
        assert_eq!(worst.any_exit.count, 1);
        let own: Vec<Option<u64>> = worst.own.iter().map(|own| own.map(|share| share.count)).collect();
        assert_eq!(own, [Some(2), None]);
    }
}
