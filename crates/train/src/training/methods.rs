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
    Method { name: "trades", set: &["training.loss.kind=trades"] },
    Method { name: "mart", set: &["training.loss.kind=mart"] },
    Method { name: "pgd-te", set: &["training.loss.kind=pgd-te"] },
    Method { name: "trades-te", set: &["training.loss.kind=trades-te"] },
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
    /// with the name of a method and a colon is for that method alone.
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
        all.extend(self.set.iter().map(|change| change.to_string()));
        all.extend(own);
        all.push(format!("seed={seed}"));
        RunConfig::load(config, &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
