//! `neokd evaluate`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use neokd_attack::{
    AnyAttack, AttackConfig, Criterion, Diagnostics, Effort, FgsmConfig, Norm, PgdConfig, Target, fraction,
};
use neokd_datasets::{DataSplits, Images};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, MultiExit, Network};

use super::progress::evaluation_bar;
use super::{DataFlag, DeviceFlag, Output, norm, train};
use crate::checkpoint::{self, Contents, Progress};
use crate::evaluate::Evaluation;
use crate::examples::{self, Examples};
use crate::fit::Length;
use crate::report::{Context, Report, TrainingReport};
use crate::run_dir::RunDir;
use crate::seeds::{Purpose, key};
use crate::{Error, RunConfig, batches, files, policy_file};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A run directory, a checkpoint or a weights file
    #[arg(value_name = "RUN|WEIGHTS")]
    source: PathBuf,
    /// Configuration whose data and evaluation settings apply, for a file outside a run directory
    #[arg(long, value_name = "NAME|FILE", default_value = "mnist")]
    config: String,
    /// Which network of a run directory: last, average (where weights are averaged) or best (where it is
    /// kept) [default: the one that the run's own report is of]
    #[arg(long, value_name = "WHICH")]
    network: Option<Which>,
    /// pgd or fgsm
    #[arg(long)]
    attack: Option<String>,
    /// What is maximised: single:EXIT, average, max-average; repeatable [default: average, max-average]
    #[arg(long)]
    objective: Vec<Target>,
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
    #[arg(long, default_value_t = 0)]
    checks: usize,
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

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
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
    let targets =
        if args.objective.is_empty() { vec![Target::Average, Target::MaxAverage] } else { args.objective.clone() };
    let policies = policies(&args, model.exits())?;
    let mut report = score_targets(&setting, &model, &targets, &policies)?;
    if args.checks > 0 {
        check(&setting, &model, &targets, args.checks, &mut report)?;
    }
    let json = report.to_json()?;
    if let Some(path) = &args.out {
        files::write_atomically(path, json.as_bytes())?;
    }
    let examples = match args.source.is_dir() {
        true => save_examples(&setting, &model, &targets, &report, &args.source),
        false => Ok(()),
    };
    if args.json {
        out.line(&json)?;
        return examples;
    }
    if let Some(training) = training.filter(|training| !training.complete) {
        let done = training.progress.step;
        out.line(&format!("note: training is not finished, {done} of {} steps are done", training.planned_steps))?;
    }
    out.line(&crate::report::render(&report))?;
    examples
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
    let mut config = RunConfig::load(&args.config, &[])?;
    config.model = model;
    Ok((config, network, None))
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
    evaluation.images = args.images.unwrap_or(evaluation.images);
    evaluation.batch_size = args.batch_size.unwrap_or(evaluation.batch_size);
    config.threat.epsilon = args.epsilon.unwrap_or(config.threat.epsilon);
    config.threat.norm = args.norm.unwrap_or(config.threat.norm);
    config.seed = args.seed.unwrap_or(config.seed);
    evaluation.attack = attack(&evaluation.attack, args)?;
    config.check()
}

fn attack(configured: &AttackConfig, args: &Args) -> Result<AttackConfig, Error> {
    let objective = args.objective.first().copied().unwrap_or_default();
    let mut pgd = match configured {
        AttackConfig::Pgd(pgd) => pgd.clone(),
        AttackConfig::Fgsm(_) => PgdConfig { objective, steps: 10, step_size: 0.01, random_start: true, restarts: 1 },
        other if args.attack.is_none() => return Ok(other.clone().with_objective(objective)),
        _ => PgdConfig { objective, steps: 10, step_size: 0.01, random_start: true, restarts: 1 },
    };
    let wants_pgd = match args.attack.as_deref() {
        None => matches!(configured, AttackConfig::Pgd(_)),
        Some("pgd") => true,
        Some("fgsm") => false,
        Some(other) => return Err(Error::Config(format!("--attack {other}: unknown; pgd and fgsm are there"))),
    };
    if !wants_pgd {
        return Ok(AttackConfig::Fgsm(FgsmConfig { objective }));
    }
    pgd.objective = objective;
    pgd.steps = args.steps.unwrap_or(pgd.steps);
    pgd.step_size = args.step_size.unwrap_or(pgd.step_size);
    pgd.restarts = args.restarts.unwrap_or(pgd.restarts);
    pgd.random_start &= !args.no_random_start;
    Ok(AttackConfig::Pgd(pgd))
}

/// Scores a network under the average and the max-average attack of its configuration, and writes example images
/// into the run's directory.
pub(super) fn score(setting: &Setting<'_>, model: &Network, run: &RunDir) -> Result<Report, Error> {
    let targets = [Target::Average, Target::MaxAverage];
    let report = score_targets(setting, model, &targets, &[])?;
    save_examples(setting, model, &targets, &report, run.folder())?;
    Ok(report)
}

/// Writes the first images under the attack that left the lowest mean accuracy.
pub(super) fn save_examples(
    setting: &Setting<'_>,
    model: &Network,
    targets: &[Target],
    report: &Report,
    folder: &Path,
) -> Result<(), Error> {
    let means = report.attacks.iter().map(|attack| attack.accuracy.mean);
    let Some((target, _)) = targets.iter().zip(means).min_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(()) };
    let config = setting.config;
    let threat = config.threat.threat();
    let attack = config.evaluation.attack.clone().with_objective(*target).attack(&threat);
    let attack = (&attack, &threat, key(config.seed, Purpose::Evaluation, 0));
    let count = examples::COUNT.min(report.n as usize);
    let examples = Examples::make(&Frozen::new(model), &setting.data.test, count, attack, setting.device)?;
    examples.write(&folder.join(examples::FILE))
}

/// Adds to each attack whether its result is to be believed, from the first `images` test images.
fn check(
    setting: &Setting<'_>,
    model: &Network,
    targets: &[Target],
    images: usize,
    report: &mut Report,
) -> Result<(), Error> {
    let looked: Vec<usize> = (0..images.min(report.n as usize)).collect();
    let batch = batches::collect(&setting.data.test, &looked, setting.device)?.batch;
    let (threat, key) = (setting.config.threat.threat(), key(setting.config.seed, Purpose::Evaluation, 1));
    for (target, attack) in targets.iter().zip(&mut report.attacks) {
        let criterion = match target {
            Target::Single(exit) => Criterion::Exit(*exit),
            Target::Average => Criterion::AllExits,
            Target::MaxAverage | Target::Policy => Criterion::AnyExit,
        };
        let effort = Effort::for_attack_of(attack.steps);
        let signs = Diagnostics::measure(&Frozen::new(model), &batch, &criterion, &threat, effort, key)?;
        attack.verdict = Some(signs.verdict());
    }
    Ok(())
}

/// The policy asked for; for a file of budgets, all of them.
fn policies(args: &Args, exits: usize) -> Result<Vec<Policy>, Error> {
    match args.policy.as_deref() {
        None => Ok(Vec::new()),
        Some(text) => match text.strip_prefix("budget:") {
            Some(path) => policy_file::BudgetFile::read(Path::new(path))?.policies(exits),
            None => Ok(vec![policy_file::parse(text, args.ensemble, exits)?]),
        },
    }
}

/// Scores a network under the attack of its configuration with each of the given objectives.
pub(super) fn score_targets(
    setting: &Setting<'_>,
    model: &Network,
    targets: &[Target],
    policies: &[Policy],
) -> Result<Report, Error> {
    let config = setting.config;
    let threat = config.threat.threat();
    let exits = model.exits();
    let attacks = targets.iter().map(|target| {
        let named = config.evaluation.attack.clone().with_objective(*target);
        match named.problem(exits) {
            Some(why) => Err(Error::Config(format!("--objective: {why}"))),
            None => Ok(named.attack(&threat)),
        }
    });
    let attacks: Vec<AnyAttack> = attacks.collect::<Result<_, _>>()?;
    let all = setting.data.test.len();
    let images = if config.evaluation.images == 0 { all } else { config.evaluation.images.min(all) };
    let bar = evaluation_bar(images * attacks.len());
    let started = Instant::now();
    let scores = Evaluation {
        model: &Frozen::new(model),
        set: &setting.data.test,
        images,
        batch_size: config.evaluation.batch_size,
        attacks: &attacks,
        threat: &threat,
        key: key(config.seed, Purpose::Evaluation, 0),
        policies,
        device: setting.device,
    }
    .run(&mut |images| bar.inc(images as u64));
    bar.finish_and_clear();
    let costs = model.costs();
    let context =
        Context { config, data: setting.data, device: setting.device_name, costs: &costs, training: setting.training };
    Ok(Report::new(context, &threat, &attacks, policies, scores?, started.elapsed().as_secs_f64()))
}
