//! `neokd attack`: named attacks on the images of a data set or file, with a verdict.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_attack::{Knobs, Norm, Objective, SlowdownGoal, Threat, fraction};
use neokd_evaluate::adversarial_file::{self, About as AboutRun};
use neokd_evaluate::attack_run::{AttackName, AttackRun, plan};
use neokd_evaluate::images::Source;
use neokd_evaluate::journal::{Header, Journal};
use neokd_evaluate::shard::Shard;
use neokd_evaluate::stop::Stop;
use neokd_evaluate::{Error, Evaluation, Scored, files, policy_file};
use neokd_model::policy::{Policy, Rule};
use neokd_model::{Frozen, ModelConfig, MultiExit, Network};
use neokd_report::report::{About, DataReport, Report, config_of_weights};
use neokd_train::run::checkpoint::Contents;

use super::progress::{watched, watched_from, watched_part};
use super::{DataFlag, DeviceFlag, Output, norm};
use crate::device;
use crate::session::OnFile;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A weights file or checkpoint
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A data set or a folder of images per class, whose test images are taken, or a safetensors or NumPy (.npz, .npy)
    /// file with images and labels
    #[arg(long = "data", value_name = "NAME|FOLDER|FILE")]
    source: String,
    #[arg(
        long, required = true, num_args = 1.., value_name = "NAME", help = format!("{}; several", AttackName::all())
    )]
    attack: Vec<AttackName>,
    /// What is maximised: single:EXIT, average, max-average or policy; repeatable [default: max-average]
    #[arg(long, value_name = "OBJECTIVE")]
    objective: Vec<Objective>,
    /// Radius in pixel units, for example 0.3 or 8/255; repeatable
    #[arg(long, required = true, num_args = 1.., value_parser = fraction::parse)]
    epsilon: Vec<f64>,
    /// linf or l2
    #[arg(long, default_value = "linf", value_parser = norm)]
    norm: Norm,
    /// Gradient steps [default: 20 of pgd, cw and slowdown, else as published]
    #[arg(long)]
    steps: Option<usize>,
    /// Length of a step of pgd, cw and slowdown in pixel units [default: a quarter of epsilon]
    #[arg(long, value_parser = fraction::parse)]
    step_size: Option<f64>,
    /// Independent runs
    #[arg(long, default_value_t = 1)]
    restarts: usize,
    /// Whether pgd, cw and slowdown start from a random point of the ball
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set
    )]
    random_start: bool,
    /// Queries of square [default: 5000]
    #[arg(long)]
    queries: Option<usize>,
    /// Classes that apgd-t and fab-t try, and other attacks class by class, most likely first
    #[arg(long, default_value_t = 9)]
    targets: usize,
    /// What slowdown is to achieve: slow, or slow-and-wrong
    #[arg(long, default_value = "slow", value_parser = goal)]
    goal: SlowdownGoal,
    /// The deployed exit policy: confidence:T, entropy:T, patience:N, fixed:EXIT, budget:FILE [default: confidence:0.9
    /// with slowdown, else none]
    #[arg(long)]
    policy: Option<String>,
    /// The policy answers with the mean of the probabilities of all exits so far
    #[arg(long)]
    ensemble: bool,
    /// Number of images from the start; 0 means all
    #[arg(long, default_value_t = 0)]
    images: usize,
    /// Images per pass, and per line of the journal; does not change the result
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Images, from the start, that the verdict is measured on; 0 for no verdict
    #[arg(long, default_value_t = 50)]
    checks: usize,
    /// Seed of the random starts and squares
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep finished batches in this file, and go on from those that it holds
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Run part I of N of the batches and stop, for job arrays and machines that share nothing but a disk; give every part its
    /// own --journal, then neokd merge. What --out and --json ask for is for the last command, without --shard
    #[arg(long, value_name = "I/N", requires = "journal")]
    shard: Option<Shard>,
    /// Write the adversarial images, their labels and what every exit makes of them to this safetensors file
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
    args.out.as_deref().map_or(Ok(()), |path| files::refuse_existing("--out", path))?;
    let (device, device_name) = device::open(args.device.device)?;
    let (config, network, OnFile { name, origin }) = open(&args.weights, &device)?;
    let model = Frozen::new(&network);
    let policy = deployed(&args, network.exits())?;
    let runs = runs(&args, &network, policy.as_ref())?;
    let sources = Sources::open(&runs, &network, &device)?;
    let (shape, classes) = (network.input_shape(), network.classes());
    let images = Source::open(&args.source, || args.data.folder(), shape, classes)?.of_classes(classes)?;
    let evaluation = Evaluation {
        sources: &sources.networks,
        policies: policy.as_slice(),
        deployed: policy.as_ref().map(|_| 0),
        count: images.count(args.images),
        batch_size: args.batch_size as usize,
        checks: args.checks,
        keep_pixels: args.out.is_some(),
        ..Evaluation::new(&model, &images, &runs, args.seed, &device)
    };
    let about = (device_name.as_str(), name[1].as_str(), sources.digests.as_slice());
    let scored = match (&args.journal, args.shard) {
        (None, _) => watched(&evaluation)?,
        (Some(path), Some(shard)) => return part(&evaluation, shard, about, path, (!args.json).then_some(out)),
        (Some(path), None) => go_on(&evaluation, about, path, (!args.json).then_some(&mut *out))?,
    };
    let about = About {
        config: config_of_weights(&config, images.name(), args.seed)?,
        device: &device_name,
        weights: Some(name),
        origin,
        data: DataReport { provenance: None, split: None, test_digest: images.digest() },
        training: None,
    };
    let report = Report::new(&evaluation, &scored, about);
    if let Some(path) = &args.out {
        let kept = runs.iter().zip(scored.runs).map(|(run, found)| (AboutRun::of(run, &found), found.into()));
        adversarial_file::write(path, kept.collect(), &scored.labels, shape)?;
    }
    match args.json {
        true => out.line(&report.to_json()?),
        false => {
            let warn = |&epsilon: &f64| Threat { norm: args.norm, epsilon }.warning();
            let notes: String =
                args.epsilon.iter().filter_map(warn).map(|warning| format!("note: {warning}\n")).collect();
            out.line(&format!("{notes}{}", neokd_report::render(&report)))
        }
    }
}

/// Goes on with an evaluation from what its journal holds, with a bar; `say` hears how much that is. `about` is the device's
/// name, the digest of the network and those of other networks, by run.
pub(super) fn go_on(
    evaluation: &Evaluation<'_, Network>,
    (device, network, sources): (&str, &str, &[Option<String>]),
    path: &Path,
    say: Option<&mut Output>,
) -> Result<Scored, Error> {
    let mut journal = Journal::open(path, &evaluation.header(device, network, sources))?;
    if let Some(out) = say.filter(|_| !journal.is_empty()) {
        out.line(&format!("going on: {} batches are in the journal already", journal.len()))?;
    }
    watched_from(evaluation, &mut journal, &Stop::on_signal()?)
}

/// Runs the batches of a shard that its journal does not hold yet, with a bar; `say` hears what comes next.
pub(super) fn part(
    evaluation: &Evaluation<'_, Network>,
    shard: Shard,
    (device, network, sources): (&str, &str, &[Option<String>]),
    path: &Path,
    say: Option<&mut Output>,
) -> Result<(), Error> {
    let header = Header { shard: Some(shard), ..evaluation.header(device, network, sources) };
    let mut journal = Journal::open(path, &header)?;
    watched_part(evaluation, shard, &mut journal, &Stop::on_signal()?)?;
    let Some(out) = say else { return Ok(()) };
    out.line(&format!(
        "shard {shard} is finished; when all are: neokd merge JOURNAL... --out WHOLE, then the same command with --journal \
         WHOLE and without --shard"
    ))
}

/// A network and what is known of its file.
pub(super) fn open(path: &Path, device: &Device) -> Result<(ModelConfig, Network, OnFile), Error> {
    let bytes = files::read(path)?;
    let contents = Contents::decode(path, &bytes)?;
    let name = [path.display().to_string(), neokd_datasets::sha256_hex(&bytes)];
    let on_file = OnFile { name, origin: contents.origin().cloned() };
    let (config, network) = contents.network(device)?;
    Ok((config, network, on_file))
}

fn deployed(args: &Args, exits: usize) -> Result<Option<Policy>, Error> {
    match &args.policy {
        Some(text) => policy_file::parse(text, args.ensemble, exits).map(Some),
        None if args.attack.contains(&AttackName::SLOWDOWN) => {
            Ok(Some(Policy { rule: Rule::Confidence(vec![0.9]), ensemble: args.ensemble }))
        }
        None => Ok(None),
    }
}

fn runs(args: &Args, network: &Network, policy: Option<&Policy>) -> Result<Vec<AttackRun>, Error> {
    let targets = if args.objective.is_empty() { vec![Objective::MaxAverage] } else { args.objective.clone() };
    if targets.contains(&Objective::Policy) && policy.is_none() {
        return Err(Error::Config("--objective policy: say which by --policy, for example confidence:0.9".to_string()));
    }
    let exits = network.exits();
    if let Some(target) = targets.iter().find(|target| matches!(target, Objective::Single(exit) if *exit >= exits)) {
        return Err(Error::Config(format!("--objective {target}: the network has {exits} exits, counted from 0")));
    }
    let problem = |&epsilon: &f64| Threat { norm: args.norm, epsilon }.problem();
    if let Some(why) = args.epsilon.iter().find_map(problem) {
        return Err(Error::Config(format!("--{why}")));
    }
    let threats: Vec<Threat> = args.epsilon.iter().map(|&epsilon| Threat { norm: args.norm, epsilon }).collect();
    let knobs = Knobs {
        steps: args.steps,
        step_size: args.step_size,
        restarts: args.restarts,
        random_start: args.random_start,
        queries: args.queries,
        targets: args.targets,
        goal: args.goal,
    };
    plan(&args.attack, &targets, &threats, &knobs, network.classes())
}

/// The networks that transfers are from, by the place of their runs.
pub(super) struct Sources {
    pub(super) networks: Vec<Option<Frozen<Network>>>,
    pub(super) digests: Vec<Option<String>>,
}

impl Sources {
    pub(super) fn open(runs: &[AttackRun], target: &Network, device: &Device) -> Result<Self, Error> {
        let (mut networks, mut digests) = (Vec::new(), Vec::new());
        for run in runs {
            let AttackName::TransferFrom(path) = &run.name else {
                networks.push(None);
                digests.push(None);
                continue;
            };
            let (_, network, OnFile { name: [_, digest], .. }) = open(path, device)?;
            let takes = |network: &Network| (network.input_shape(), network.classes());
            if takes(&network) != takes(target) {
                return Err(Error::Config(format!(
                    "--attack {}: takes {:?} images of {} classes, the attacked network {:?} of {}",
                    run.name,
                    network.input_shape(),
                    network.classes(),
                    target.input_shape(),
                    target.classes()
                )));
            }
            networks.push(Some(Frozen::new(&network)));
            digests.push(Some(digest));
        }
        Ok(Self { networks, digests })
    }
}

fn goal(text: &str) -> Result<SlowdownGoal, String> {
    match text {
        "slow" => Ok(SlowdownGoal::Slow),
        "slow-and-wrong" => Ok(SlowdownGoal::SlowAndWrong),
        _ => Err(format!("goal {text:?} is neither slow nor slow-and-wrong")),
    }
}
