//! What commands do with a run, from its data to its report: load, start or go on, train to the end, evaluate, deliver.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_attack::{Attack, Objective};
use neokd_datasets::{DataSplits, Images, Storage, TreeOptions};
use neokd_evaluate::attack_run::AttackRun;
use neokd_evaluate::examples::{self, Examples};
use neokd_evaluate::images::Source;
use neokd_evaluate::seeds::{Purpose, key};
use neokd_evaluate::stop::Stop;
use neokd_evaluate::{Error, Evaluation, Scored, files};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, Network};
use neokd_report::card;
use neokd_report::report::{About, DataReport, Report, TrainingReport, config_of_run};
use neokd_report::run::Run;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::{self, TrainingState};
use neokd_train::run::origin::Origin;
use neokd_train::run::progress::Progress;
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::{Fit, Length, Observer};

use crate::device::Devices;

/// Test, validation and training images, in memory or in their files.
pub type Data = DataSplits<Box<dyn Images>>;

/// A configuration with its data, on its devices.
pub struct Session<'a> {
    /// What is to be done.
    pub config: &'a RunConfig,
    /// The images.
    pub data: &'a Data,
    /// Where to compute.
    pub devices: &'a Devices,
}

/// What a training run delivers.
pub struct Trained {
    /// The network that stands for the run: its best where that is kept, else the average of its weights where one is
    /// kept, else its last.
    pub network: Network,
    /// How the training went.
    pub training: TrainingReport,
}

/// Weights alone, in a file.
pub struct OnFile {
    /// Path and SHA-256 of the file.
    pub name: [String; 2],
    /// Where they come from, if it says so.
    pub origin: Option<Origin>,
}

/// Whose network is scored.
pub enum Subject<'a> {
    /// That of a run with the session's configuration, and how far its training went.
    Run(Option<&'a TrainingReport>),
    /// Weights alone.
    File(OnFile),
}

/// The exit policies that a network is scored under.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// All of them.
    pub policies: Vec<Policy>,
    /// The place in `policies` of the one that attacks on the deployed policy are aimed at.
    pub deployed: Option<usize>,
}

impl Deployment {
    /// The policy that attacks are aimed at.
    pub fn policy(&self) -> Option<&Policy> {
        self.deployed.and_then(|deployed| self.policies.get(deployed))
    }
}

/// What a network is put to.
#[derive(Default)]
pub struct Trial {
    /// The attacks.
    pub runs: Vec<AttackRun>,
    /// The exit policies that it is scored under.
    pub deployment: Deployment,
    /// Networks that transfers are from, by the place of their runs; may be empty.
    pub sources: Vec<Option<Frozen<Network>>>,
    /// Images that verdicts are measured on.
    pub checks: usize,
    /// Whether adversarial pixels are kept.
    pub keep_pixels: bool,
}

/// Loads the data of a run and checks that they suit its network; `library` gives the folder of imported sets.
///
/// # Errors
/// [`Error::Data`] or [`Error::Config`] names the set, or the key and the cure.
pub fn load(config: &RunConfig, library: &dyn Fn() -> Result<PathBuf, Error>) -> Result<Data, Error> {
    let data = match &config.data.path {
        Some(tree) => neokd_datasets::open_tree(tree, &library()?, &tree_options(config))?,
        None => known(config, library)?.boxed(),
    };
    let (shape, classes) = (data.train.shape(), data.train.classes());
    if config.model.input_shape() != shape || config.model.classes() != classes {
        return Err(Error::Config(format!(
            "model takes {:?} images of {} classes, but data.name = {:?} has {shape:?} images of {classes} classes; \
             change one of them",
            config.model.input_shape(),
            config.model.classes(),
            config.data.name
        )));
    }
    Ok(data)
}

fn known(config: &RunConfig, library: &dyn Fn() -> Result<PathBuf, Error>) -> Result<DataSplits, Error> {
    let folder = match config.dataset()?.is_embedded() {
        true => PathBuf::new(),
        false => library()?,
    };
    if config.data.augmentation.needs_files() {
        return Err(Error::Config(format!(
            "data.augmentation.from_file = true: data.name = {:?} has no image files; leave from_file out, or set \
             data.path",
            config.data.name
        )));
    }
    Ok(neokd_datasets::load(&config.data.name, &folder)?)
}

fn tree_options(config: &RunConfig) -> TreeOptions {
    let mut options = TreeOptions::new(config.model.input_shape());
    options.resize = config.data.resize;
    options.storage = match config.data.augmentation.needs_files() {
        true => Storage::Stream,
        false => config.data.storage,
    };
    options
}

impl Trial {
    /// The attack of a configuration on each of some objectives.
    pub fn of(config: &RunConfig, objectives: &[Objective]) -> Self {
        let on = |objective: &Objective| {
            AttackRun::of(&config.evaluation.attack.clone().with_objective(*objective), &config.threat)
        };
        Self { runs: objectives.iter().map(on).collect(), ..Self::default() }
    }

    /// A network before some images, ready to be evaluated with a configuration's batches and seed.
    pub fn evaluation<'a>(
        &'a self,
        config: &RunConfig,
        model: &'a Frozen<Network>,
        images: &'a Source<'a>,
        device: &'a Device,
    ) -> Evaluation<'a, Network> {
        Evaluation {
            sources: &self.sources,
            policies: &self.deployment.policies,
            deployed: self.deployment.deployed,
            count: images.count(config.evaluation.images),
            batch_size: config.evaluation.batch_size,
            checks: self.checks,
            keep_pixels: self.keep_pixels,
            ..Evaluation::new(model, images, &self.runs, config.seed, device)
        }
    }
}

impl Session<'_> {
    /// The directory and the state of a new run.
    ///
    /// # Errors
    /// [`Error::RunDir`] if the folder holds something, [`Error::Io`].
    pub fn start(&self, folder: &Path) -> Result<(RunDir, TrainingState), Error> {
        Ok((RunDir::create(folder, self.config)?, TrainingState::start(self.config, &self.devices.first)))
    }

    /// The state of an existing run.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] or [`Error::Io`] names the file.
    pub fn go_on(&self, run: &RunDir) -> Result<TrainingState, Error> {
        let path = run.checkpoint_path();
        match path.exists() {
            true => TrainingState::load(self.config, &path, &self.devices.first),
            // Interrupted before the first checkpoint: the beginning is where it stands.
            false => Ok(TrainingState::start(self.config, &self.devices.first)),
        }
    }

    /// How long training is.
    pub fn length(&self) -> Length {
        Length::of(self.config, self.data.train.len())
    }

    /// How far training has come.
    pub fn so_far(&self, progress: &Progress) -> TrainingReport {
        let (planned_steps, patience) = (self.length().steps(), self.config.validation.patience);
        let gave_up = patience > 0 && progress.best.is_some_and(|best| best.looks_since >= patience);
        let complete = gave_up || progress.step >= planned_steps;
        TrainingReport { complete, planned_steps, progress: progress.clone() }
    }

    /// Trains from `state` to the end and writes `weights.safetensors`.
    ///
    /// # Errors
    /// As [`Fit::run`]: [`Error::Interrupted`] after a requested stop, with everything saved.
    pub fn train(
        &self,
        run: &RunDir,
        state: &mut TrainingState,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<Trained, Error> {
        let device = &self.devices.first;
        let fit = Fit::new(self.config, self.data, device)?.with_replicas(self.devices.replicas.clone());
        fit.run(state, run, stop, observer)?;
        let progress = state.progress.clone();
        let (network, steps) = match self.config.validation.keep_best && run.best_path().exists() {
            true => {
                let network = checkpoint::load_network(&run.best_path(), device)?.1;
                (network, progress.best.map_or(progress.step, |best| best.step))
            }
            false => (state.for_evaluation().clone(), progress.step),
        };
        let path = run.weights_path();
        let bytes =
            fit.origin(&progress, steps)?.encode(&self.config.model, &network).map_err(Error::weights(&path))?;
        files::write_atomically(&path, &bytes)?;
        let planned_steps = fit.length().steps();
        Ok(Trained { network, training: TrainingReport { complete: true, planned_steps, progress } })
    }

    /// Scores a network on the test images of this session; `carry_out` runs the evaluation, with what progress and
    /// journal it likes.
    ///
    /// # Errors
    /// As [`Evaluation::resume`].
    pub fn evaluate(
        &self,
        network: &Network,
        trial: &Trial,
        subject: Subject<'_>,
        carry_out: &mut dyn FnMut(&Evaluation<'_, Network>) -> Result<Scored, Error>,
    ) -> Result<(Report, Scored), Error> {
        let (model, images) = (Frozen::new(network), Source::from(&self.data.test as &dyn Images));
        let evaluation = trial.evaluation(self.config, &model, &images, &self.devices.first);
        let scored = carry_out(&evaluation)?;
        let (is_trained_so, training, weights, origin) = match subject {
            Subject::Run(training) => (true, training, None, None),
            Subject::File(OnFile { name, origin }) => (false, None, Some(name), origin),
        };
        let about = About {
            config: config_of_run(self.config, is_trained_so)?,
            device: &self.devices.names,
            weights,
            origin,
            data: DataReport::of(self.data),
            training,
        };
        Ok((Report::new(&evaluation, &scored, about), scored))
    }

    /// Writes what a trained run is judged by: `report.json`, example images and the model card.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn deliver(&self, run: &RunDir, network: &Network, trial: &Trial, report: &Report) -> Result<(), Error> {
        self.save_examples(network, trial, report, run.folder())?;
        files::write_atomically(&run.report_path(), report.to_json()?.as_bytes())?;
        card::write(&Run::read(run.folder())?)
    }

    /// Writes the first images under the attack that left the lowest mean accuracy.
    ///
    /// # Errors
    /// [`Error::Attack`] or [`Error::Io`].
    pub fn save_examples(&self, network: &Network, trial: &Trial, report: &Report, folder: &Path) -> Result<(), Error> {
        let means = report.attacks.iter().map(|attack| attack.accuracy.mean);
        let searches = trial.runs.iter().zip(means).filter_map(|(run, mean)| Some((run.search()?, run, mean)));
        let Some((search, run, _)) = searches.min_by(|a, b| a.2.total_cmp(&b.2)) else { return Ok(()) };
        let attack = Attack { policy: trial.deployment.policy().cloned(), ..Attack::new(run.target, search) };
        let count = examples::COUNT.min(report.n as usize);
        let attack = (&attack, &run.threat, key(self.config.seed, Purpose::Evaluation, 0));
        let examples = Examples::make(&Frozen::new(network), &self.data.test, count, attack, &self.devices.first)?;
        examples.write(&folder.join(examples::FILE))
    }
}
