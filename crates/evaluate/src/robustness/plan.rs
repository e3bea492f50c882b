//! What a user names, as runs: one attack on one objective at one radius.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Tensor;
use neokd_attack::{
    AnyAttack, Apgd, ApgdConfig, ApgdLoss, AttackConfig, AttackError, Audit, AutoAttack, Batch, Criterion, Fab,
    FgsmConfig, Passes, PgdConfig, Search, Slowdown, SlowdownConfig, SlowdownGoal, Spent, Square, SquareConfig, Target,
    TargetedConfig, Threat, max_average, perturb,
};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, MultiExit};

use super::found::Found;
use crate::Error;
use crate::adversarial_file::About;

/// An attack as flags name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttackName {
    /// One gradient step of length epsilon.
    Fgsm,
    /// Projected gradient descent.
    Pgd,
    /// Auto-PGD on the cross-entropy.
    ApgdCe,
    /// Auto-PGD on the difference-of-logits ratio.
    ApgdDlr,
    /// Auto-PGD on the targeted ratio.
    ApgdT,
    /// PGD on the margin.
    Cw,
    /// Targeted fast adaptive boundary.
    FabT,
    /// Random squares.
    Square,
    /// Towards leaving late.
    Slowdown,
    /// The standard set, on survivors.
    AutoAttack,
    /// PGD on another network, whose images are then shown to this one.
    TransferFrom(PathBuf),
}

const NAMES: &[(&str, AttackName)] = &[
    ("fgsm", AttackName::Fgsm),
    ("pgd", AttackName::Pgd),
    ("apgd-ce", AttackName::ApgdCe),
    ("apgd-dlr", AttackName::ApgdDlr),
    ("apgd-t", AttackName::ApgdT),
    ("cw", AttackName::Cw),
    ("fab-t", AttackName::FabT),
    ("square", AttackName::Square),
    ("slowdown", AttackName::Slowdown),
    ("autoattack", AttackName::AutoAttack),
];

impl FromStr for AttackName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(weights) = text.strip_prefix("transfer-from:").filter(|weights| !weights.is_empty()) {
            return Ok(Self::TransferFrom(PathBuf::from(weights)));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, attack)| attack.clone()).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("attack {text:?} is unknown; there are {} and transfer-from:WEIGHTS", names.join(", "))
        })
    }
}

impl fmt::Display for AttackName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TransferFrom(weights) => write!(out, "transfer-from:{}", weights.display()),
            known => out.write_str(NAMES.iter().find(|(_, attack)| attack == known).map_or("", |(name, _)| *name)),
        }
    }
}

/// Settings of the attacks; those that an attack has no use for are ignored by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// Gradient steps: 20 of PGD, CW and slow-down, 100 of the others where there are none given.
    pub steps: Option<usize>,
    /// Length of a step of PGD, CW and slow-down in pixel units; a quarter of epsilon where none is given.
    pub step_size: Option<f64>,
    /// Independent runs.
    pub restarts: usize,
    /// Whether PGD, CW and slow-down start from a random point.
    pub random_start: bool,
    /// Queries of Square; 5000 where none are given.
    pub queries: Option<usize>,
    /// Classes that targeted attacks try.
    pub targets: usize,
    /// What a slow-down is to achieve.
    pub goal: SlowdownGoal,
}

/// How a run searches.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// One search.
    Search(Search),
    /// An ordered set, each member on what is left.
    Set(AutoAttack),
}

/// One attack on one objective at one radius.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The attack.
    pub name: AttackName,
    /// What it maximises; a slow-down has no use for it.
    pub target: Target,
    /// How far it may go.
    pub threat: Threat,
    /// How it searches.
    pub method: Method,
}

/// Attacked images, before they are judged.
pub(super) struct Attacked {
    pub(super) pixels: Tensor<4>,
    pub(super) parts: Vec<Tensor<4>>,
    /// Of attacks that look for the nearest adversarial image, one `[batch]` per search.
    pub(super) distances: Vec<Tensor<1>>,
    pub(super) members: Vec<Spent>,
    pub(super) passes: Passes,
    pub(super) audit: Audit,
}

/// The runs of every attack on every objective at every radius, small radii first.
///
/// # Errors
/// [`Error::Config`] names the attack, the setting and the cure.
pub fn plan(
    names: &[AttackName],
    targets: &[Target],
    threats: &[Threat],
    knobs: &Knobs,
    classes: usize,
) -> Result<Vec<Run>, Error> {
    let mut threats = threats.to_vec();
    threats.sort_by(|one, other| one.epsilon.total_cmp(&other.epsilon));
    threats.dedup();
    let mut runs = Vec::new();
    for threat in &threats {
        for name in names {
            // A slow-down looks at all exits, whatever is asked for.
            let targets = if *name == AttackName::Slowdown { &[Target::Average] } else { targets };
            for &target in targets {
                let run =
                    Run { name: name.clone(), target, threat: *threat, method: knobs.method(name, threat, classes)? };
                if !runs.contains(&run) {
                    runs.push(run);
                }
            }
        }
    }
    Ok(runs)
}

impl Knobs {
    fn method(&self, name: &AttackName, threat: &Threat, classes: usize) -> Result<Method, Error> {
        match self.config(name, threat) {
            None => self.standard(classes).map(Method::Set),
            // The exit aimed at is looked at when the attack runs, on the network that it runs on.
            Some(config) => match config.problem(usize::MAX) {
                None => Ok(Method::Search(config.search(threat))),
                Some(why) => Err(Error::Config(format!("--attack {name}: {why}"))),
            },
        }
    }

    /// The settings of a named attack; none of an ordered set.
    fn config(&self, name: &AttackName, threat: &Threat) -> Option<AttackConfig> {
        let (restarts, random_start, objective) = (self.restarts, self.random_start, Target::default());
        // A radius of 0 has room for no step of any length.
        let quarter = if threat.epsilon > 0.0 { threat.epsilon / 4.0 } else { 1.0 };
        let (steps, step_size) = (self.steps.unwrap_or(20), self.step_size.unwrap_or(quarter));
        let pgd = || PgdConfig { objective, steps, step_size, random_start, restarts };
        let many = self.steps.unwrap_or(100);
        let apgd = || ApgdConfig { objective, steps: many, restarts };
        let targeted = || TargetedConfig { objective, steps: many, restarts, targets: self.targets };
        let queries = self.queries.unwrap_or(5000);
        Some(match name {
            AttackName::Fgsm => AttackConfig::Fgsm(FgsmConfig { objective }),
            AttackName::Pgd | AttackName::TransferFrom(_) => AttackConfig::Pgd(pgd()),
            AttackName::ApgdCe => AttackConfig::ApgdCe(apgd()),
            AttackName::ApgdDlr => AttackConfig::ApgdDlr(apgd()),
            AttackName::ApgdT => AttackConfig::ApgdT(targeted()),
            AttackName::Cw => AttackConfig::Cw(pgd()),
            AttackName::FabT => AttackConfig::FabT(targeted()),
            AttackName::Square => AttackConfig::Square(SquareConfig { objective, queries, share: 0.8, restarts }),
            AttackName::Slowdown => {
                AttackConfig::Slowdown(SlowdownConfig { goal: self.goal, steps, step_size, random_start, restarts })
            }
            AttackName::AutoAttack => return None,
        })
    }

    /// The standard set, its members changed where steps, queries, targets or restarts are asked for.
    fn standard(&self, classes: usize) -> Result<AutoAttack, Error> {
        let (restarts, targets) = (self.restarts, self.targets);
        let changed = |member| match member {
            Search::Apgd(Apgd { loss: ApgdLoss::Targeted { .. }, steps, .. }) => {
                let steps = self.steps.unwrap_or(steps);
                Search::Apgd(Apgd { loss: ApgdLoss::Targeted { targets }, steps, restarts })
            }
            Search::Apgd(apgd) => Search::Apgd(Apgd { steps: self.steps.unwrap_or(apgd.steps), restarts, ..apgd }),
            Search::Fab(fab) => Search::Fab(Fab { steps: self.steps.unwrap_or(fab.steps), restarts, targets }),
            Search::Square(square) => {
                Search::Square(Square { queries: self.queries.unwrap_or(square.queries), restarts, ..square })
            }
            other => other,
        };
        let members: Vec<Search> = AutoAttack::standard(classes).members.into_iter().map(changed).collect();
        match members.iter().any(|member| member.steps() == 0 || member.restarts() == 0) || targets == 0 {
            true => {
                Err(Error::Config("--attack autoattack: steps, queries, targets and restarts are at least 1".into()))
            }
            false => Ok(AutoAttack { members }),
        }
    }
}

impl Run {
    /// Attacks a batch; `attacker` is the network that is looked at.
    ///
    /// # Errors
    /// [`Error::Attack`].
    pub(super) fn attack<M: MultiExit>(
        &self,
        attacker: &Frozen<M>,
        batch: &Batch,
        policy: Option<&Policy>,
        key: u64,
    ) -> Result<Attacked, Error> {
        if self.target != Target::MaxAverage {
            return Ok(self.aimed(self.target, attacker, batch, policy, key)?);
        }
        let mut parts: Vec<Attacked> = Vec::new();
        let (pixels, passes) = max_average(attacker, batch, |exit| {
            let part = self.aimed(Target::Single(exit), attacker, batch, policy, key)?;
            let found = (part.pixels.clone(), part.passes);
            parts.push(part);
            Ok(found)
        })?;
        let audits = parts.iter().map(|part| part.audit);
        let audit = audits.reduce(Audit::merge).unwrap_or_default();
        let (mut members, mut distances) = (Vec::new(), Vec::new());
        for part in &mut parts {
            add(&mut members, &part.members);
            distances.append(&mut part.distances);
        }
        // The parts of a transfer are aimed at the other network's exits.
        let parts = match self.name {
            AttackName::TransferFrom(_) => Vec::new(),
            _ => parts.into_iter().map(|part| part.pixels).collect(),
        };
        Ok(Attacked { pixels, parts, distances, members, passes, audit })
    }

    fn aimed<M: MultiExit>(
        &self,
        target: Target,
        attacker: &Frozen<M>,
        batch: &Batch,
        policy: Option<&Policy>,
        key: u64,
    ) -> Result<Attacked, AttackError> {
        let (parts, distances, members) = (Vec::new(), Vec::new(), Vec::new());
        match &self.method {
            Method::Search(Search::Fab(fab)) => {
                let found = fab.nearest_by(attacker, batch, &criterion(target, policy)?, &self.threat, key)?;
                let pixels = found.within(&batch.pixels, &self.threat);
                let audit = Audit::check(batch, &pixels, &self.threat)?;
                let distances = vec![found.distances];
                Ok(Attacked { pixels, parts, distances, members, passes: found.passes, audit })
            }
            Method::Search(search) => {
                let attack = AnyAttack { target, search: *search, policy: policy.cloned() };
                let found = perturb(attacker, batch, &attack, &self.threat, key)?;
                let (pixels, passes, audit) = (found.pixels, found.passes, found.audit);
                Ok(Attacked { pixels, parts, distances, members, passes, audit })
            }
            Method::Set(set) => {
                let standing = set.run(attacker, batch, &criterion(target, policy)?, &self.threat, key)?;
                let judged = Passes::forward(batch.len());
                let passes = standing.spent.iter().fold(judged, |sum, member| sum + member.passes);
                let (pixels, members, audit) = (standing.pixels, standing.spent, standing.audit);
                Ok(Attacked { pixels, parts, distances, members, passes, audit })
            }
        }
    }

    /// What counts as broken where the verdict is measured.
    ///
    /// # Errors
    /// [`Error::Attack`] if the policy is the target and there is none.
    pub(super) fn criterion(&self, policy: Option<&Policy>) -> Result<Criterion, Error> {
        match (self.target, &self.method) {
            (Target::MaxAverage, _) => Ok(Criterion::AnyExit),
            (Target::Average, Method::Search(_)) => Ok(Criterion::AllExits),
            (target, _) => Ok(criterion(target, policy)?),
        }
    }

    /// Whether one verdict serves both runs.
    pub(super) fn is_checked_as(&self, other: &Self) -> bool {
        self.threat == other.threat && self.target == other.target
    }

    /// What a run can tell about the gradient.
    pub(super) fn kind(&self) -> Kind {
        match (&self.name, &self.method) {
            (AttackName::Slowdown, _) => Kind::Slowdown,
            (AttackName::TransferFrom(_), _) => Kind::Transfer,
            (AttackName::Fgsm, _) => Kind::SingleStep,
            (_, Method::Search(Search::Square(_))) => Kind::Blind,
            _ => Kind::Gradient,
        }
    }

    /// Steps of the longest gradient search.
    pub fn gradient_steps(&self) -> usize {
        let steps = |search: &Search| if matches!(search, Search::Square(_)) { 0 } else { search.steps() };
        match &self.method {
            Method::Search(search) => steps(search),
            Method::Set(set) => set.members.iter().map(steps).max().unwrap_or(0),
        }
    }

    /// What it maximises, as flags and reports name it; of a slow-down, its goal.
    pub fn objective(&self) -> String {
        match &self.method {
            Method::Search(search) => objective(search, self.target),
            Method::Set(_) => self.target.to_string(),
        }
    }

    /// What a file of its images says of it and of what it found on a network with so many exits.
    pub fn about(&self, found: &Found, exits: usize) -> About {
        About {
            attack: self.name.to_string(),
            objective: self.objective(),
            norm: self.threat.norm,
            epsilon: self.threat.epsilon,
            settings: self.settings(),
            passes: found.passes,
            distances: self.searches(exits).into_iter().take(found.distances.len()).collect(),
        }
    }

    /// What its searches for the nearest adversarial image break, one name each: every exit by itself, or
    /// what the run maximises.
    pub(crate) fn searches(&self, exits: usize) -> Vec<String> {
        match self.target {
            Target::MaxAverage => (0..exits).map(|exit| Target::Single(exit).to_string()).collect(),
            target => vec![target.to_string()],
        }
    }

    /// Settings in one line, for reports and journals.
    pub fn settings(&self) -> String {
        match &self.method {
            Method::Search(search) => settings(search, &self.threat),
            Method::Set(set) => {
                let each =
                    set.members.iter().map(|member| format!("{} {}", member.name(), settings(member, &self.threat)));
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// What a search maximises, as flags and reports name it; of a slow-down, its goal.
pub fn objective(search: &Search, target: Target) -> String {
    match search {
        Search::Slowdown(Slowdown { goal: SlowdownGoal::Slow, .. }) => "slow".to_string(),
        Search::Slowdown(_) => "slow-and-wrong".to_string(),
        _ => target.to_string(),
    }
}

/// Settings of a search in one line.
pub fn settings(search: &Search, threat: &Threat) -> String {
    let unit = if matches!(search, Search::Square(_)) { "queries" } else { "steps" };
    let mut text = format!("{} {unit}", search.steps());
    if let Some(length) = search.step_size(threat) {
        text += &format!(" of {length:.4}");
    }
    match search {
        Search::Apgd(Apgd { loss: ApgdLoss::Targeted { targets }, .. }) | Search::Fab(Fab { targets, .. }) => {
            text += &format!(", {targets} classes");
        }
        _ => {}
    }
    if search.random_start() {
        text += ", random start";
    }
    match search.restarts() {
        1 => text,
        runs => format!("{text}, {runs} runs"),
    }
}

/// What a run can tell about the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One step of it.
    SingleStep,
    /// Many steps.
    Gradient,
    /// Without it.
    Blind,
    /// With that of another network.
    Transfer,
    /// Not about right and wrong.
    Slowdown,
}

/// What an ordered set counts as broken.
fn criterion(target: Target, policy: Option<&Policy>) -> Result<Criterion, AttackError> {
    match target {
        Target::Single(exit) => Ok(Criterion::Exit(exit)),
        // The members answer for one vector of logits: the mean of all exits' (neo-kd.md 4.4).
        Target::Average | Target::MaxAverage => Ok(Criterion::Ensemble),
        Target::Policy => policy.cloned().map(Criterion::Policy).ok_or(AttackError::NoPolicy),
    }
}

fn add(sum: &mut Vec<Spent>, more: &[Spent]) {
    if sum.is_empty() {
        sum.extend_from_slice(more);
        return;
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.attacked += more.attacked;
        sum.broken += more.broken;
        sum.passes += more.passes;
    }
}
