//! Losses are differentiated correctly, and whoever teaches learns nothing from it.

use burn::tensor::{Device, Int, Tensor, TensorData};
use neokd_distill::{
    Ard, ArdConfig, Averaged, Draw, ExitLoss, LossConfig, LossInput, LossTerms, Memory, NeoKd, NeoKdConfig, Redrawn,
    Skd, SkdConfig, Teacher,
};

use crate::cases::host;

const BATCH: usize = 2;
const EXITS: usize = 3;
const CLASSES: usize = 6;
const LABELS: [usize; BATCH] = [1, 5];

/// Logits of all exits on clean and on adversarial images, and the weights of three classifiers.
#[derive(Clone)]
struct Point {
    clean: Vec<Tensor<2>>,
    adversarial: Vec<Tensor<2>>,
    heads: Vec<Tensor<2>>,
    averages: Vec<Tensor<2>>,
}

/// Spread over (-1.3, 1.3) without ties, at which a largest value would have a kink.
fn numbers(seed: usize) -> Vec<f32> {
    (0..BATCH * CLASSES).map(|at| 1.3 * ((at * 37 + seed * 101) as f32).sin()).collect()
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [BATCH, CLASSES]), device)
}

impl Point {
    fn new() -> Self {
        let device = Device::flex();
        let exits = |from: usize| (0..EXITS).map(|exit| tensor(numbers(from + exit), &device)).collect();
        let average = |exit| tensor(numbers(exit).iter().map(|value| value.abs()).collect(), &device);
        Self { clean: exits(0), adversarial: exits(10), heads: exits(20), averages: (30..33).map(average).collect() }
    }

    fn tracked(&self) -> Self {
        let leaf = |logits: &Tensor<2>| Tensor::from_data(logits.to_data(), &Device::flex().autodiff()).require_grad();
        let leaves = |exits: &[Tensor<2>]| exits.iter().map(leaf).collect();
        Self {
            clean: leaves(&self.clean),
            adversarial: leaves(&self.adversarial),
            heads: leaves(&self.heads),
            ..self.clone()
        }
    }

    fn terms(&self, loss: &dyn ExitLoss) -> LossTerms {
        let labels = Tensor::<1, Int>::from_ints(LABELS.map(|label| label as i64), &Device::flex());
        let draw = Draw { run: 1, epoch: 2, step: 3, examples: &[0, 1], labels: &LABELS };
        let mut input = LossInput::new(&self.clean, &self.adversarial, &labels, draw);
        input.heads = &self.heads;
        input.memory = Some(Memory { averages: &self.averages, done: 0.6 });
        loss.terms(input)
    }

    /// The total, summed on the host in 64 bits: what finite differences need.
    fn total(&self, loss: &dyn ExitLoss) -> f64 {
        let terms = self.terms(loss).terms.into_iter();
        let weighted = terms.map(|term| {
            let pairs = host(&term.values).into_iter().zip(term.weights);
            pairs.map(|(value, weight)| f64::from(value) * weight).sum::<f64>()
        });
        weighted.sum()
    }
}

fn group(point: &mut Point, name: Group) -> &mut Vec<Tensor<2>> {
    match name {
        Group::Clean => &mut point.clean,
        Group::Adversarial => &mut point.adversarial,
        Group::Heads => &mut point.heads,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Group {
    Clean,
    Adversarial,
    Heads,
}

/// Compares the slope along a direction of mixed signs, and along the steepest coordinate, with
/// central differences: relative 1e-3, above the rounding of 32-bit logits.
fn agrees(loss: &dyn ExitLoss, name: Group, exit: usize) {
    let mut leaves = Point::new().tracked();
    let gradients = leaves.terms(loss).total().backward();
    let ours = host(&group(&mut leaves, name)[exit].grad(&gradients).unwrap());
    let steepest = (0..ours.len()).max_by(|a, b| ours[*a].abs().total_cmp(&ours[*b].abs())).unwrap();
    let along: Vec<f32> =
        ours.iter().enumerate().map(|(at, slope)| if at % 4 == 3 { -0.5 } else { slope.signum() }).collect();
    let single: Vec<f32> = (0..ours.len()).map(|at| if at == steepest { 1.0 } else { 0.0 }).collect();
    for direction in [along, single] {
        let expected: f64 = ours.iter().zip(&direction).map(|(a, b)| f64::from(a * b)).sum();
        let moved = |by: f32| {
            let mut point = Point::new();
            let values = host(&group(&mut point, name)[exit]);
            let values = values.iter().zip(&direction).map(|(value, step)| value + by * step).collect();
            group(&mut point, name)[exit] = tensor(values, &Device::flex());
            point.total(loss)
        };
        let step = 0.01_f32;
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let allowed = 1e-3 * slope.abs() + 2e-4;
        assert!((expected - slope).abs() <= allowed, "{name:?} exit {exit}: {expected} instead of {slope}");
    }
}

fn loss(kind: &str) -> Box<dyn ExitLoss + Send + Sync> {
    let config: LossConfig = toml::from_str(kind).unwrap();
    config.init(EXITS).unwrap()
}

#[test]
fn gradients_in_adversarial_logits_agree_with_finite_differences() {
    for kind in [
        "kind = 'adversarial-training'",
        "kind = 'skd'\nadversarial_pairs = false",
        "kind = 'ard'\ntemperature = 2.0",
        "kind = 'lw'",
        "kind = 'neo-kd'\ngamma = [1.0, 1.5, 2.0]",
        "kind = 'neo-kd'\nalpha = 0.0",
        "kind = 'neo-kd'\nbeta = 0.0\nteacher = { kind = 'none' }",
        "kind = 'neo-kd'\ntemperature = 3.0\naveraged = 'logits'\npartition = { redrawn = 'epoch', leftovers = 'first-exits' }",
        "kind = 'trades'",
        "kind = 'mart'",
        "kind = 'pgd-te'",
        "kind = 'trades-te'",
    ] {
        (0..EXITS).for_each(|exit| agrees(loss(kind).as_ref(), Group::Adversarial, exit));
    }
}

#[test]
fn gradients_in_logits_that_do_not_teach_agree_with_finite_differences() {
    for kind in
        ["kind = 'adversarial-training'", "kind = 'lw'", "kind = 'trades'", "kind = 'mart'", "kind = 'trades-te'"]
    {
        (0..EXITS).for_each(|exit| agrees(loss(kind).as_ref(), Group::Clean, exit));
    }
    // The last exit teaches the others, from clean to clean and from adversarial to adversarial.
    for name in [Group::Clean, Group::Adversarial] {
        (0..EXITS - 1).for_each(|exit| agrees(loss("kind = 'skd'").as_ref(), name, exit));
    }
}

#[test]
fn the_penalty_of_lw_is_differentiated_in_the_classifiers() {
    let loss = loss("kind = 'lw'\nlambda = 0.5");
    (0..EXITS).for_each(|exit| agrees(loss.as_ref(), Group::Heads, exit));
}

/// Gradients in the clean logits of one exit.
fn clean_gradient(loss: &dyn ExitLoss, exit: usize) -> Vec<f32> {
    let leaves = Point::new().tracked();
    let gradients = leaves.terms(loss).total().backward();
    host(&leaves.clean[exit].grad(&gradients).unwrap())
}

#[test]
fn teachers_receive_exactly_zero_gradient() {
    let plain = loss("kind = 'adversarial-training'");
    let teachers = [Teacher::Own, Teacher::default(), Teacher::All, Teacher::Last, Teacher::Exit { exit: 1 }];
    for teacher in teachers {
        for averaged in [Averaged::Softmax, Averaged::Logits] {
            let neo_kd = NeoKdConfig { teacher: teacher.clone(), averaged, temperature: 2.0, ..NeoKdConfig::default() };
            let ard = ArdConfig { teacher: teacher.clone(), averaged, ..ArdConfig::default() };
            let neo_kd = NeoKd::new(neo_kd, EXITS).unwrap();
            let ard = Ard::new(ard, EXITS).unwrap();
            for exit in 0..EXITS {
                let expected = clean_gradient(plain.as_ref(), exit);
                assert_eq!(clean_gradient(&neo_kd, exit), expected, "{teacher:?}");
                assert_eq!(clean_gradient(&ard, exit), expected, "{teacher:?}");
            }
        }
    }
    let last = EXITS - 1;
    let skd = Skd::new(SkdConfig::default(), EXITS).unwrap();
    assert_eq!(clean_gradient(&skd, last), clean_gradient(plain.as_ref(), last));
    assert_ne!(clean_gradient(&skd, 0), clean_gradient(plain.as_ref(), 0));
}

#[test]
fn smoothed_targets_shift_every_term_against_labels_as_the_formula_says() {
    let point = Point::new();
    let labels = Tensor::<1, Int>::from_ints(LABELS.map(|label| label as i64), &Device::flex());
    let draw = Draw { run: 1, epoch: 2, step: 3, examples: &[0, 1], labels: &LABELS };
    let smooth = |epsilon: f32| {
        let rows = LABELS.iter().flat_map(|label| {
            (0..CLASSES).map(move |class| epsilon / CLASSES as f32 + if class == *label { 1.0 - epsilon } else { 0.0 })
        });
        let targets = tensor(rows.collect(), &Device::flex());
        let mut input = LossInput::new(&point.clean, &point.adversarial, &labels, draw);
        input.targets = Some(&targets);
        f64::from(host(&loss("kind = 'adversarial-training'").terms(input).total())[0])
    };
    let plain = point.total(loss("kind = 'adversarial-training'").as_ref());
    assert!((smooth(0.0) - plain).abs() < 1e-4);
    // Linear in epsilon: the middle of two smoothings is their mean.
    assert!((smooth(0.2) - 0.5 * (smooth(0.0) + smooth(0.4))).abs() < 1e-4);
    assert_ne!(smooth(0.2), plain);
}

#[test]
fn a_partition_of_another_rule_changes_eokd_alone() {
    let mut shared = NeoKdConfig::default();
    shared.partition.redrawn = Redrawn::Fixed;
    let terms = |config: NeoKdConfig| Point::new().terms(&NeoKd::new(config, EXITS).unwrap()).terms;
    for (own, other) in terms(NeoKdConfig::default()).iter().zip(&terms(shared)) {
        let same = host(&own.values) == host(&other.values);
        assert_eq!(same, own.name != "eokd", "{}", own.name);
    }
}

#[test]
fn what_cannot_be_is_named_with_its_value() {
    for (kind, part) in [
        ("kind = 'skd'\nteacher = { kind = 'own' }", "teacher.kind"),
        ("kind = 'ard'\ntemperature = 0.0", "temperature = 0"),
        ("kind = 'lw'\nlambda = -1.0", "lambda = -1"),
        ("kind = 'pgd-te'\nensemble = { start = 0.8, full = 0.5 }", "start = 0.8"),
        ("kind = 'trades'\nbeta = nan", "beta = NaN"),
        ("kind = 'ard'\nteacher = { kind = 'exit', exit = 9 }", "teacher.exit = 9"),
    ] {
        let config: LossConfig = toml::from_str(kind).unwrap();
        let why = config.init(EXITS).err().unwrap();
        assert!(why.contains(part), "{why}");
    }
}
