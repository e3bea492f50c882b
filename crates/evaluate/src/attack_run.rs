//! What a user names, as runs: one attack on one objective at one radius. Runs that need the same search on a single exit
//! share it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Tensor;
use neokd_attack::{
    Attack, AttackError, Audit, AutoAttack, Criterion, Knobs, Mean, Method as _, Objective, Passes, Pgd, Scenario,
    Search, Spent, Threat, max_average, perturb,
};
use neokd_model::MultiExit;
use neokd_model::policy::Policy;

use crate::Error;

/// An attack as flags name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttackName {
    /// One search, by its name.
    Search(&'static str),
    /// The standard set, on survivors.
    AutoAttack,
    /// PGD on another network, whose images are then shown to this one.
    TransferFrom(PathBuf),
}

const AUTOATTACK: &str = "autoattack";

impl AttackName {
    /// Towards leaving late.
    pub const SLOWDOWN: Self = Self::Search("slowdown");

    /// What there is, in one line.
    pub fn all() -> String {
        format!("{}, {AUTOATTACK} and transfer-from:WEIGHTS", Search::KINDS.join(", "))
    }
}

impl FromStr for AttackName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(weights) = text.strip_prefix("transfer-from:").filter(|weights| !weights.is_empty()) {
            return Ok(Self::TransferFrom(PathBuf::from(weights)));
        }
        if text == AUTOATTACK {
            return Ok(Self::AutoAttack);
        }
        let known = Search::KINDS.iter().find(|name| **name == text);
        known
            .map(|name| Self::Search(name))
            .ok_or_else(|| format!("attack {text:?} is unknown; there are {}", Self::all()))
    }
}

impl fmt::Display for AttackName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Search(name) => out.write_str(name),
            Self::AutoAttack => out.write_str(AUTOATTACK),
            Self::TransferFrom(weights) => write!(out, "transfer-from:{}", weights.display()),
        }
    }
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
pub struct AttackRun {
    /// The attack.
    pub name: AttackName,
    /// What it maximises; a slow-down has no use for it.
    pub target: Objective,
    /// How far it may go.
    pub threat: Threat,
    /// How it searches.
    pub method: Method,
}

/// Attacked images, before they are judged.
#[derive(Clone)]
pub(crate) struct Attacked {
    pub(crate) pixels: Tensor<4>,
    pub(crate) parts: Vec<Tensor<4>>,
    /// Of attacks that look for the nearest adversarial image, one `[batch]` per search.
    pub(crate) distances: Vec<Tensor<1>>,
    pub(crate) members: Vec<Spent>,
    pub(crate) passes: Passes,
    pub(crate) audit: Audit,
}

/// The runs of every attack on every objective at every radius, small radii first.
///
/// # Errors
/// [`Error::Config`] names the attack, the setting and the cure.
pub fn plan(
    names: &[AttackName],
    targets: &[Objective],
    threats: &[Threat],
    knobs: &Knobs,
    classes: usize,
) -> Result<Vec<AttackRun>, Error> {
    let mut threats = threats.to_vec();
    threats.sort_by(|one, other| one.epsilon.total_cmp(&other.epsilon));
    threats.dedup();
    let mut runs = Vec::new();
    for threat in &threats {
        for name in names {
            // A slow-down looks at all exits, whatever is asked for.
            let targets = if *name == AttackName::SLOWDOWN { &[Objective::Average] } else { targets };
            for &target in targets {
                let method = method(name, knobs, threat, classes)?;
                let run = AttackRun { name: name.clone(), target, threat: *threat, method };
                if !runs.contains(&run) {
                    runs.push(run);
                }
            }
        }
    }
    Ok(runs)
}

fn method(name: &AttackName, knobs: &Knobs, threat: &Threat, classes: usize) -> Result<Method, Error> {
    let search = match name {
        AttackName::AutoAttack => None,
        AttackName::Search(kind) => Search::named(kind, knobs, threat),
        AttackName::TransferFrom(_) => Some(Pgd::set(knobs, threat).into()),
    };
    match search.map(|search| (search, search.problem())) {
        None => {
            let set = AutoAttack::set(knobs, classes);
            let sensible = set.members.iter().all(|member| member.problem().is_none());
            let why = "--attack autoattack: steps, queries, targets and restarts are at least 1";
            sensible.then_some(Method::Set(set)).ok_or_else(|| Error::Config(why.to_string()))
        }
        Some((search, None)) => Ok(Method::Search(search)),
        Some((_, Some(why))) => Err(Error::Config(format!("--attack {name}: {why}"))),
    }
}

/// The searches on single exits that are done, of one batch.
pub(crate) struct Searches<'a> {
    runs: &'a [AttackRun],
    done: Vec<(AttackRun, Attacked)>,
}

impl<'a> Searches<'a> {
    /// None yet, of these runs.
    pub(crate) fn of(runs: &'a [AttackRun]) -> Self {
        Self { runs, done: Vec::new() }
    }

    /// The images of `aimed`, which run number `at` needs: found before, or by `search` now. They cost nothing if an
    /// earlier run needs them too, whoever found them, so an interrupted evaluation counts as a whole one does.
    fn take(
        &mut self,
        at: usize,
        aimed: AttackRun,
        search: impl FnOnce() -> Result<Attacked, AttackError>,
    ) -> Result<Attacked, AttackError> {
        let mut found = match self.done.iter().find(|(run, _)| *run == aimed) {
            Some((_, found)) => found.clone(),
            None => {
                let found = search()?;
                if self.runs[at + 1..].iter().any(|later| later.needs(&aimed)) {
                    self.done.push((aimed.clone(), found.clone()));
                }
                found
            }
        };
        if self.runs[..at].iter().any(|earlier| earlier.needs(&aimed)) {
            found.passes = Passes::default();
            found.members.iter_mut().for_each(|member| member.passes = Passes::default());
        }
        Ok(found)
    }
}

impl AttackRun {
    /// An attack as a configuration has it.
    pub fn of(attack: &Attack, threat: &Threat) -> Self {
        let name = AttackName::Search(attack.search.kind());
        Self { name, target: attack.objective, threat: *threat, method: Method::Search(attack.search) }
    }

    /// How it searches, if it is one search of the network's own gradients.
    pub fn search(&self) -> Option<Search> {
        match (&self.name, &self.method) {
            (AttackName::Search(_), Method::Search(search)) => Some(*search),
            _ => None,
        }
    }

    /// Attacks a batch, as run number `at` of those that share `searches`; `scenario` is of the network that is looked at.
    ///
    /// # Errors
    /// [`Error::Attack`].
    pub(crate) fn attack<M: MultiExit>(
        &self,
        scenario: &Scenario<'_, M>,
        policy: Option<&Policy>,
        searches: &mut Searches<'_>,
        at: usize,
    ) -> Result<Attacked, Error> {
        let mut single = |exit: usize| {
            let target = Objective::Single(exit);
            searches.take(at, Self { target, ..self.clone() }, || self.aimed(target, scenario, policy))
        };
        match self.target {
            Objective::Single(exit) => return Ok(single(exit)?),
            Objective::MaxAverage if self.kind() != Kind::Slowdown => {}
            target => return Ok(self.aimed(target, scenario, policy)?),
        }
        let mut parts: Vec<Attacked> = Vec::new();
        let (pixels, passes) = max_average(scenario, |exit| {
            let part = single(exit)?;
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

    /// Whether the search of `aimed`, on a single exit, is this run or a part of it.
    fn needs(&self, aimed: &Self) -> bool {
        let on_it = self.target == aimed.target || self.target == Objective::MaxAverage;
        on_it && Self { target: aimed.target, ..self.clone() } == *aimed
    }

    fn aimed<M: MultiExit>(
        &self,
        target: Objective,
        scenario: &Scenario<'_, M>,
        policy: Option<&Policy>,
    ) -> Result<Attacked, AttackError> {
        let Scenario { batch, threat, .. } = *scenario;
        let (parts, distances, members) = (Vec::new(), Vec::new(), Vec::new());
        match &self.method {
            Method::Search(Search::FabT(fab)) => {
                let found = fab.nearest_by(scenario, &target.criterion(Mean::Answers, policy)?)?;
                let pixels = found.within(&batch.pixels, &threat);
                let audit = Audit::check(batch, &pixels, &threat)?;
                let distances = vec![found.distances];
                Ok(Attacked { pixels, parts, distances, members, passes: found.passes, audit })
            }
            Method::Search(search) => {
                let attack = Attack { policy: policy.cloned(), ..Attack::new(target, *search) };
                let found = perturb(scenario, &attack)?;
                let (pixels, passes, audit) = (found.pixels, found.passes, found.audit);
                Ok(Attacked { pixels, parts, distances, members, passes, audit })
            }
            Method::Set(set) => {
                let standing = set.run(scenario, &target.criterion(AutoAttack::MEAN, policy)?)?;
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
    pub(crate) fn criterion(&self, policy: Option<&Policy>) -> Result<Criterion, Error> {
        let mean = match self.method {
            Method::Search(search) => search.method().mean(),
            Method::Set(_) => AutoAttack::MEAN,
        };
        Ok(self.target.criterion(mean, policy)?)
    }

    /// Whether one verdict serves both runs.
    pub(crate) fn is_checked_as(&self, other: &Self) -> bool {
        self.threat == other.threat && self.target == other.target
    }

    /// What a run can tell about the gradient.
    pub(crate) fn kind(&self) -> Kind {
        match (&self.name, &self.method) {
            (AttackName::TransferFrom(_), _) => Kind::Transfer,
            (_, Method::Search(Search::Fgsm(_))) => Kind::SingleStep,
            (_, Method::Search(search)) if search.method().goal().is_some() => Kind::Slowdown,
            (_, Method::Search(search)) if !search.method().budget(&self.threat).gradient => Kind::Blind,
            _ => Kind::Gradient,
        }
    }

    /// Steps of the longest gradient search.
    pub fn gradient_steps(&self) -> usize {
        let steps = |search: &Search| {
            let budget = search.method().budget(&self.threat);
            if budget.gradient { budget.steps } else { 0 }
        };
        match &self.method {
            Method::Search(search) => steps(search),
            Method::Set(set) => set.members.iter().map(steps).max().unwrap_or(0),
        }
    }

    /// What it maximises, as flags and reports name it; of a slow-down, its goal.
    pub fn objective(&self) -> String {
        match &self.method {
            Method::Search(search) => Attack::new(self.target, *search).aimed_at(),
            Method::Set(_) => self.target.to_string(),
        }
    }

    /// What its searches for the nearest adversarial image break, one name each: every exit by itself, or
    /// what the run maximises.
    pub fn searches(&self, exits: usize) -> Vec<String> {
        match self.target {
            Objective::MaxAverage => (0..exits).map(|exit| Objective::Single(exit).to_string()).collect(),
            target => vec![target.to_string()],
        }
    }

    /// Settings in one line, for reports and journals.
    pub fn settings(&self) -> String {
        match &self.method {
            Method::Search(search) => search.method().budget(&self.threat).to_string(),
            Method::Set(set) => {
                let each = set.members.iter().map(|member| {
                    let budget = member.method().budget(&self.threat);
                    format!("{} {budget}", member.kind())
                });
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// What a run can tell about the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
