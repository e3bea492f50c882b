//! The losses that a configuration can name.

use serde::{Deserialize, Serialize};

use crate::{
    AdversarialTraining, Ard, ArdConfig, ExitLoss, Lw, Mart, NeoKd, NeoKdConfig, PgdTe, Skd, SkdConfig, Trades,
    TradesTe,
};

/// A loss in a configuration file; `kind` names it.
///
/// A new loss is one file and one variant here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LossConfig {
    /// Clean plus adversarial cross-entropy of every exit (Hu et al. 2020).
    AdversarialTraining(AdversarialTraining),
    /// Self-distillation from the last exit (Phuong and Lampert 2019).
    Skd(SkdConfig),
    /// Adversarially robust distillation from the last exit (Goldblum et al. 2020).
    Ard(ArdConfig),
    /// A penalty on the weights of the classifiers (Chen et al. 2022).
    Lw(Lw),
    /// NEO-KD (Ham et al. 2023).
    NeoKd(NeoKdConfig),
    /// TRADES on every exit (Zhang et al. 2019).
    Trades(Trades),
    /// MART on every exit (Wang et al. 2020).
    Mart(Mart),
    /// Adversarial training with temporal ensembling (Dong et al. 2022).
    PgdTe(PgdTe),
    /// TRADES with temporal ensembling (Dong et al. 2022).
    TradesTe(TradesTe),
}

impl LossConfig {
    /// The loss for a network with `exits` exits.
    ///
    /// # Errors
    /// A sentence that names the key inside the section, its value and the cure.
    pub fn init(&self, exits: usize) -> Result<Box<dyn ExitLoss + Send + Sync>, String> {
        Ok(match self {
            Self::AdversarialTraining(loss) => checked(loss, loss.validate())?,
            Self::Skd(config) => Box::new(Skd::new(config.clone(), exits)?),
            Self::Ard(config) => Box::new(Ard::new(config.clone(), exits)?),
            Self::Lw(loss) => checked(loss, loss.validate())?,
            Self::NeoKd(config) => Box::new(NeoKd::new(config.clone(), exits)?),
            Self::Trades(loss) => checked(loss, loss.validate())?,
            Self::Mart(loss) => checked(loss, loss.validate())?,
            Self::PgdTe(loss) => checked(loss, loss.validate())?,
            Self::TradesTe(loss) => checked(loss, loss.validate())?,
        })
    }
}

fn checked<L: ExitLoss + Clone + Send + Sync + 'static>(
    loss: &L,
    valid: Result<(), String>,
) -> Result<Box<dyn ExitLoss + Send + Sync>, String> {
    valid.map(|()| Box::new(loss.clone()) as Box<_>)
}
