//! The training methods that can be set side by side.

use neokd_evaluate::Error;

use crate::RunConfig;

/// A training method that a comparison can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// What `--methods` calls it.
    pub name: &'static str,
    /// What it changes in a configuration; keys of its loss that the configuration has stay.
    pub set: &'static [&'static str],
}

/// All methods.
pub const METHODS: &[Method] = &[
    Method { name: "at", set: &["training.loss.kind=adversarial-training"] },
    Method { name: "skd", set: &["training.loss.kind=skd"] },
    Method { name: "ard", set: &["training.loss.kind=ard"] },
    Method { name: "lw", set: &["training.loss.kind=lw"] },
    Method { name: "neo-kd", set: &["training.loss.kind=neo-kd"] },
    Method { name: "nkd", set: &["training.loss.kind=neo-kd", "training.loss.beta=0.0"] },
    Method { name: "eokd", set: &["training.loss.kind=neo-kd", "training.loss.alpha=0.0"] },
    Method { name: "trades", set: &["training.loss.kind=trades", "training.attack_loss=kl"] },
    Method { name: "mart", set: &["training.loss.kind=mart"] },
    Method { name: "pgd-te", set: &["training.loss.kind=pgd-te", "training.attack.objective=average"] },
    Method {
        name: "trades-te",
        set: &["training.loss.kind=trades-te", "training.attack.objective=average", "training.attack_loss=kl"],
    },
];

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// [`Error::Config`] lists the names.
    pub fn find(name: &str) -> Result<Self, Error> {
        METHODS.iter().find(|method| method.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
            Error::Config(format!("--methods {name}: unknown; the methods are {}", names.join(", ")))
        })
    }

    /// The configuration of a run with this method and a seed, all else as given. A change that starts
    /// with the name of a method and a colon is for that method alone. Where the configuration has no
    /// `training.loss_weight`, every method's loss gets the weight of the configured one, so that the learning rate
    /// means the same for all.
    ///
    /// # Errors
    /// [`Error::Config`], also for a change of the loss that does not say which method it is for.
    pub fn configure(&self, config: &str, set: &[String], seed: u64) -> Result<RunConfig, Error> {
        let (mut all, mut own) = (Vec::new(), Vec::new());
        for change in set {
            match change.split_once(':').map(|(name, rest)| (Self::find(name), rest)) {
                Some((Ok(method), rest)) if method == *self => own.push(rest.to_string()),
                Some((Ok(_), _)) => {}
                _ if change.starts_with("training.loss") => {
                    return Err(Error::Config(format!(
                        "--set {change}: methods have losses of their own; say whose, as in --set {}:{change}",
                        self.name
                    )));
                }
                _ => all.push(change.clone()),
            }
        }
        let shared = weight_sum(&RunConfig::load(config, &all)?)?;
        all.extend(self.set.iter().map(|change| change.to_string()));
        all.extend(own);
        all.push(format!("seed={seed}"));
        let mut configured = RunConfig::load(config, &all)?;
        // The learning rate is for the configured loss, which stays as it is; the others are brought to its weight.
        if configured.training.loss_weight.is_none() && weight_sum(&configured)? != shared {
            configured.training.loss_weight = Some(shared).filter(|shared| *shared > 0.0);
        }
        Ok(configured)
    }
}

/// The sum of the weights of a configuration's loss.
fn weight_sum(config: &RunConfig) -> Result<f64, Error> {
    let exits = config.model.exits();
    let loss = config.training.loss.init(exits).map_err(|why| Error::Config(format!("training.loss.{why}")))?;
    Ok(loss.weight_sum(exits))
}

#[cfg(test)]
mod tests {
    use neokd_attack::Objective;

    use super::*;
    use crate::options::training_attack::{AttackLoss, TrainingObjective};

    #[test]
    fn a_change_can_be_for_one_method_alone() {
        let configured = |name: &str, set: &str| Method::find(name).unwrap().configure("mnist", &[set.to_string()], 2);
        let lambda = "ard:training.loss.lambda=2.0";
        let (ard, plain) = (configured("ard", lambda).unwrap(), configured("ard", "seed=9").unwrap());
        assert_ne!(ard, plain);
        assert_eq!(configured("skd", lambda).unwrap(), configured("skd", "seed=9").unwrap());
        assert_eq!(ard.seed, 2);
        let refused = configured("ard", "training.loss.lambda=2.0").unwrap_err().to_string();
        assert!(refused.contains("--set ard:training.loss.lambda=2.0"), "{refused}");
    }

    #[test]
    fn one_rate_means_the_same_for_all_methods_and_the_configured_loss_stays() {
        let scale = |name: &str, config: &str| {
            let config = Method::find(name).unwrap().configure(config, &[], 1).unwrap();
            let (training, exits) = (&config.training, config.model.exits());
            training.loss_scale(&*training.loss.init(exits).unwrap(), exits)
        };
        // 18 cross-entropies in NEO-KD's total, 6, 10, 9, 6, 3 and 3 in the others'.
        for (name, factor) in
            [("neo-kd", 1.0), ("at", 3.0), ("skd", 1.8), ("ard", 2.0), ("lw", 3.0), ("trades", 6.0), ("mart", 6.0)]
        {
            assert_eq!(scale(name, "mnist"), factor, "{name}");
        }
        let untouched = Method::find("neo-kd").unwrap().configure("mnist-quick", &[], 1).unwrap();
        assert_eq!(untouched, RunConfig::load("mnist-quick", &[]).unwrap());
        assert_eq!(scale("neo-kd", "cifar100"), 7.0 / 50.0);
        assert_eq!(scale("at", "cifar100"), 0.5);
    }

    #[test]
    fn methods_bring_the_attack_that_their_authors_train_with() {
        let configured = |name: &str| Method::find(name).unwrap().configure("mnist", &[], 1).unwrap().training;
        for (name, target, loss) in [
            ("neo-kd", Objective::MaxAverage, AttackLoss::CrossEntropy),
            ("trades", Objective::MaxAverage, AttackLoss::Kl),
            ("pgd-te", Objective::Average, AttackLoss::CrossEntropy),
            ("trades-te", Objective::Average, AttackLoss::Kl),
        ] {
            let training = configured(name);
            assert_eq!(
                (training.attack.objective, training.attack_loss),
                (TrainingObjective::Of(target), loss),
                "{name}"
            );
        }
    }
}
