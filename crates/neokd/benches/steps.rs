//! Speed and memory of the steps that a run is made of: inference, attack step, training steps.
//!
//! `cargo xtask bench [--network NAME]... [--set KEY=VALUE]... [--device D] [--batch N] [--steps N]
//! [--rounds N] [--json FILE] [--baseline FILE]`. Machines are shared and noisy: the arms take turns in every round, and ratios
//! to a baseline or to an opponent are taken round by round. A turn of an arm lasts half a second or one
//! step, whichever is longer: one short step between those of others measures caches and waking threads.
//!
//! `--growth` runs the NEO-KD step with other numbers of exits, attack steps and images and other image
//! sizes instead, each in a process of its own, and prints what they cost beside the preset.
//!
//! `--against pytorch [--python PROGRAM]` runs xtask/pytorch/steps.py beside it, in turn, arm by arm.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use clap::Parser;
use neokd::device::{self, DeviceChoice};
use neokd::threads;
use neokd_attack::{Attack, Objective, Pgd, Scenario, Threat, perturb};
use neokd_distill::{Draw, ExitLoss, LossInput};
use neokd_evaluate::batches::{self, LabelledBatch};
use neokd_model::{Frozen, MultiExit, Network};
use neokd_train::RunConfig;
use neokd_train::training::dry_run;
use neokd_train::training::optimizer::Optimizer;
use serde::{Deserialize, Serialize};

/// Speed and memory of inference, attack and training steps.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Presets whose networks, losses and threats are measured, each in a process of its own
    #[arg(long, default_values = ["mnist", "cifar10", "cifar100"])]
    network: Vec<String>,
    /// Change a value of the preset
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Images per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Steps of the attack in the NEO-KD step
    #[arg(long, default_value_t = 7)]
    steps: usize,
    /// Rounds; in each, every arm runs once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only the arms whose name contains this
    #[arg(long)]
    arm: Option<String>,
    /// Write the figures here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Print ratios to the figures of an earlier --json
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Measure how the cost of the NEO-KD step grows with exits, attack steps, batch and image size; for
    /// MSDNets, so name one by --network
    #[arg(long, conflicts_with_all = ["json", "baseline", "against"])]
    growth: bool,
    /// Let an opponent take turns: pytorch
    #[arg(long, value_parser = ["pytorch"])]
    against: Option<String>,
    /// Python that has PyTorch, for example that of a virtual environment after `pip install torch`
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured on one network.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Figures {
    network: String,
    device: String,
    batch: usize,
    /// By arm.
    arms: BTreeMap<String, ArmFigures>,
    /// Name and version of the opponent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opponent: Option<String>,
    /// The opponent's, by arm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    opponent_arms: BTreeMap<String, ArmFigures>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ArmFigures {
    /// Median over the rounds.
    images_per_second: f64,
    /// Largest resident size during the arm, where the system tells.
    peak_bytes: Option<u64>,
    /// Of a step, in each round.
    seconds: Vec<f64>,
    /// Processor time of a step in each round, all threads together, where the system tells.
    #[serde(default)]
    processor_seconds: Vec<f64>,
}

type Arm<'a> = (String, Box<dyn FnMut() + 'a>);

/// Least length of a turn, and most steps in it.
const TURN_SECONDS: f64 = 0.5;
const TURN_STEPS: f64 = 64.0;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    threads::compute_here_too();
    if args.growth {
        return args.network.iter().try_for_each(|network| growth(network, &args));
    }
    let measured = match &args.network[..] {
        [network] => vec![measure(network, &args)?],
        networks => {
            networks.iter().map(|network| in_a_process(network, &args, Stdio::inherit())).collect::<Result<_, _>>()?
        }
    };
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&measured)?)?;
    }
    if args.network.len() == 1 {
        measured.iter().for_each(print);
    }
    match &args.baseline {
        Some(path) => print_ratios(&measured, &read(path)?),
        None => Ok(()),
    }
}

/// Measures one network in a fresh process, whose memory holds no other.
fn in_a_process(network: &str, args: &Args, output: Stdio) -> Result<Figures, Box<dyn Error>> {
    let file = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--network", network, "--device", &args.device.to_string()]);
    command.args(args.set.iter().flat_map(|change| ["--set", change]));
    command.args(["--batch", &args.batch.to_string(), "--steps", &args.steps.to_string()]);
    command.args(["--rounds", &args.rounds.to_string()]);
    command.args(args.arm.iter().flat_map(|arm| ["--arm", arm]));
    command.args(args.against.iter().flat_map(|against| ["--against", against]));
    command.arg("--python").arg(&args.python);
    let status = command.arg("--json").arg(file.path()).stdout(output).status()?;
    if !status.success() {
        return Err(format!("the benchmark of {network} ended with {status}").into());
    }
    read(file.path())?.pop().ok_or_else(|| format!("no figures of {network}").into())
}

fn read(path: &Path) -> Result<Vec<Figures>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn measure(network: &str, args: &Args) -> Result<Figures, Box<dyn Error>> {
    let config = RunConfig::load(network, &args.set)?;
    let (device, name) = device::open(args.device)?;
    let data = neokd_datasets::synthetic(1, args.batch, 1, 1, config.model.input_shape(), config.model.classes())?;
    let batch = batches::collect(&data.train, &(0..args.batch).collect::<Vec<_>>(), &device)?;
    let mut arms = arms(&config, args.steps, &batch, &device);
    arms.retain(|(arm, _)| args.arm.as_ref().is_none_or(|wanted| arm.contains(wanted.as_str())));
    let mut opponent = args.against.as_ref().and_then(|_| Opponent::start(network, args));
    let (mut own, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    let mut steps_of_turn = BTreeMap::new();
    for round in 0..=args.rounds {
        for (arm, step) in &mut arms {
            // The first round warms up, and says how many steps a turn has.
            let counts = round > 0;
            let steps = steps_of_turn.get(arm).copied().unwrap_or(1);
            dry_run::forget_peak();
            let (started, processor) = (Instant::now(), processor_seconds());
            (0..steps).for_each(|_| step());
            device.sync().map_err(|error| format!("{error:?}"))?;
            let seconds = started.elapsed().as_secs_f64() / steps as f64;
            if counts {
                let figures = note(&mut own, arm, seconds, dry_run::resident());
                let spent = processor.zip(processor_seconds()).map(|(before, now)| (now - before) / steps as f64);
                figures.processor_seconds.extend(spent);
            } else {
                steps_of_turn.insert(arm.clone(), (TURN_SECONDS / seconds).ceil().clamp(1.0, TURN_STEPS) as usize);
            }
            let Some(opponent) = &mut opponent else { continue };
            for arm in opponent.arms.clone().iter().filter(|theirs| theirs.starts_with(arm.as_str())) {
                let turn = opponent.run(arm, steps)?;
                if counts {
                    note(&mut theirs, arm, turn.seconds, turn.peak_bytes);
                }
            }
        }
    }
    for figures in own.values_mut().chain(theirs.values_mut()) {
        figures.images_per_second = args.batch as f64 / median(&figures.seconds);
    }
    Ok(Figures {
        network: network.to_string(),
        device: name,
        batch: args.batch,
        arms: own,
        opponent: opponent.as_ref().map(|opponent| opponent.name.clone()),
        opponent_arms: theirs,
    })
}

fn note<'a>(
    figures: &'a mut BTreeMap<String, ArmFigures>,
    arm: &str,
    seconds: f64,
    peak_bytes: Option<u64>,
) -> &'a mut ArmFigures {
    let figures = figures.entry(arm.to_string()).or_default();
    figures.seconds.push(seconds);
    figures.peak_bytes = figures.peak_bytes.max(peak_bytes);
    figures
}

/// Processor time of this process so far, where the system tells (Linux, in hundredths of a second).
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may hold spaces: field 14 is time in the program, 15 in the system.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Some(ticks.sum::<Result<f64, _>>().ok()? / 100.0)
}

/// The same steps in another framework, in a process that waits for its turns.
struct Opponent {
    name: String,
    arms: Vec<String>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    child: Child,
}

#[derive(Deserialize)]
struct Greeting {
    version: String,
    arms: Vec<String>,
}

#[derive(Deserialize)]
struct Turn {
    /// Of one step.
    seconds: f64,
    peak_bytes: Option<u64>,
}

impl Opponent {
    /// None, with a message, where the opponent is not installed.
    fn start(network: &str, args: &Args) -> Option<Self> {
        // Cargo names the crate's folder at run time, so that a clone that was moved still finds it.
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let script = Path::new(&folder).join("../../xtask/pytorch/steps.py");
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut command = Command::new(&args.python);
        command.arg(script).args([network, &args.batch.to_string(), &threads]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let greeted = started.map_err(Into::into).and_then(Self::greet);
        greeted
            .map_err(|error: Box<dyn Error>| {
                eprintln!(
                    "skipped: no opponent for {network}: {} gave {error}; name a Python that has torch by --python",
                    args.python.display()
                );
            })
            .ok()
    }

    fn greet(mut child: Child) -> Result<Self, Box<dyn Error>> {
        let input = child.stdin.take().ok_or("no standard input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let greeting: Greeting = serde_json::from_str(&line)?;
        Ok(Self { name: format!("PyTorch {}", greeting.version), arms: greeting.arms, input, output, child })
    }

    fn run(&mut self, arm: &str, steps: usize) -> Result<Turn, Box<dyn Error>> {
        writeln!(self.input, "{steps} {arm}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Opponent {
    fn drop(&mut self) {
        // It ends by itself when its input closes; a failure here changes no figure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(figures: &Figures) {
    let rounds = figures.arms.values().next().map_or(0, |arm| arm.seconds.len());
    println!("{}, {}, batch {}, median of {rounds} rounds", figures.network, figures.device, figures.batch);
    for (arm, found) in &figures.arms {
        let memory = found.peak_bytes.map_or(String::new(), |bytes| format!("{:6} MB", bytes / 1_000_000));
        println!("  {arm:22} {:9.1} images/s {memory}", found.images_per_second);
    }
    let Some(opponent) = &figures.opponent else { return };
    println!("  against {opponent}, speed ratio round by round: least, median, largest; memory ratio");
    for (arm, theirs) in &figures.opponent_arms {
        let own = figures.arms.iter().find(|(own, _)| arm.starts_with(own.as_str()));
        let Some((_, own)) = own else { continue };
        let memory = own.peak_bytes.zip(theirs.peak_bytes).map_or(f64::NAN, |(own, theirs)| own as f64 / theirs as f64);
        if let Some([least, middle, largest]) = ratios(&theirs.seconds, &own.seconds) {
            println!("  {arm:34} {least:6.2} {middle:6.2} {largest:6.2} {memory:8.2}");
        }
    }
}

/// Least, median and largest of `old / new`, pair by pair.
fn ratios(old: &[f64], new: &[f64]) -> Option<[f64; 3]> {
    let mut ratios: Vec<f64> = old.iter().zip(new).map(|(old, new)| old / new).collect();
    ratios.sort_by(f64::total_cmp);
    Some([*ratios.first()?, median(&ratios), *ratios.last()?])
}

/// One thing changed about the NEO-KD step.
struct Variant {
    name: String,
    args: Args,
}

/// The step as the preset has it, and with one size changed at a time.
fn variants(network: &str, args: &Args) -> Result<Vec<Variant>, Box<dyn Error>> {
    let preset = Args { arm: Some("NEO-KD".to_string()), rounds: 1, ..args.clone() };
    let exits = RunConfig::load(network, &args.set)?.model.exits();
    let mut variants = vec![Variant { name: "as the preset has it".to_string(), args: preset.clone() }];
    let mut add = |name: String, args: Args| variants.push(Variant { name, args });
    for blocks in (1..=7).step_by(2).filter(|blocks| *blocks != exits) {
        let changes = [format!("model.blocks={blocks}"), "training.loss.gamma=[]".to_string()];
        add(format!("{blocks} exits"), Args { set: [&args.set[..], &changes].concat(), ..preset.clone() });
    }
    for steps in [1, 3, 14].into_iter().filter(|steps| *steps != args.steps) {
        add(format!("{steps} attack steps"), Args { steps, ..preset.clone() });
    }
    for batch in [16, 32, 128].into_iter().filter(|batch| *batch != args.batch) {
        add(format!("batch {batch}"), Args { batch, ..preset.clone() });
    }
    // Heads end at one pixel, so half and double the side mean a scale less and more.
    for (image, factors) in [(16, "[1, 2]"), (64, "[1, 2, 4, 4]")] {
        let factors = ["growth", "bottleneck"].map(|kind| format!("model.{kind}_factors={factors}"));
        let set = [&args.set[..], &[format!("model.image={image}")], &factors].concat();
        add(format!("images of {image}x{image}"), Args { set, ..preset.clone() });
    }
    Ok(variants)
}

/// Prints what each variant of an MSDNet's step costs beside the preset's, in processor time, which other
/// programs on the machine disturb least, and in memory.
fn growth(network: &str, args: &Args) -> Result<(), Box<dyn Error>> {
    let variants = variants(network, args)?;
    let mut found: Vec<ArmFigures> = vec![ArmFigures::default(); variants.len()];
    for _ in 0..args.rounds {
        for (variant, found) in variants.iter().zip(&mut found) {
            for arm in in_a_process(network, &variant.args, Stdio::null())?.arms.into_values() {
                found.seconds.extend(arm.seconds);
                found.processor_seconds.extend(arm.processor_seconds);
                found.peak_bytes = found.peak_bytes.max(arm.peak_bytes);
            }
        }
    }
    println!("{network}, NEO-KD step, batch {}, {} attack steps, {} rounds", args.batch, args.steps, args.rounds);
    println!("  processor time against the preset, round by round: least, median, largest; peak memory");
    for (variant, figures) in variants.iter().zip(&found) {
        let memory = figures.peak_bytes.map_or(String::new(), |bytes| format!("{:6} MB", bytes / 1_000_000));
        if let Some([least, middle, largest]) = ratios(&figures.processor_seconds, &found[0].processor_seconds) {
            println!("  {:22} {least:6.2} {middle:6.2} {largest:6.2} {memory}", variant.name);
        }
    }
    Ok(())
}

fn print_ratios(measured: &[Figures], baseline: &[Figures]) -> Result<(), Box<dyn Error>> {
    println!("speed against the baseline, round by round: least, median, largest");
    for figures in measured {
        let Some(old) = baseline.iter().find(|old| old.network == figures.network) else {
            return Err(format!("the baseline has no figures of {}", figures.network).into());
        };
        for (arm, new) in &figures.arms {
            let Some(old) = old.arms.get(arm) else { continue };
            if let Some([least, middle, largest]) = ratios(&old.seconds, &new.seconds) {
                println!("  {:10} {arm:22} {least:6.2} {middle:6.2} {largest:6.2}", figures.network);
            }
        }
    }
    Ok(())
}

fn arms<'a>(config: &RunConfig, steps: usize, batch: &'a LabelledBatch, device: &Device) -> Vec<Arm<'a>> {
    let model = config.model.init(1, device);
    let frozen = Frozen::new(&model);
    let attacked = Frozen::new(&model);
    let threat = config.threat;
    let step_size = threat.epsilon / 4.0;
    let attack =
        move |objective, steps| Attack::new(objective, Pgd { steps, step_size, random_start: true, restarts: 1 });
    let mut clean = Trainer::new(config, &model, None);
    let mut robust = Trainer::new(config, &model, Some(attack(Objective::MaxAverage, steps)));
    vec![
        (
            "inference".to_string(),
            Box::new(move || {
                let logits = frozen.forward(batch.batch.pixels.clone());
                let _ = logits.into_last().into_data();
            }),
        ),
        (
            "attack step".to_string(),
            Box::new(move || {
                let result =
                    perturb(&Scenario::new(&attacked, &batch.batch, &threat, 1), &attack(Objective::Average, 1));
                result.expect("a valid attack");
            }),
        ),
        ("clean training step".to_string(), Box::new(move || clean.step(batch, &threat))),
        (format!("NEO-KD step, {steps} steps"), Box::new(move || robust.step(batch, &threat))),
    ]
}

struct Trainer {
    model: Network,
    optimizer: Optimizer,
    loss: Box<dyn ExitLoss + Send + Sync>,
    attack: Option<Attack>,
}

impl Trainer {
    fn new(config: &RunConfig, model: &Network, attack: Option<Attack>) -> Self {
        let loss = config.training.loss.init(model.exits()).expect("a preset's loss is valid");
        let optimizer = Optimizer::new(&config.training.optimizer);
        Self { model: model.clone().train(), optimizer, loss, attack }
    }

    fn step(&mut self, data: &LabelledBatch, threat: &Threat) {
        let total = match &self.attack {
            None => self
                .model
                .forward(data.batch.pixels.clone())
                .as_slice()
                .iter()
                .map(|exit| neokd_distill::cross_entropy(exit, &data.batch.labels).mean())
                .reduce(|sum, exit| sum + exit),
            Some(attack) => {
                let frozen = Frozen::new(&self.model);
                let pixels =
                    perturb(&Scenario::new(&frozen, &data.batch, threat, 1), attack).expect("a valid attack").pixels;
                let clean = self.model.forward(data.batch.pixels.clone());
                let adversarial = self.model.forward(pixels);
                let draw = Draw { run: 1, epoch: 1, step: 1, examples: &data.batch.examples, labels: &data.labels };
                let input = LossInput::new(clean.as_slice(), adversarial.as_slice(), &data.batch.labels, draw);
                Some(self.loss.terms(input).total())
            }
        };
        let gradients = total.expect("at least one exit").backward();
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        self.model = self.optimizer.step(0.01, self.model.clone(), gradients);
    }
}
