//! `neokd evaluate --full`: AutoAttack with its published settings, by the same machinery as `neokd attack`, with a
//! journal from which an interrupted evaluation goes on.

use std::path::Path;

use burn::tensor::Device;
use neokd_attack::{Knobs, Objective};
use neokd_evaluate::Error;
use neokd_evaluate::images::Source;
use neokd_evaluate::robustness::{self, AttackName, Context, Evaluation, RobustnessReport, Run};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, MultiExit, Network, weights};
use neokd_train::RunConfig;

use crate::cli::Output;
use crate::cli::attack::carry_out;

/// What is attacked, and how.
pub(super) struct Full<'a> {
    /// Threat, seed, images and batches.
    pub(super) config: &'a RunConfig,
    /// The network.
    pub(super) model: &'a Network,
    /// The objectives.
    pub(super) targets: &'a [Objective],
    /// The deployed policy, which is shown the images as well.
    pub(super) policy: Option<&'a Policy>,
    /// Images that the verdict is measured on.
    pub(super) checks: usize,
    /// Where finished batches are kept, if anywhere.
    pub(super) journal: Option<&'a Path>,
    /// Where to compute, and what that is called.
    pub(super) device: (&'a Device, &'a str),
}

impl Full<'_> {
    /// Attacks the test images and gives the runs and what they found; `say` hears what is in the journal already.
    pub(super) fn run(
        &self,
        images: &Source<'_>,
        say: Option<&mut Output>,
    ) -> Result<(Vec<Run>, RobustnessReport), Error> {
        let (config, (device, device_name)) = (self.config, self.device);
        let threats = [config.threat];
        let classes = self.model.classes();
        let runs = robustness::plan(&[AttackName::AutoAttack], self.targets, &threats, &Knobs::default(), classes)?;
        let none: Vec<Option<Frozen<Network>>> = runs.iter().map(|_| None).collect();
        let evaluation = Evaluation {
            model: &Frozen::new(self.model),
            runs: &runs,
            sources: &none,
            policy: self.policy,
            images,
            count: images.count(config.evaluation.images),
            batch_size: config.evaluation.batch_size,
            seed: config.seed,
            checks: self.checks,
            keep_pixels: false,
            device,
        };
        let encoded = weights::encode_network(&config.model, self.model);
        let digest = neokd_datasets::sha256_hex(&encoded.map_err(|error| Error::Config(error.to_string()))?);
        let about = (device_name, digest.as_str(), &*vec![None; runs.len()]);
        let scored = carry_out(&evaluation, about, self.journal, say.map(|out| (out, "AutoAttack goes on")))?;
        let costs = self.model.costs();
        let context = Context {
            device: device_name,
            weights: ["the evaluated network".to_string(), digest],
            data: images.name(),
            seed: config.seed,
            costs: &costs,
            policy: self.policy,
            runs: &runs,
        };
        let report = RobustnessReport::new(&context, &scored);
        Ok((runs, report))
    }
}
