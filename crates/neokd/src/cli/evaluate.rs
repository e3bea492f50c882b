//! `neokd evaluate`.

mod full;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use neokd_attack::{
    Attack, Cw, Diagnostics, Effort, Fgsm, Mean, Norm, Objective, Pgd, Scenario, Search, Slowdown, SlowdownGoal,
    fraction, share_broken,
};
use neokd_datasets::{DataSplits, Images};
use neokd_evaluate::adversarial_file::{self, About, Kept};
use neokd_evaluate::dynamic::ExitAnswers;
use neokd_evaluate::evaluate::Evaluation;
use neokd_evaluate::examples::{self, Examples};
use neokd_evaluate::images::Source;
use neokd_evaluate::seeds::{Purpose, key};
use neokd_evaluate::{Error, batches, files, policy_file};
use neokd_model::{Frozen, MultiExit, Network};
use neokd_report::report::{Context, Deployment, Report, TrainingReport};
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::{self, Contents, Progress};
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::Length;

use super::progress::{evaluation_bar, image_bar};
use super::{DataFlag, DeviceFlag, Output, norm, train};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A run directory, a checkpoint or a weights file
    #[arg(value_name = "RUN|WEIGHTS")]
    source: PathBuf,
    /// Configuration whose data, threat and evaluation apply to a file [default: that of the run directory that the file
    /// is in]. How the file's weights were trained is not read from it
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    /// Which network of a run directory: last, average (where weights are averaged) or best (where it is
    /// kept) [default: the one that the run's own report is of]
    #[arg(long, value_name = "WHICH")]
    network: Option<Which>,
    /// pgd or fgsm
    #[arg(long)]
    attack: Option<String>,
    /// What is maximised: single:EXIT, average, max-average, policy; repeatable [default: average, max-average]
    #[arg(long)]
    objective: Vec<Objective>,
    /// Radius in pixel units, for example 0.3 or 8/255
    #[arg(long, value_parser = fraction::parse)]
    epsilon: Option<f64>,
    /// linf or l2
    #[arg(long, value_parser = norm)]
    norm: Option<Norm>,
    /// Gradient steps
    #[arg(long)]
    steps: Option<usize>,
    /// Length of a step in pixel units
    #[arg(long, value_parser = fraction::parse)]
    step_size: Option<f64>,
    /// Independent runs from random starts
    #[arg(long)]
    restarts: Option<usize>,
    /// Start from the clean image
    #[arg(long)]
    no_random_start: bool,
    /// Also attack each exit alone (transfer matrix), the deployed policy, and its cost (slow-down), and score budgets with
    /// and without ensembling exits: thresholds from validation images, unless --policy says which
    #[arg(long)]
    broad: bool,
    /// Everything of --broad, and AutoAttack on the same objectives, on all test images unless --images says fewer; takes
    /// hours, goes on from its journal. With --out RUN/report.json, neokd report shows it
    #[arg(long)]
    full: bool,
    /// Keep AutoAttack's finished batches in this file, and go on from those that it holds [default: autoattack.jsonl in
    /// the run directory, none for a file]
    #[arg(long, value_name = "FILE", requires = "full")]
    journal: Option<PathBuf>,
    /// Write the adversarial images of each attack but AutoAttack, their labels and what every exit makes of them to this
    /// safetensors file
    #[arg(long, value_name = "FILE")]
    save_adversarial: Option<PathBuf>,
    /// Number of test images from the start of the test set; 0 means all
    #[arg(long)]
    images: Option<usize>,
    /// Images per pass; does not change the result
    #[arg(long)]
    batch_size: Option<usize>,
    /// Score this exit policy as well: confidence:T, entropy:T, patience:N, fixed:EXIT, budget:FILE
    #[arg(long)]
    policy: Option<String>,
    /// Let the policy answer with the mean of the probabilities of all exits so far
    #[arg(long, requires = "policy")]
    ensemble: bool,
    /// Test images, from the start, on which each attack's verdict is measured (see docs/attacks.md); 0 for none
    /// [default: 0, and 50 for AutoAttack]
    #[arg(long)]
    checks: Option<usize>,
    /// Seed of the random starts
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report here as JSON as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlag,
    #[command(flatten)]
    data: DataFlag,
}

/// What is scored, on what, where.
pub(super) struct Setting<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) data: &'a DataSplits<Box<dyn Images>>,
    pub(super) device: &'a Device,
    pub(super) device_name: &'a str,
    pub(super) training: Option<&'a TrainingReport>,
}

/// What a network is put to under the attack of its configuration.
#[derive(Default)]
pub(super) struct Program {
    targets: Vec<Objective>,
    slowdown: bool,
    deployment: Deployment,
    save: Option<PathBuf>,
}

impl Program {
    /// The attack on each of some objectives.
    pub(super) fn of(targets: &[Objective]) -> Self {
        Self { targets: targets.to_vec(), ..Self::default() }
    }

    /// The attacks: one per objective, and then the slow-down.
    fn attacks(&self, config: &RunConfig) -> Result<Vec<Attack>, Error> {
        let exits = config.model.exits();
        let policy = self.deployment.policy();
        let on = |target: &Objective| {
            let named = config.evaluation.attack.clone().with_objective(*target);
            match (named.problem(exits), target, policy) {
                (Some(why), ..) => Err(Error::Config(format!("--objective: {why}"))),
                (None, Objective::Policy, None) => Err(Error::Config(
                    "--objective policy: say which by --policy, for example confidence:0.9, or give --broad"
                        .to_string(),
                )),
                (None, Objective::Policy, Some(policy)) => Ok(named.with_policy(policy.clone())),
                (None, ..) => Ok(named),
            }
        };
        let mut attacks = self.targets.iter().map(on).collect::<Result<Vec<_>, _>>()?;
        attacks.extend(self.slowdown.then(|| slowdown(config)));
        Ok(attacks)
    }
}

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    args.save_adversarial.as_deref().map_or(Ok(()), |path| files::refuse_existing("--save-adversarial", path))?;
    let (device, device_name) = crate::device::open(args.device.device)?;
    let (mut config, model, progress) = open(&args, &device)?;
    adjust(&mut config, &args)?;
    let data = train::load(&config, &args.data)?;
    let training = progress.map(|progress| {
        let planned_steps = Length::of(&config, data.train.len()).steps();
        let patience = config.validation.patience;
        let gave_up = patience > 0 && progress.best.is_some_and(|best| best.looks_since >= patience);
        TrainingReport { complete: gave_up || progress.step >= planned_steps, planned_steps, progress }
    });
    let setting = Setting {
        config: &config,
        data: &data,
        device: &device,
        device_name: &device_name,
        training: training.as_ref(),
    };
    let program = program(&args, &setting, &model)?;
    // First, because it has a journal: a wrong one is refused at once, and going on repeats nothing that takes long.
    let full = if args.full {
        let journal = journal(&args);
        let full = full::Full {
            config: &config,
            model: &model,
            targets: &objectives(&args),
            policy: program.deployment.policy(),
            checks: args.checks.unwrap_or(50),
            journal: journal.as_deref(),
            device: (&device, &device_name),
        };
        Some(full.run(&Source::Set(Box::new(&data.test)), (!args.json).then_some(&mut *out))?)
    } else {
        None
    };
    let mut report = score_targets(&setting, &model, &program)?;
    if let Some(images) = args.checks.filter(|images| *images > 0) {
        check(&setting, &model, &program, images, &mut report)?;
    }
    // The page shows them beside the tables of the run's own report: of another evaluation they stay as they are.
    let examples = match is_of_run(&args) {
        true => save_examples(&setting, &model, &program, &report, &args.source),
        false => Ok(()),
    };
    if let Some((runs, found)) = full {
        report.join(&runs, found);
    }
    if let Some(path) = &args.out {
        files::write_atomically(path, report.to_json()?.as_bytes())?;
    }
    if args.json {
        out.line(&report.to_json()?)?;
        return examples;
    }
    if let Some(warning) = config.threat.warning() {
        out.line(&format!("note: {warning}"))?;
    }
    if let Some(training) = training.filter(|training| !training.complete) {
        let done = training.progress.step;
        out.line(&format!("note: training is not finished, {done} of {} steps are done", training.planned_steps))?;
    }
    out.line(&neokd_report::render(&report))?;
    examples
}

/// Whether what is written becomes the report of the run directory.
fn is_of_run(args: &Args) -> bool {
    let Some(out) = args.out.as_deref().filter(|_| args.source.is_dir()) else {
        return false;
    };
    let own = RunDir::at(&args.source).report_path();
    let folder = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        parent.canonicalize().ok()
    };
    out.file_name() == own.file_name() && folder(out).is_some() && folder(out) == folder(&own)
}

/// The objectives asked for.
fn objectives(args: &Args) -> Vec<Objective> {
    match args.objective.is_empty() {
        true => vec![Objective::Average, Objective::MaxAverage],
        false => args.objective.clone(),
    }
}

/// Where AutoAttack's finished batches are kept.
fn journal(args: &Args) -> Option<PathBuf> {
    let of_run = || args.source.is_dir().then(|| RunDir::at(&args.source).journal_path());
    args.journal.clone().or_else(of_run)
}

/// What the flags ask for.
fn program(args: &Args, setting: &Setting<'_>, model: &Network) -> Result<Program, Error> {
    let broad = args.broad || args.full;
    let mut targets = objectives(args);
    if broad {
        let more = (0..model.exits()).map(Objective::Single).chain([Objective::Policy]);
        targets.extend(more.filter(|target| !args.objective.contains(target)));
    }
    let (deployment, save) = (deployment(args, broad, setting, model)?, args.save_adversarial.clone());
    Ok(Program { targets, slowdown: broad, deployment, save })
}

/// The exit policies asked for: one; all budgets of a file; or budgets with thresholds from validation images, with and
/// without ensembling exits, deployed at the uniform allocation without.
fn deployment(args: &Args, broad: bool, setting: &Setting<'_>, model: &Network) -> Result<Deployment, Error> {
    let exits = model.exits();
    match args.policy.as_deref().map(|text| (text, text.strip_prefix("budget:"))) {
        None if broad => calibrated(setting, model),
        None => Ok(Deployment::default()),
        Some((_, Some(path))) => {
            let file = policy_file::BudgetFile::read(Path::new(path))?;
            Ok(Deployment { policies: file.policies(exits)?, deployed: Some(file.chosen) })
        }
        Some((text, None)) => {
            Ok(Deployment { policies: vec![policy_file::parse(text, args.ensemble, exits)?], deployed: Some(0) })
        }
    }
}

fn calibrated(setting: &Setting<'_>, model: &Network) -> Result<Deployment, Error> {
    let (set, size) = (&setting.data.validation, setting.config.evaluation.batch_size);
    let bar = image_bar(2 * set.len());
    let budgets = [false, true].map(|ensemble| {
        let done = &mut |images| bar.inc(images as u64);
        let answers = ExitAnswers::of(&Frozen::new(model), set, size, ensemble, setting.device, done)?;
        answers.calibrate(&setting.config.data.name, &model.costs(), None)
    });
    bar.finish_and_clear();
    let [alone, together] = budgets;
    let (alone, exits) = (alone?, model.exits());
    let policies = alone.policies(exits)?.into_iter().chain(together?.policies(exits)?).collect();
    Ok(Deployment { policies, deployed: Some(alone.chosen) })
}

/// The slow-down that tries as hard as the attack of the configuration.
fn slowdown(config: &RunConfig) -> Attack {
    let like = match config.evaluation.attack.search {
        Search::Pgd(pgd) | Search::Cw(Cw(pgd)) => pgd,
        _ => PLAIN,
    };
    Attack::new(Objective::Average, Slowdown::like(like, SlowdownGoal::Slow))
}

type Opened = (RunConfig, Network, Option<Progress>);

fn open(args: &Args, device: &Device) -> Result<Opened, Error> {
    if !args.source.exists() {
        return Err(Error::Config(format!(
            "{}: no such file or directory; give a run directory, a checkpoint or a weights file",
            args.source.display()
        )));
    }
    if args.source.is_dir() {
        let (run, config) = RunDir::open(&args.source)?;
        let path = run.checkpoint_path();
        if !path.exists() {
            return Err(Error::RunDir {
                folder: args.source.clone(),
                why: "holds no checkpoint yet; wait for the first, or train it with --resume".to_string(),
            });
        }
        let contents = Contents::read(&path)?;
        contents.check_network(&config)?;
        let progress = contents.progress()?.clone();
        let network = chosen(args.network, contents, &run, &config, device)?;
        return Ok((config, network, Some(progress)));
    }
    let (model, network) = checkpoint::load_network(&args.source, device)?;
    let mut config = match &args.config {
        Some(name) => RunConfig::load(name, &[])?,
        None => config_around(&args.source)?,
    };
    config.model = model;
    Ok((config, network, None))
}

/// The configuration of the run directory that a file is in, or in a folder of.
fn config_around(file: &Path) -> Result<RunConfig, Error> {
    let folders = file.ancestors().skip(1).take(2);
    let folder = folders.map(RunDir::at).find(|run| run.config_path().exists());
    match folder {
        Some(run) => Ok(RunDir::open(run.folder())?.1),
        None => Err(Error::Config(format!(
            "{}: weights alone do not say which images and which attack they are for; give --config NAME|FILE, neokd \
             config list shows the names",
            file.display()
        ))),
    }
}

/// A network of a run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Last,
    Average,
    Best,
}

fn chosen(
    which: Option<Which>,
    checkpoint: Contents,
    run: &RunDir,
    config: &RunConfig,
    device: &Device,
) -> Result<Network, Error> {
    let lacking = |key: &str, what: &str| Error::RunDir {
        folder: run.folder().to_path_buf(),
        why: format!("--network {what}: this run keeps none; it was trained without {key}"),
    };
    let kept = config.validation.keep_best && run.best_path().exists();
    let contents = match which {
        Some(Which::Best) if !kept => return Err(lacking("validation.keep_best = true", "best")),
        Some(Which::Average) if config.training.ema.is_none() => return Err(lacking("training.ema", "average")),
        Some(Which::Last) => return Ok(checkpoint.last_network(device)?.1),
        None | Some(Which::Best) if kept => {
            let best = Contents::read(&run.best_path())?;
            best.check_network(config)?;
            best
        }
        None | Some(Which::Average | Which::Best) => checkpoint,
    };
    Ok(contents.network(device)?.1)
}

/// Applies the flags to the configuration's evaluation and threat.
fn adjust(config: &mut RunConfig, args: &Args) -> Result<(), Error> {
    let evaluation = &mut config.evaluation;
    evaluation.images = args.images.unwrap_or(if args.full { 0 } else { evaluation.images });
    evaluation.batch_size = args.batch_size.unwrap_or(evaluation.batch_size);
    config.threat.epsilon = args.epsilon.unwrap_or(config.threat.epsilon);
    config.threat.norm = args.norm.unwrap_or(config.threat.norm);
    config.seed = args.seed.unwrap_or(config.seed);
    evaluation.attack = attack(&evaluation.attack, args)?;
    config.check()
}

/// PGD where a configuration has another attack.
const PLAIN: Pgd = Pgd { steps: 10, step_size: 0.01, random_start: true, restarts: 1 };

fn attack(configured: &Attack, args: &Args) -> Result<Attack, Error> {
    // The deployed policy is no part of a configuration; the attack on it is made where the policy is known.
    let objective = args.objective.iter().copied().find(|target| *target != Objective::Policy).unwrap_or_default();
    let mut pgd = match configured.search {
        Search::Pgd(pgd) => pgd,
        Search::Fgsm(_) => PLAIN,
        _ if args.attack.is_none() => return Ok(configured.clone().with_objective(objective)),
        _ => PLAIN,
    };
    let wants_pgd = match args.attack.as_deref() {
        None => matches!(configured.search, Search::Pgd(_)),
        Some("pgd") => true,
        Some("fgsm") => false,
        Some(other) => return Err(Error::Config(format!("--attack {other}: unknown; pgd and fgsm are there"))),
    };
    if !wants_pgd {
        return Ok(Attack::new(objective, Fgsm {}));
    }
    pgd.steps = args.steps.unwrap_or(pgd.steps);
    pgd.step_size = args.step_size.unwrap_or(pgd.step_size);
    pgd.restarts = args.restarts.unwrap_or(pgd.restarts);
    pgd.random_start &= !args.no_random_start;
    Ok(Attack::new(objective, pgd))
}

/// Scores a network under the average and the max-average attack of its configuration, and writes example images
/// into the run's directory.
pub(super) fn score(setting: &Setting<'_>, model: &Network, run: &RunDir) -> Result<Report, Error> {
    let program = Program::of(&[Objective::Average, Objective::MaxAverage]);
    let report = score_targets(setting, model, &program)?;
    save_examples(setting, model, &program, &report, run.folder())?;
    Ok(report)
}

/// Writes the first images under the attack that left the lowest mean accuracy.
pub(super) fn save_examples(
    setting: &Setting<'_>,
    model: &Network,
    program: &Program,
    report: &Report,
    folder: &Path,
) -> Result<(), Error> {
    let attacks = program.attacks(setting.config)?;
    let means = report.attacks.iter().map(|attack| attack.accuracy.mean);
    let Some((attack, _)) = attacks.iter().zip(means).min_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(()) };
    let threat = setting.config.threat;
    let attack = (attack, &threat, key(setting.config.seed, Purpose::Evaluation, 0));
    let count = examples::COUNT.min(report.n as usize);
    let examples = Examples::make(&Frozen::new(model), &setting.data.test, count, attack, setting.device)?;
    examples.write(&folder.join(examples::FILE))
}

/// Adds to each attack on an objective whether its result is to be believed, from the first `images` test images.
fn check(
    setting: &Setting<'_>,
    model: &Network,
    program: &Program,
    images: usize,
    report: &mut Report,
) -> Result<(), Error> {
    let looked: Vec<usize> = (0..images.min(report.n as usize)).collect();
    let batch = batches::collect(&setting.data.test, &looked, setting.device)?.batch;
    let (threat, seed) = (setting.config.threat, setting.config.seed);
    let (frozen, search) = (Frozen::new(model), setting.config.evaluation.attack.search);
    let scenario = |number| Scenario::new(&frozen, &batch, &threat, key(seed, Purpose::Evaluation, number));
    for (target, attack) in program.targets.iter().zip(&mut report.attacks) {
        let criterion = target.criterion(Mean::Losses, program.deployment.policy())?;
        let signs = Diagnostics::measure(&scenario(1), &criterion, Effort::for_attack_of(attack.steps))?;
        let broken = share_broken(&scenario(0), &criterion, search)?;
        attack.verdict = Some(signs.compared(broken).verdict());
    }
    Ok(())
}

/// Scores a network under the attacks of a program, and keeps their images where that is asked for.
pub(super) fn score_targets(setting: &Setting<'_>, model: &Network, program: &Program) -> Result<Report, Error> {
    let config = setting.config;
    let threat = config.threat;
    let attacks = program.attacks(config)?;
    let all = setting.data.test.len();
    let images = if config.evaluation.images == 0 { all } else { config.evaluation.images.min(all) };
    let bar = evaluation_bar(images * attacks.len());
    let mut kept = vec![Kept::default(); attacks.len()];
    let mut labels = Vec::new();
    let started = Instant::now();
    let scores = Evaluation {
        model: &Frozen::new(model),
        set: &setting.data.test,
        images,
        batch_size: config.evaluation.batch_size,
        attacks: &attacks,
        threat: &threat,
        key: key(config.seed, Purpose::Evaluation, 0),
        policies: &program.deployment.policies,
        device: setting.device,
    }
    .run_seen(&mut |images| bar.inc(images as u64), &mut |attack, data, outcome| {
        if program.save.is_none() {
            return Ok(());
        }
        if attack == 0 {
            labels.extend(&data.labels);
        }
        kept[attack].add(outcome, &data.batch.labels)
    });
    bar.finish_and_clear();
    let scores = scores?;
    if let Some(path) = &program.save {
        let about = |(attack, scores): (&Attack, &neokd_evaluate::evaluate::AttackScores)| About {
            attack: attack.search.method().name().to_string(),
            objective: attack.aimed_at(),
            norm: threat.norm,
            epsilon: threat.epsilon,
            settings: attack.search.method().budget(&threat).to_string(),
            passes: scores.passes,
            distances: Vec::new(),
        };
        let about = attacks.iter().zip(&scores.attacks).map(about);
        adversarial_file::write(path, about.zip(kept).collect(), &labels, config.model.input_shape())?;
    }
    let costs = model.costs();
    let context =
        Context { config, data: setting.data, device: setting.device_name, costs: &costs, training: setting.training };
    Ok(Report::new(context, &threat, &attacks, &program.deployment, scores, started.elapsed().as_secs_f64()))
}
