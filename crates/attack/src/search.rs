//! The attacks to choose from, one file each, and how one is run on one aim or several.

mod apgd;
mod ascent;
mod budget;
mod cw;
mod deepfool;
mod fab;
mod knobs;
mod method;
mod pgd;
mod slowdown;
mod square;
mod survivors;

use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use crate::objective::aim::Aim;
use crate::objective::criterion::Criterion;
use crate::objective::loss::Loss;
use crate::passes::{Passes, Searched};
use crate::scenario::Scenario;
use crate::threat::Threat;

pub use apgd::{Apgd, ApgdCe, ApgdDlr, ApgdMargin, ApgdT};
pub(crate) use ascent::Ascent;
pub use budget::Budget;
pub use cw::Cw;
pub use deepfool::DeepFool;
pub use fab::{Fab, Nearest};
pub use knobs::Knobs;
pub use method::Method;
pub(crate) use pgd::Hill;
pub use pgd::{Fgsm, Pgd};
pub use slowdown::Slowdown;
pub use square::Square;
use survivors::{Candidates, Survivors};

/// The attacks by the names that flags and files have for them.
macro_rules! searches {
    ($($(#[$doc:meta])* $kind:ident($settings:ty) = $name:literal, $number:expr;)*) => {
        /// How an attack searches, with all its settings; in a file `kind` names it.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Search {
            $($(#[$doc])* #[serde(rename = $name)] $kind($settings),)*
        }

        impl Search {
            /// What there is, as flags and files name it.
            pub const KINDS: &[&str] = &[$($name),*];

            /// The attack of this name, set as flags say; none where there is no such attack.
            pub fn named(kind: &str, knobs: &Knobs, threat: &Threat) -> Option<Self> {
                match kind {
                    $($name => Some(Self::$kind(Method::set(knobs, threat))),)*
                    _ => None,
                }
            }

            /// As flags, files and reports name it.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }

            /// What keeps its random numbers apart from those of other attacks.
            pub fn number(&self) -> u64 {
                match self {
                    $(Self::$kind(_) => $number,)*
                }
            }

            /// What it says of itself.
            pub fn method(&self) -> &dyn Method {
                match self {
                    $(Self::$kind(method) => method,)*
                }
            }

            fn run<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
                match self {
                    $(Self::$kind(method) => method.search(scenario, aim),)*
                }
            }
        }

        $(impl From<$settings> for Search {
            fn from(settings: $settings) -> Self {
                Self::$kind(settings)
            }
        })*
    };
}

// A new attack is one file and one line here: type, name, and a number of its own, which keeps its random numbers apart.
// FGSM is PGD of one step and shares its number, without drawing any.
searches! {
    /// The fast gradient sign method (Goodfellow et al. 2015).
    Fgsm(Fgsm) = "fgsm", 0;
    /// Projected gradient descent on the cross-entropy (Madry et al. 2018).
    Pgd(Pgd) = "pgd", 0;
    /// Auto-PGD on the cross-entropy (Croce and Hein 2020).
    ApgdCe(ApgdCe) = "apgd-ce", 1;
    /// Auto-PGD on the difference-of-logits ratio (Croce and Hein 2020).
    ApgdDlr(ApgdDlr) = "apgd-dlr", 2;
    /// Auto-PGD on the margin, for networks of fewer classes than the ratios need.
    ApgdMargin(ApgdMargin) = "apgd-margin", 3;
    /// Auto-PGD on the targeted ratio, towards several classes in turn (Croce and Hein 2020).
    ApgdT(ApgdT) = "apgd-t", 4;
    /// PGD steps on the margin of Carlini and Wagner (2017), in the ball of the threat's norm.
    Cw(Cw) = "cw", 5;
    /// Targeted fast adaptive boundary (Croce and Hein 2020), towards several classes in turn.
    FabT(Fab) = "fab-t", fab::NUMBER;
    /// The nearest boundary of the linearised network, step after step (Moosavi-Dezfooli et al. 2016).
    DeepFool(DeepFool) = "deepfool", 9;
    /// Random squares, by logits alone (Andriushchenko et al. 2020).
    Square(Square) = "square", 8;
    /// Towards unsure exits, so that nobody leaves early (DeepSloth, Hong et al. 2021).
    Slowdown(Slowdown) = "slowdown", 6;
}

impl Search {
    /// Searches for pixels in the ball that meet the aim, or else come closest to it.
    ///
    /// # Errors
    /// Those of the search.
    pub fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        self.run(&Scenario { key: aim.key(self.number(), scenario.key), ..*scenario }, aim)
    }

    /// Searches every aim that a criterion is made of, each on the images that none before it broke by
    /// that criterion.
    ///
    /// # Errors
    /// As [`search`](Self::search), and [`AttackError::Read`](crate::AttackError::Read).
    pub(crate) fn search_all<M: MultiExit>(&self, scenario: &Scenario<'_, M>, criterion: &Criterion) -> Searched {
        let model = scenario.model;
        let aims = criterion.aims(model.exits(), model.classes());
        if let [aim] = &aims[..] {
            return self.search(scenario, aim);
        }
        Survivors::all(scenario.batch).run(aims.len(), |part, number| {
            let (aim, labels) = (&aims[number], &part.batch.labels);
            let (pixels, spent) = self.search(&scenario.on(&part.batch), aim)?;
            let logits = model.forward(pixels.clone());
            let value = aim.value(&Loss::Margin, &logits.only(&aim.exits(model.exits())), labels);
            let broken = criterion.broken(&logits, labels);
            Ok(Candidates { pixels, value, broken, passes: spent + Passes::forward(part.count()) })
        })
    }

    /// Why its settings make no sense, if so: the key inside the section, and the cure.
    pub fn problem(&self) -> Option<String> {
        // Step sizes in units of epsilon are fine in any ball, so any will do.
        let budget = self.method().budget(&Threat::linf(1.0));
        budget.nothing_to_do().or_else(|| self.method().problem()).or_else(|| budget.no_step_size())
    }
}
