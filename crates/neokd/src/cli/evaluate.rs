//! `neokd evaluate`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_attack::{Attack, Cw, Fgsm, Knobs, Norm, Objective, Pgd, Search, Slowdown, SlowdownGoal, fraction};
use neokd_datasets::Images;
use neokd_evaluate::adversarial_file::{self, About};
use neokd_evaluate::attack_run::{AttackName, AttackRun, plan};
use neokd_evaluate::dynamic::ExitAnswers;
use neokd_evaluate::images::Source;
use neokd_evaluate::shard::Shard;
use neokd_evaluate::{Error, files, policy_file};
use neokd_model::{Frozen, MultiExit, Network, weights};
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::Contents;
use neokd_train::run::origin::Origin;
use neokd_train::run::progress::Progress;
use neokd_train::run::run_dir::RunDir;

use super::attack::{self, Sources, go_on, part};
use super::progress::{image_bar, watched};
use super::{DataFlag, DeviceFlag, Output, norm};
use crate::device::Devices;
use crate::session::{self, Deployment, OnFile, Session, Subject, Trial};

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
    #[arg(
        long, num_args = 1.., value_name = "NAME",
        help = format!("{}; several [default: that of the configuration]", AttackName::all())
    )]
    attack: Vec<AttackName>,
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
    /// Keep finished batches in this file, and go on from those that it holds [default: with --full autoattack.jsonl in the
    /// run directory, none for a file]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Run part I of N of the batches and stop, for job arrays and machines that share nothing but a disk; give every part its
    /// own --journal, then neokd merge. What --out and --json ask for is for the last command, without --shard
    #[arg(long, value_name = "I/N", requires = "journal")]
    shard: Option<Shard>,
    /// Write the adversarial images of each attack, their labels and what every exit makes of them to this safetensors file
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

pub(super) fn run(args: Args, out: &mut Output) -> Result<(), Error> {
    args.save_adversarial.as_deref().map_or(Ok(()), |path| files::refuse_existing("--save-adversarial", path))?;
    let devices = Devices::open(&[args.device.device])?;
    let (mut config, network, source) = open(&args, &devices.first)?;
    adjust(&mut config, &args)?;
    let data = session::load(&config, &|| args.data.folder())?;
    let session = Session { config: &config, data: &data, devices: &devices };
    let training = match &source {
        Opened::Run(progress) => Some(session.so_far(progress)),
        Opened::File(_) => None,
    };
    let subject = match source {
        Opened::Run(_) => Subject::Run(training.as_ref()),
        Opened::File(on_file) => Subject::File(on_file),
    };
    let (trial, digests) = trial(&args, &session, &network)?;
    let journal = journal(&args);
    let digest = || -> Result<String, Error> {
        let encoded = weights::encode_network(&config.model, &network);
        Ok(neokd_datasets::sha256_hex(&encoded.map_err(|error| Error::Config(error.to_string()))?))
    };
    if let (Some(shard), Some(path)) = (args.shard, &journal) {
        let (model, images) = (Frozen::new(&network), Source::from(&data.test as &dyn Images));
        let evaluation = trial.evaluation(&config, &model, &images, &devices.first);
        return part(&evaluation, shard, (&devices.names, &digest()?, &digests), path, (!args.json).then_some(out));
    }
    let (report, scored) = session.evaluate(&network, &trial, subject, &mut |evaluation| {
        let Some(path) = &journal else { return watched(evaluation) };
        go_on(evaluation, (&devices.names, &digest()?, &digests), path, (!args.json).then_some(&mut *out))
    })?;
    if let Some(path) = &args.save_adversarial {
        let kept = trial.runs.iter().zip(scored.runs).map(|(run, found)| (About::of(run, &found), found.into()));
        adversarial_file::write(path, kept.collect(), &scored.labels, config.model.input_shape())?;
    }
    // The page shows them beside the tables of the run's own report: of another evaluation they stay as they are.
    let examples = match is_of_run(&args) {
        true => session.save_examples(&network, &trial, &report, &args.source),
        false => Ok(()),
    };
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

/// Where finished batches are kept.
fn journal(args: &Args) -> Option<PathBuf> {
    let of_run = || (args.full && args.source.is_dir()).then(|| RunDir::at(&args.source).journal_path());
    args.journal.clone().or_else(of_run)
}

/// What the flags ask for, and the digests of the networks that transfers are from.
fn trial(args: &Args, session: &Session<'_>, network: &Network) -> Result<(Trial, Vec<Option<String>>), Error> {
    let (config, broad) = (session.config, args.broad || args.full);
    let asked = objectives(args);
    let mut wider = asked.clone();
    if broad {
        let more = (0..network.exits()).map(Objective::Single).chain([Objective::Policy]);
        wider.extend(more.filter(|objective| !args.objective.contains(objective)));
    }
    let deployment = deployment(args, broad, session, network)?;
    if wider.contains(&Objective::Policy) && deployment.deployed.is_none() {
        return Err(Error::Config(
            "--objective policy: say which by --policy, for example confidence:0.9, or give --broad".to_string(),
        ));
    }
    let problem =
        |objective: &Objective| config.evaluation.attack.clone().with_objective(*objective).problem(network.exits());
    if let Some(why) = wider.iter().find_map(problem) {
        return Err(Error::Config(format!("--objective: {why}")));
    }
    let mut runs = Vec::new();
    // By `adjust`, PGD and FGSM with the flags' settings are in the configuration by now.
    let configured = config.evaluation.attack.search.kind();
    if args.attack.is_empty() {
        runs = Trial::of(config, &wider).runs;
    }
    let planned = |names: &[AttackName], objectives: &[Objective], knobs: &Knobs| {
        plan(names, objectives, &[config.threat], knobs, network.classes())
    };
    for name in &args.attack {
        match name {
            AttackName::Search(name) if *name == configured => runs.extend(Trial::of(config, &wider).runs),
            name => runs.extend(planned(std::slice::from_ref(name), &wider, &knobs(args))?),
        }
    }
    if broad {
        runs.push(AttackRun::of(&slowdown(config), &config.threat));
    }
    if args.full && !args.attack.contains(&AttackName::AutoAttack) {
        runs.extend(planned(&[AttackName::AutoAttack], &asked, &Knobs::default())?);
    }
    let Sources { networks: sources, digests } = Sources::open(&runs, network, &session.devices.first)?;
    let checks = args.checks.unwrap_or(if runs.iter().any(|run| run.name == AttackName::AutoAttack) { 50 } else { 0 });
    let keep_pixels = args.save_adversarial.is_some();
    Ok((Trial { runs, deployment, sources, checks, keep_pixels }, digests))
}

/// What the flags say of other attacks than the configuration's.
fn knobs(args: &Args) -> Knobs {
    let usual = Knobs::default();
    Knobs {
        steps: args.steps,
        step_size: args.step_size,
        restarts: args.restarts.unwrap_or(usual.restarts),
        random_start: usual.random_start && !args.no_random_start,
        ..usual
    }
}

/// The exit policies asked for: one; all budgets of a file; or budgets with thresholds from validation images, with and
/// without ensembling exits, deployed at the uniform allocation without.
fn deployment(args: &Args, broad: bool, session: &Session<'_>, model: &Network) -> Result<Deployment, Error> {
    let exits = model.exits();
    match args.policy.as_deref().map(|text| (text, text.strip_prefix("budget:"))) {
        None if broad => calibrated(session, model),
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

fn calibrated(session: &Session<'_>, model: &Network) -> Result<Deployment, Error> {
    let (set, size) = (&session.data.validation, session.config.evaluation.batch_size);
    let bar = image_bar(2 * set.len());
    let budgets = [false, true].map(|ensemble| {
        let done = &mut |images| bar.inc(images as u64);
        let answers = ExitAnswers::of(&Frozen::new(model), set, size, ensemble, &session.devices.first, done)?;
        answers.calibrate(&session.config.data.name, &model.costs(), None)
    });
    drop(bar);
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

/// What is evaluated.
enum Opened {
    Run(Progress),
    File(OnFile),
}

fn open(args: &Args, device: &Device) -> Result<(RunConfig, Network, Opened), Error> {
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
        return Ok((config, network, Opened::Run(progress)));
    }
    let (model, network, on_file) = attack::open(&args.source, device)?;
    let mut config = match &args.config {
        Some(name) => RunConfig::load(name, &[])?,
        None => config_around(&args.source, on_file.origin.as_ref())?,
    };
    config.model = model;
    Ok((config, network, Opened::File(on_file)))
}

/// The configuration of the run directory that a file is in, or in a folder of.
fn config_around(file: &Path, origin: Option<&Origin>) -> Result<RunConfig, Error> {
    let folders = file.ancestors().skip(1).take(2);
    let folder = folders.map(RunDir::at).find(|run| run.config_path().exists());
    match folder {
        Some(run) => Ok(RunDir::open(run.folder())?.1),
        None => Err(Error::Config(format!(
            "{}: weights alone do not say which images and which attack they are for; give --config NAME|FILE, neokd \
             config list shows the names{}",
            file.display(),
            origin.map(|origin| format!(" (they were {origin})")).unwrap_or_default()
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

/// The attack that takes the configuration's place: PGD with the flags' settings if the configuration or `--attack` says
/// PGD; FGSM if they say that; else the configuration's own. What else `--attack` names is planned in [`trial`].
fn attack(configured: &Attack, args: &Args) -> Result<Attack, Error> {
    // The deployed policy is no part of a configuration; the attack on it is made where the policy is known.
    let objective = args.objective.iter().copied().find(|target| *target != Objective::Policy).unwrap_or_default();
    let (unasked, kind) = (args.attack.is_empty(), configured.search.kind());
    let wants = |name| args.attack.contains(&AttackName::Search(name)) || (unasked && kind == name);
    if wants("pgd") {
        let Pgd { steps, step_size, random_start, restarts } = match configured.search {
            Search::Pgd(pgd) => pgd,
            _ => PLAIN,
        };
        let pgd = Pgd {
            steps: args.steps.unwrap_or(steps),
            step_size: args.step_size.unwrap_or(step_size),
            restarts: args.restarts.unwrap_or(restarts),
            random_start: random_start && !args.no_random_start,
        };
        return Ok(Attack::new(objective, pgd));
    }
    let has_settings = args.steps.is_some() || args.step_size.is_some() || args.restarts.is_some();
    if unasked && (has_settings || args.no_random_start) {
        return Err(Error::Config(format!(
            "--steps, --step-size, --restarts, --no-random-start: the configuration's attack is {kind}, which they do not \
             change; say --attack NAME as well"
        )));
    }
    if wants("fgsm") {
        return Ok(Attack::new(objective, Fgsm {}));
    }
    Ok(configured.clone().with_objective(objective))
}
