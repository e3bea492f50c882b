//! The verdict: it sees through networks that hide their gradient, and lets the others pass.

use burn::tensor::{Bool, Tensor};
use neokd_attack::{
    ApgdT, Attack, Check, Criterion, Diagnostics, Effort, Level, Objective, Pgd, Scenario, Search, Threat, Verdict,
    share_broken,
};
use neokd_model::{Frozen, MultiExit};

use crate::networks::{Mask, Numbers, Tiny, answered};

const SHAPE: [usize; 3] = [1, 6, 6];

fn verdict(model: &Tiny, threat: Threat) -> (Diagnostics, Verdict) {
    let (frozen, of) = (Frozen::new(model), answered(model, 64, 8, 0));
    let effort = Effort { steps: 50, queries: 300 };
    let signs = Diagnostics::measure(&Scenario::new(&frozen, &of, &threat, 1), &Criterion::Exit(0), effort).unwrap();
    (signs, signs.verdict())
}

fn checks(verdict: &Verdict) -> Vec<Check> {
    verdict.reasons.iter().map(|reason| reason.check).collect()
}

fn hidden(units: usize, mask: Mask) -> Tiny {
    let mut numbers = Numbers(77);
    let (first, second) = (numbers.list(36 * units), numbers.list(units * 5));
    Tiny::new(SHAPE, 5).linear(&second, &[0.0; 5]).behind(&first).masked(mask)
}

#[test]
fn networks_whose_robustness_is_genuine_pass() {
    for (name, model) in [("linear", Tiny::random(SHAPE, 5, 2, 31)), ("hidden", hidden(200, Mask::None))] {
        for threat in [Threat::linf(0.01), Threat::l2(0.05)] {
            let (signs, verdict) = verdict(&model, threat);
            assert_eq!(verdict.level, Level::Pass, "{name} {threat:?}: {signs:?} {verdict:?}");
            assert!(signs.planted > 32, "{signs:?}");
        }
    }
}

#[test]
fn networks_that_mask_their_gradient_do_not_pass() {
    for (mask, expected) in [
        (Mask::Quantised, Check::ZeroGradient),
        (Mask::Steep, Check::ZeroGradient),
        (Mask::Random, Check::RandomOutput),
        (Mask::Detached, Check::ZeroGradient),
        (Mask::Softmax, Check::SoftmaxOutput),
    ] {
        let (signs, verdict) = verdict(&Tiny::random(SHAPE, 5, 2, 31).masked(mask), Threat::linf(0.02));
        assert!(verdict.level >= Level::Warn, "{mask:?}: {signs:?}");
        assert!(checks(&verdict).contains(&expected), "{mask:?}: {verdict:?}");
    }
    // From 0.02 on every image falls: there is nothing left to mask.
    for threat in [Threat::linf(0.001), Threat::linf(0.003), Threat::linf(0.006)] {
        let (signs, verdict) = verdict(&hidden(1000, Mask::WinnersTakeAll), threat);
        assert!(verdict.level >= Level::Warn, "winners take all, {threat:?}: {signs:?}");
    }
}

#[test]
fn one_short_step_does_not_pass_and_as_strong_an_attack_as_the_checks_does() {
    let (model, threat) = (Tiny::random(SHAPE, 5, 2, 31), Threat::linf(0.01));
    let (of, frozen) = (answered(&model, 64, 8, 0), Frozen::new(&model));
    let (signs, _) = verdict(&model, threat);
    assert!(signs.broken > 0.06, "{signs:?}");
    let judged = |search: Search| {
        let broken = share_broken(&Scenario::new(&frozen, &of, &threat, 1), &Criterion::Exit(0), search).unwrap();
        signs.compared(broken).verdict()
    };
    let weak = judged(Pgd { steps: 1, step_size: 0.001, random_start: false, restarts: 1 }.into());
    assert!(weak.level >= Level::Warn && checks(&weak).contains(&Check::AttackGap), "{weak:?}");
    let strong = judged(ApgdT { targets: 4, steps: 50, restarts: 1 }.into());
    assert_eq!(strong.level, Level::Pass, "{strong:?}");
}

/// What an attack on `objective` shows of a network: the signs, with its own numbers held against them.
fn of_attack(model: &Tiny, threat: Threat, criterion: &Criterion, objective: Objective, search: Search) -> Verdict {
    let (frozen, of) = (Frozen::new(model), answered(model, 64, 8, 0));
    let scenario = Scenario::new(&frozen, &of, &threat, 1);
    let signs = Diagnostics::measure(&scenario, criterion, Effort { steps: 50, queries: 300 }).unwrap();
    let outcome = neokd_attack::run(&scenario, &Attack::new(objective, search)).unwrap();
    let count = |bits: Tensor<1, Bool>| bits.int().sum().into_scalar::<i64>() as f64;
    let clean = frozen.forward(of.pixels.clone());
    let known = criterion.broken(&clean, &of.labels).bool_not();
    let right = outcome.logits.correct(&of.labels).equal_scalar(1);
    let exits = (0..model.exits())
        .map(|exit| count(right.clone().narrow(0, exit, 1).squeeze_dim::<1>(0).bool_and(known.clone())));
    let right = exits.sum::<f64>() / (count(known.clone()) * model.exits() as f64);
    let broken = count(criterion.broken(&outcome.logits, &of.labels).bool_and(known.clone())) / count(known);
    signs.compared(broken).quoted(right).verdict()
}

#[test]
fn ten_weak_evaluations_are_not_believed() {
    let pgd = |steps, step_size| Search::from(Pgd { steps, step_size, random_start: true, restarts: 1 });
    let (honest, strong) = (Tiny::random(SHAPE, 5, 2, 31), pgd(40, 0.002));
    let constant = Tiny::new(SHAPE, 5).linear(&[0.0; 180], &[1.0, 0.0, 0.0, 0.0, 0.0]);
    let mask = |mask| Tiny::random(SHAPE, 5, 2, 31).masked(mask);
    let (own, any) = (Criterion::Exit(0), Criterion::AnyExit);
    let first = Objective::Single(0);
    let ball = Threat::linf(0.01);
    for (name, model, threat, criterion, objective, search, expected) in [
        ("too few steps", &honest, ball, &own, first, pgd(1, 0.001), Check::AttackGap),
        ("a tiny step", &honest, ball, &own, first, pgd(40, 1e-6), Check::AttackGap),
        ("another objective", &honest, ball, &any, Objective::Average, strong, Check::AttackGap),
        ("noise, one restart", &mask(Mask::Random), ball, &own, first, strong, Check::RandomOutput),
        ("epsilon in levels", &honest, Threat::linf(0.9), &own, first, strong, Check::LargeRadius),
        ("epsilon divided twice", &honest, Threat::linf(8.0 / 65025.0), &own, first, strong, Check::SmallRadius),
        ("attack on another exit", &honest, ball, &own, Objective::Single(1), strong, Check::ExitGap),
        ("a collapsed network", &constant, ball, &own, first, strong, Check::HugeEpsilon),
        ("batch-norm in training mode", &mask(Mask::BatchMean), ball, &own, first, strong, Check::BatchDependence),
        ("quantised input", &mask(Mask::Quantised), ball, &own, first, strong, Check::ZeroGradient),
        ("softmax output", &mask(Mask::Softmax), ball, &own, first, strong, Check::SoftmaxOutput),
    ] {
        let verdict = of_attack(model, threat, criterion, objective, search);
        assert!(verdict.level >= Level::Warn, "{name}: {verdict:?}");
        assert!(checks(&verdict).contains(&expected), "{name}: {verdict:?}");
    }
    // The same network, its own exits attacked in earnest.
    let fair =
        of_attack(&honest, ball, &any, Objective::MaxAverage, ApgdT { targets: 4, steps: 50, restarts: 1 }.into());
    assert_eq!(fair.level, Level::Pass, "{fair:?}");
}

#[test]
fn the_verdict_is_the_worst_of_its_reasons() {
    let fine = Diagnostics { images: 100, planted: 50, ..Diagnostics::default() };
    assert_eq!(fine.verdict(), Verdict { level: Level::Pass, reasons: Vec::new() });
    let cases = [
        (Diagnostics { zero_gradient: 0.06, ..fine }, Check::ZeroGradient, Level::Warn),
        (Diagnostics { zero_gradient: 0.6, ..fine }, Check::ZeroGradient, Level::Fail),
        (Diagnostics { square_gain: 0.03, ..fine }, Check::SquareGain, Level::Warn),
        (Diagnostics { still_rising: 0.4, ..fine }, Check::StillRising, Level::Fail),
        (Diagnostics { restart_gain: 0.1, ..fine }, Check::RestartGain, Level::Warn),
        (Diagnostics { single_step_gain: 0.2, ..fine }, Check::SingleStepGain, Level::Fail),
        (Diagnostics { transfer_gain: 0.05, ..fine }, Check::TransferGain, Level::Warn),
        (Diagnostics { huge_epsilon: 0.5, ..fine }, Check::HugeEpsilon, Level::Fail),
        (Diagnostics { planted_missed: 0.3, ..fine }, Check::PlantedMissed, Level::Fail),
        (Diagnostics { random_output: 1e-3, ..fine }, Check::RandomOutput, Level::Fail),
        (Diagnostics { softmax_output: 0.5, ..fine }, Check::SoftmaxOutput, Level::Warn),
        (Diagnostics { broken: 0.5, ..fine }.compared(0.4), Check::AttackGap, Level::Warn),
        (Diagnostics { broken: 0.5, ..fine }.compared(0.1), Check::AttackGap, Level::Fail),
        (Diagnostics { own_exit: 0.4, ..fine }.quoted(0.5), Check::ExitGap, Level::Warn),
        (Diagnostics { batch_dependence: 1e-3, ..fine }, Check::BatchDependence, Level::Fail),
        (Diagnostics { radius: 0.6, ..fine }, Check::LargeRadius, Level::Warn),
        (Diagnostics { radius: 1e-4, ..fine }, Check::SmallRadius, Level::Warn),
        (Diagnostics { images: 0, ..fine }, Check::NoImages, Level::Warn),
    ];
    for (signs, check, level) in cases {
        let verdict = signs.verdict();
        assert_eq!((verdict.level, checks(&verdict)), (level, vec![check]), "{signs:?}");
        assert!(!verdict.reasons[0].text.is_empty());
    }
    let both = Diagnostics { square_gain: 0.03, huge_epsilon: 0.5, ..fine }.verdict();
    assert_eq!((both.level, both.reasons.len()), (Level::Fail, 2));
}
