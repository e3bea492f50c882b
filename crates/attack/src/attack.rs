//! An attack: what it is to achieve and how it searches.

use neokd_model::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::objective::{Mean, Objective};
use crate::passes::Passes;
use crate::search::Search;

/// An attack with all its settings, as a table of a configuration file or a value: `kind` names the search, its
/// settings stand beside it, and so does `objective`, which is `max-average` unless said otherwise.
///
/// ```
/// # use neokd_attack::{Attack, Objective, Pgd, Search};
/// let pgd = Pgd { steps: 10, step_size: 2.0 / 255.0, random_start: true, restarts: 1 };
/// let attack = Attack::new(Objective::Average, pgd);
/// assert_eq!(attack.search, Search::Pgd(pgd));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Attack {
    /// What is maximised; a slow-down, which has a goal of its own, has no use for it.
    pub objective: Objective,
    /// How.
    pub search: Search,
    /// The deployed policy; only [`Objective::Policy`] looks at it, and needs it. No part of a file.
    pub policy: Option<Policy>,
}

impl Attack {
    /// An attack that no policy takes part in.
    pub fn new(objective: Objective, search: impl Into<Search>) -> Self {
        Self { objective, search: search.into(), policy: None }
    }

    /// The same attack on a system deployed with this policy.
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The same attack on another objective; a slow-down stays what it is.
    pub fn with_objective(self, objective: Objective) -> Self {
        match self.search.method().goal() {
            None => Self { objective, ..self },
            Some(_) => self,
        }
    }

    /// What the average objective is the average of.
    pub fn mean(&self) -> Mean {
        self.search.method().mean()
    }

    /// What it maximises, as flags and reports name it; of a slow-down, its goal.
    pub fn aimed_at(&self) -> String {
        self.search.method().goal().map_or_else(|| self.objective.to_string(), |goal| goal.name().to_string())
    }

    /// Passes that one image of a network with `exits` exits costs, at most.
    pub fn passes(&self, exits: usize) -> Passes {
        let once = self.search.method().passes();
        match (self.search.method().goal(), self.objective) {
            (Some(_), _) | (None, Objective::Average | Objective::Single(_)) => once,
            (None, several) => (once + Passes::forward(1)).times(several.searches(exits)),
        }
    }

    /// Why this attack makes no sense for a network with `exits` exits, if so: the key inside the
    /// section, and the cure.
    pub fn problem(&self, exits: usize) -> Option<String> {
        self.objective.problem(exits).or_else(|| self.search.problem())
    }
}

/// An attack as a file writes it.
#[derive(Serialize, Deserialize)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    objective: Option<Objective>,
    #[serde(flatten)]
    search: Search,
}

impl TryFrom<Table> for Attack {
    type Error = String;

    fn try_from(Table { objective, search }: Table) -> Result<Self, String> {
        match (search.method().goal(), objective) {
            (Some(_), Some(_)) => Err("unknown field `objective`: a slow-down has a goal instead".to_string()),
            (Some(_), None) => Ok(Self::new(Objective::Average, search)),
            (None, objective) => Ok(Self::new(objective.unwrap_or_default(), search)),
        }
    }
}

impl From<Attack> for Table {
    fn from(Attack { objective, search, .. }: Attack) -> Self {
        Self { objective: search.method().goal().is_none().then_some(objective), search }
    }
}
