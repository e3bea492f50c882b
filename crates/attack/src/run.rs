//! The public call: search, audit, judge.

use burn::tensor::Tensor;
use neokd_model::policy::Policy;
use neokd_model::{ExitLogits, Frozen, MultiExit};

use crate::aim::Aim;
use crate::audit::Audit;
use crate::criterion::Criterion;
use crate::max_average::max_average;
use crate::passes::Passes;
use crate::pgd::Pgd;
use crate::random::RandomKey;
use crate::search::Search;
use crate::{Batch, Target, Threat};

/// Why an attack gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// The attacked exit does not exist.
    #[error("objective single:{exit}: the network has {exits} exits, counted from 0")]
    NoSuchExit {
        /// The exit asked for.
        exit: usize,
        /// How many there are.
        exits: usize,
    },
    /// The policy is the target, and there is none.
    #[error("objective policy: it needs the exit policy that the network is deployed with")]
    NoPolicy,
    /// A policy or criterion does not fit the network.
    #[error("{0}")]
    Misfit(String),
    /// A loss compares more classes than there are.
    #[error("the network has {classes} classes, this attack needs {needed}: take apgd-ce or cw")]
    TooFewClasses {
        /// Classes of the network.
        classes: usize,
        /// Classes that the loss compares.
        needed: usize,
    },
    /// The objective does not depend on the pixels.
    #[error("the objective has no gradient with respect to the pixels: the network detaches its input")]
    NoGradient,
    /// A pixel is NaN or infinite.
    #[error("the attack made pixels that are not finite: the network's gradient or its weights are not")]
    NotFinite,
    /// A pixel left `[0, 1]`.
    #[error(
        "the attack made pixels from {lowest} to {highest}, outside [0, 1]: a fault of the attack, please report it"
    )]
    OutOfRange {
        /// Smallest pixel.
        lowest: f64,
        /// Largest pixel.
        highest: f64,
    },
    /// A perturbation is larger than epsilon.
    #[error(
        "the attack moved an image by {largest}, more than epsilon {epsilon}: a fault of the attack, please report it"
    )]
    OutOfBall {
        /// Size of the largest perturbation.
        largest: f64,
        /// The radius allowed.
        epsilon: f64,
    },
    /// The device could not be read.
    #[error("cannot read back from the device: {0}")]
    Read(String),
}

/// PGD on a target, as training uses it; short for an [`AnyAttack`] that searches so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    /// What is maximised.
    pub target: Target,
    /// How.
    pub pgd: Pgd,
}

/// Any attack with all its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyAttack {
    /// What is maximised; a slow-down has no use for it.
    pub target: Target,
    /// How.
    pub search: Search,
    /// The deployed policy; only [`Target::Policy`] looks at it, and needs it.
    pub policy: Option<Policy>,
}

impl AnyAttack {
    /// An attack that no policy takes part in.
    pub fn new(target: Target, search: Search) -> Self {
        Self { target, search, policy: None }
    }

    /// The same attack on a system deployed with this policy.
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

impl From<&Attack> for AnyAttack {
    fn from(attack: &Attack) -> Self {
        Self::new(attack.target, Search::Pgd(attack.pgd))
    }
}

impl From<&AnyAttack> for AnyAttack {
    fn from(attack: &AnyAttack) -> Self {
        attack.clone()
    }
}

/// Adversarial pixels, audited.
#[derive(Clone, Debug)]
pub struct Adversarial {
    /// `[batch, channels, height, width]`, in the ball and in `[0, 1]`.
    pub pixels: Tensor<4>,
    /// What was measured on them.
    pub audit: Audit,
    /// What they cost.
    pub passes: Passes,
}

/// Adversarial pixels and what the network says to them.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The pixels.
    pub adversarial: Adversarial,
    /// Logits of all exits on them, from a forward pass of their own.
    pub logits: ExitLogits,
}

/// What a search gives: pixels, and what they cost.
type Searched = Result<(Tensor<4>, Passes), AttackError>;

/// Searches and audits; the caller judges. For training, where the network's own pass follows.
///
/// # Errors
/// [`AttackError`]: a target that does not fit the network, no gradient, or a broken rule.
pub fn perturb<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    attack: impl Into<AnyAttack>,
    threat: &Threat,
    key: u64,
) -> Result<Adversarial, AttackError> {
    let attack = attack.into();
    attack.perturb(model, batch, threat, key, &mut |aim| {
        attack.search.search(model, batch, aim, threat, RandomKey::new(key))
    })
}

impl AnyAttack {
    fn check<M: MultiExit>(&self, model: &Frozen<M>) -> Result<(), AttackError> {
        let exits = model.exits();
        match (self.target, &self.policy) {
            (Target::Single(exit), _) if exit >= exits => Err(AttackError::NoSuchExit { exit, exits }),
            (Target::Policy, None) => Err(AttackError::NoPolicy),
            (Target::Policy, Some(policy)) => policy.problem(exits).map_or(Ok(()), |why| Err(AttackError::Misfit(why))),
            _ => Ok(()),
        }
    }

    /// Perturbs and audits; `search` carries out one search on one aim.
    fn perturb<M: MultiExit>(
        &self,
        model: &Frozen<M>,
        batch: &Batch,
        threat: &Threat,
        key: u64,
        search: &mut dyn FnMut(&Aim) -> Searched,
    ) -> Result<Adversarial, AttackError> {
        self.check(model)?;
        let (pixels, passes) = match (self.target, &self.search, &self.policy) {
            (_, Search::Slowdown(_), _) => search(&Aim::Average),
            (Target::Single(exit), ..) => search(&Aim::Exit(exit)),
            (Target::Average, ..) => search(&self.search.average_aim()),
            (Target::MaxAverage, ..) => max_average(model, batch, |exit| search(&Aim::Exit(exit))),
            (Target::Policy, _, Some(policy)) => {
                let criterion = Criterion::Policy(policy.clone());
                self.search.search_all(model, batch, &criterion, threat, RandomKey::new(key))
            }
            (Target::Policy, _, None) => Err(AttackError::NoPolicy),
        }?;
        let audit = Audit::check(batch, &pixels, threat)?;
        Ok(Adversarial { pixels, audit, passes })
    }
}

/// Searches, audits and judges with a forward pass of its own: an attack is never its own judge.
///
/// The same `key`, attack and example give the same pixels in any batch.
///
/// # Errors
/// As [`perturb`].
pub fn run<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    attack: impl Into<AnyAttack>,
    threat: &Threat,
    key: u64,
) -> Result<Outcome, AttackError> {
    Ok(judged(model, perturb(model, batch, attack, threat, key)?))
}

/// Several attacks on the same images, each with the outcome that [`run`] gives it.
///
/// A search on one exit is carried out once, also where max-average is made of it; its passes count for
/// the first attack that needs it.
///
/// # Errors
/// As [`perturb`].
pub fn run_all<M: MultiExit>(
    model: &Frozen<M>,
    batch: &Batch,
    attacks: &[AnyAttack],
    threat: &Threat,
    key: u64,
) -> Result<Vec<Outcome>, AttackError> {
    let mut found: Vec<(Search, Aim, Tensor<4>)> = Vec::new();
    let mut outcomes = Vec::with_capacity(attacks.len());
    for attack in attacks {
        let adversarial = attack.perturb(model, batch, threat, key, &mut |aim| {
            if let Some((.., pixels)) = found.iter().find(|(search, of, _)| *search == attack.search && of == aim) {
                return Ok((pixels.clone(), Passes::default()));
            }
            let (pixels, passes) = attack.search.search(model, batch, aim, threat, RandomKey::new(key))?;
            found.push((attack.search, aim.clone(), pixels.clone()));
            Ok((pixels, passes))
        })?;
        outcomes.push(judged(model, adversarial));
    }
    Ok(outcomes)
}

fn judged<M: MultiExit>(model: &Frozen<M>, mut adversarial: Adversarial) -> Outcome {
    let logits = model.forward(adversarial.pixels.clone());
    adversarial.passes += Passes::forward(adversarial.pixels.dims()[0]);
    Outcome { adversarial, logits }
}
