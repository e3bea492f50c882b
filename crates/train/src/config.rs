//! What is to be done: a configuration from a preset or a file, with overrides, checked before
//! anything starts.

mod extends;
mod overrides;
mod presets;
mod suggest;

use std::path::{Path, PathBuf};

use neokd_attack::{Attack, Objective, Pgd, Threat};
use neokd_datasets::{Augmentation, KnownDataset, Storage};
use neokd_distill::{ExitLoss, LossConfig};
use neokd_evaluate::Error;
use neokd_model::{Backbone, ModelConfig};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::options::awp::AwpConfig;
use crate::options::cutmix::CutmixConfig;
use crate::options::ema::EmaConfig;
use crate::options::probe::ProbeConfig;
use crate::options::training_attack::{AttackLoss, AttackMode, TrainingAttack};
use crate::training::optimizer::OptimizerConfig;
use crate::training::schedule::ScheduleConfig;

pub use presets::{PRESETS, Preset, preset};

/// Everything that determines a run; the same configuration and machine give the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound = "B: Backbone")]
pub struct RunConfig<B = ModelConfig> {
    /// Seed of everything random.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// The network.
    pub model: B,
    /// The images.
    pub data: DataConfig,
    /// How far an image may be moved, in training and evaluation.
    pub threat: Threat,
    /// How the network is trained.
    pub training: TrainingConfig,
    /// How it is watched on held-out training images.
    pub validation: ValidationConfig,
    /// How it is judged on test images.
    pub evaluation: EvaluationConfig,
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Name of a data set, `neokd data list` shows them; with `path`, a name of your own.
    pub name: String,
    /// A folder or zip archive with one folder of images per class below `train`, `val` and `test`;
    /// images are decoded to the network's size. Absent for a data set that neokd knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// With `path`: shorter side of an image, in pixels, when its centre is cut out; absent: what fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// With `path`: decoded in `memory`, or left in the files and decoded when needed (`stream`); `auto` takes memory
    /// up to 4 GiB of decoded images. Numbers do not depend on it.
    #[serde(default)]
    pub storage: Storage,
    /// Train on the first so many training images only; 0 means all.
    #[serde(default)]
    pub train_images: usize,
    /// What is done to training images, drawn from (seed, epoch, example).
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Number of passes over the training images.
    pub epochs: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Stop each epoch after so many steps; 0 means all of it.
    #[serde(default)]
    pub steps_per_epoch: usize,
    /// Write a checkpoint every so many steps, and at the end of every epoch; 0: at epoch ends only.
    #[serde(default = "defaults::checkpoint_every")]
    pub checkpoint_every_steps: u64,
    /// The attack that makes the adversarial batch.
    pub attack: TrainingAttack,
    /// Whether batch-norm and dropout are in evaluation or in training mode while it does.
    #[serde(default)]
    pub attack_mode: AttackMode,
    /// What it climbs at each exit: `cross-entropy` against the labels, or `kl` against the answer to the clean
    /// image, as TRADES does.
    #[serde(default)]
    pub attack_loss: AttackLoss,
    /// Whether the network sees the clean and the adversarial batch one after the other or as one.
    #[serde(default)]
    pub passes: PassesConfig,
    /// The loss.
    pub loss: LossConfig,
    /// What the weights of the loss's cross-entropies over all exits are scaled to sum to
    /// ([`weight_sum`](neokd_distill::ExitLoss::weight_sum)), so that one learning rate means the same for every
    /// loss; absent: the loss as its formula has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weight: Option<f64>,
    /// Share of each target that is spread over all classes, in `[0, 1)`; 0 leaves labels as they are.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Exchange boxes between the images of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<CutmixConfig>,
    /// Lower the loss of the worst network nearby instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awp: Option<AwpConfig>,
    /// Average the weights; validation, evaluation and `weights.safetensors` are then of the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate.
    pub schedule: ScheduleConfig,
    /// Share of the training over which the learning rate rises in a straight line to what the schedule says, in
    /// `[0, 1)`; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warm_up: f64,
    /// Length beyond which the gradient of all parameters together is cut to it; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl TrainingConfig {
    /// What the loss is multiplied by, so that its weights sum to what is asked for; a loss without
    /// cross-entropies stays as it is.
    pub fn loss_scale(&self, loss: &dyn ExitLoss, exits: usize) -> f64 {
        let sum = loss.weight_sum(exits);
        self.loss_weight.filter(|_| sum > 0.0).map_or(1.0, |weight| weight / sum)
    }

    /// Learning rate of step `step` (from 0) of `steps`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let rising = self.warm_up * steps as f64;
        let part = if rising > 0.0 { ((step as f64 + 1.0) / rising).min(1.0) } else { 1.0 };
        part * self.schedule.rate(step, steps)
    }
}

/// How the clean and the adversarial batch go through the network (docs/papers/neo-kd.md section 2.4): it matters
/// to batch-norm, which takes its statistics from what it sees at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassesConfig {
    /// One after the other, each with statistics of its own, as in the public Triple Wins code; the
    /// default.
    #[default]
    Separate,
    /// As one batch of twice the size.
    Joint,
}

/// How a run is watched on held-out training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Look every so many steps, and at the end; 0: at the end only.
    pub every_steps: u64,
    /// Number of held-out images, the first of the validation split.
    pub images: usize,
    /// The attack of a look; absent: the training attack, or where that is a single step, PGD of 10 steps of a
    /// quarter of epsilon, as a network can become immune to one step and to nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<Attack>,
    /// Keep the network of the look with the highest robust accuracy (mean over exits) beside the last
    /// one; evaluation and `weights.safetensors` are then of the best.
    #[serde(default)]
    pub keep_best: bool,
    /// End the training after so many looks that were not better than the best; 0: never.
    #[serde(default)]
    pub patience: u64,
    /// At the end of every epoch, measure on so many held-out images how attacks on one exit carry over to the
    /// others (the training attack on each exit by itself); 0: never.
    #[serde(default)]
    pub transfer_images: usize,
    /// Watch for catastrophic overfitting.
    #[serde(default)]
    pub probe: ProbeConfig,
}

/// How a run is judged on test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Number of test images, from the start of the test set; 0 means all.
    #[serde(default)]
    pub images: usize,
    /// Images per pass.
    #[serde(default = "defaults::evaluation_batch")]
    pub batch_size: usize,
    /// The attack, run once on the average and once as max-average; its own objective is not read.
    pub attack: Attack,
}

mod defaults {
    pub(super) fn seed() -> u64 {
        1
    }

    pub(super) fn checkpoint_every() -> u64 {
        200
    }

    pub(super) fn evaluation_batch() -> usize {
        100
    }
}

impl DataConfig {
    /// The data set of this name, or the tree of images at this path, as it is: all of it, not augmented.
    pub fn of(name_or_path: &str) -> Self {
        let path = neokd_evaluate::images::is_tree(name_or_path).then(|| PathBuf::from(name_or_path));
        let (train_images, resize, storage) = (0, None, Storage::Auto);
        Self { name: name_or_path.to_string(), path, resize, storage, train_images, augmentation: Augmentation::None }
    }
}

impl RunConfig {
    /// Reads a preset by name or a TOML file by path, applies `key=value` overrides, and checks the
    /// result.
    ///
    /// # Errors
    /// [`Error::Config`] names the file or key, the value and the cure.
    pub fn load(name_or_file: &str, overrides: &[String]) -> Result<Self, Error> {
        let (source, table) = read(name_or_file)?;
        Self::from_table(&source, table, overrides)
    }

    /// As [`load`](Self::load), from TOML text; `source` names it in errors.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn parse(source: &str, text: &str, overrides: &[String]) -> Result<Self, Error> {
        Self::from_toml(source, text, overrides)
    }
}

impl<B: Backbone> RunConfig<B> {
    /// As [`parse`](RunConfig::parse), for a network of one's own: the `model` section holds its settings.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn from_toml(source: &str, text: &str, overrides: &[String]) -> Result<Self, Error> {
        Self::from_table(source, parse_toml(source, text)?, overrides)
    }

    fn from_table(source: &str, mut table: Table, overrides: &[String]) -> Result<Self, Error> {
        for text in overrides {
            overrides::apply(&mut table, text)?;
        }
        let config: Self = serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| Error::Config(suggest::explain(source, &error, &known_keys)))?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as TOML, every default written out.
    ///
    /// # Errors
    /// [`Error::Config`] if TOML cannot hold it.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self)
            .map_err(|error| Error::Config(format!("configuration cannot be written as TOML: {error}")))
    }

    /// The data set's entry in the manifest.
    ///
    /// # Errors
    /// [`Error::Config`] lists the known names.
    pub fn dataset(&self) -> Result<&'static KnownDataset, Error> {
        neokd_datasets::find(&self.data.name).map_err(|error| {
            Error::Config(format!("data.name: {error}; for a folder of images per class set data.path=FOLDER as well"))
        })
    }

    /// Checks every value that types alone do not.
    ///
    /// # Errors
    /// [`Error::Config`] names the key, the value and the cure.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |section: &str, why: String| Err(Error::Config(format!("{section}{why}")));
        if let Some(why) = self.model.problem() {
            return fail("", why);
        }
        if let Some(why) = self.threat.problem() {
            return fail("threat.", why);
        }
        if let Err(error) = self.data.augmentation.check(self.model.input_shape()) {
            return fail("data.augmentation.", error.to_string());
        }
        if self.data.augmentation.needs_files() && self.data.storage == Storage::Memory {
            let why = "data.augmentation.from_file cuts from files, which memory does not hold; take stream or auto";
            return fail("data.storage = \"memory\": ", why.to_string());
        }
        let exits = self.model.exits();
        let (training, evaluation) = (&self.training.attack, &self.evaluation.attack);
        let validation = self.validation.attack.as_ref();
        let attacks = [
            ("training.attack.", training.problem(exits), training.objective.on_held_out()),
            ("evaluation.attack.", evaluation.problem(exits), evaluation.objective),
        ];
        let looking = validation.map(|attack| ("validation.attack.", attack.problem(exits), attack.objective));
        for (section, problem, objective) in attacks.into_iter().chain(looking) {
            if let Some(why) = problem {
                return fail(section, why);
            }
            if objective == Objective::Policy {
                let why = "objective = \"policy\": there is no deployed policy here; take max-average or average";
                return fail(section, why.to_string());
            }
        }
        if let Err(why) = self.training.loss.init(exits) {
            return fail("training.loss.", why);
        }
        for (section, why) in [
            ("training.cutmix.", self.training.cutmix.and_then(|cutmix| cutmix.problem())),
            ("training.awp.", self.training.awp.and_then(|awp| awp.problem())),
            ("training.ema.", self.training.ema.and_then(|ema| ema.problem())),
            ("validation.probe.", self.validation.probe.problem()),
            ("", self.options_problem()),
        ] {
            if let Some(why) = why {
                return fail(section, why);
            }
        }
        if let Some(why) = self.training.optimizer.problem() {
            return fail("training.optimizer.", why);
        }
        if let Some(why) = self.training.schedule.problem() {
            return fail("training.schedule.", why);
        }
        for (key, value) in [
            ("training.epochs", self.training.epochs),
            ("training.batch_size", self.training.batch_size as u64),
            ("validation.images", self.validation.images as u64),
            ("evaluation.batch_size", self.evaluation.batch_size as u64),
        ] {
            if value == 0 {
                return fail("", format!("{key} = 0: must be at least 1"));
            }
        }
        Ok(())
    }
}

impl<B: Backbone> RunConfig<B> {
    /// The attack by which held-out images are looked at, and the best network is chosen.
    pub fn validation_attack(&self) -> Attack {
        let training = &self.training.attack;
        match (&self.validation.attack, training.is_single_step()) {
            (Some(attack), _) => attack.clone(),
            (None, false) => training.inside_the_ball(&self.threat),
            (None, true) => {
                let step_size = self.threat.epsilon / 4.0;
                Attack::new(
                    training.objective.on_held_out(),
                    Pgd { steps: 10, step_size, random_start: true, restarts: 1 },
                )
            }
        }
    }

    /// Why options make no sense beside each other, if so: the key, its value and the cure.
    fn options_problem(&self) -> Option<String> {
        let training = &self.training;
        if !(0.0..1.0).contains(&training.label_smoothing) {
            return Some(format!("training.label_smoothing = {}: must be in [0, 1)", training.label_smoothing));
        }
        if let Some(weight) = training.loss_weight.filter(|weight| !(weight.is_finite() && *weight > 0.0)) {
            return Some(format!("training.loss_weight = {weight}: must be a finite number larger than 0"));
        }
        if !(0.0..1.0).contains(&training.warm_up) {
            return Some(format!(
                "training.warm_up = {}: must be in [0, 1), a share of the training",
                training.warm_up
            ));
        }
        if let Some(norm) = training.clip_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            return Some(format!("training.clip_norm = {norm}: must be a finite number larger than 0"));
        }
        if self.validation.patience > 0 && !self.validation.keep_best {
            let patience = self.validation.patience;
            return Some(format!("validation.patience = {patience}: needs validation.keep_best = true"));
        }
        let remembers = training.loss.init(self.model.exits()).is_ok_and(|loss| loss.remember().is_some());
        (training.cutmix.is_some() && remembers).then(|| {
            "training.cutmix: a mixed image has no predictions of its own to remember; leave it out with this \
             training.loss"
                .to_string()
        })
    }
}

/// Reads a model's TOML: the keys of a `[model]` section, or a configuration that has one.
///
/// # Errors
/// [`Error::Config`] names the source, the key and the cure.
pub fn parse_model(source: &str, text: &str) -> Result<ModelConfig, Error> {
    let mut table = parse_toml(source, text)?;
    if let Some(toml::Value::Table(section)) = table.remove("model") {
        table = section;
    }
    let model: ModelConfig = serde_path_to_error::deserialize(toml::Value::Table(table))
        .map_err(|error| Error::Config(suggest::explain(source, &error, &known_keys)))?;
    match model.problem() {
        Some(why) => Err(Error::Config(format!("{source}: {why}"))),
        None => Ok(model),
    }
}

fn read(name_or_file: &str) -> Result<(String, Table), Error> {
    read_below(name_or_file, &mut Vec::new())
}

/// As [`read`]; `above` are the configurations that extend this one.
fn read_below(name_or_file: &str, above: &mut Vec<String>) -> Result<(String, Table), Error> {
    let (source, mut table) = read_alone(name_or_file)?;
    let Some(base) = table.remove(extends::KEY) else { return Ok((source, table)) };
    let base = base.as_str().ok_or_else(|| {
        let why = "is not a name or a file in quotes, for example extends = \"mnist\"";
        Error::Config(format!("{source}: extends = {base} {why}"))
    })?;
    above.push(name_or_file.to_string());
    // A file is looked for beside the one that names it.
    let beside = Path::new(name_or_file).with_file_name(base);
    let base = match preset(base).is_some() || !beside.exists() {
        true => base.to_string(),
        false => beside.display().to_string(),
    };
    if above.contains(&base) {
        return Err(Error::Config(format!("{source}: extends = {base:?} leads back to itself; extend a preset")));
    }
    let (_, mut whole) =
        read_below(&base, above).map_err(|error| Error::Config(format!("{source}: extends: {error}")))?;
    extends::put_over(&mut whole, table);
    Ok((source, whole))
}

/// The table of a preset or a file, as it is.
fn read_alone(name_or_file: &str) -> Result<(String, Table), Error> {
    if let Some(preset) = preset(name_or_file) {
        return Ok((format!("preset {}", preset.name), parse_toml(preset.name, preset.text)?));
    }
    let path = Path::new(name_or_file);
    if !path.exists() {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let hint =
            suggest::nearest(name_or_file, &names).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        return Err(Error::Config(format!(
            "configuration {name_or_file:?} is neither a file nor a preset{hint}; presets: {}",
            names.join(", ")
        )));
    }
    let text = String::from_utf8(neokd_evaluate::files::read(path)?)
        .map_err(|_| Error::Config(format!("{name_or_file}: not UTF-8 text; a configuration is TOML")))?;
    Ok((name_or_file.to_string(), parse_toml(name_or_file, &text)?))
}

/// Every key that a preset has, as `--set` names it.
fn known_keys() -> Vec<String> {
    let mut keys = std::collections::BTreeSet::new();
    let tables = PRESETS.iter().filter_map(|preset| parse_toml(preset.name, preset.text).ok());
    tables.for_each(|table| add_keys("", &table, &mut keys));
    keys.into_iter().collect()
}

fn add_keys(above: &str, table: &Table, keys: &mut std::collections::BTreeSet<String>) {
    for (name, value) in table {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value.as_table() {
            Some(section) => add_keys(&key, section, keys),
            None => {
                keys.insert(key);
            }
        }
    }
}

fn parse_toml(source: &str, text: &str) -> Result<Table, Error> {
    text.parse::<Table>().map_err(|error| Error::Config(format!("{source}: {}", error.to_string().trim_end())))
}
