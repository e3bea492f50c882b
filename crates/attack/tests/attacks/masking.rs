//! The verdict: it sees through networks that hide their gradient, and lets the others pass.

use neokd_attack::{
    ApgdT, Check, Criterion, Diagnostics, Effort, Level, Pgd, Scenario, Search, Threat, Verdict, share_broken,
};
use neokd_model::Frozen;

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
        (Diagnostics { radius: 0.6, ..fine }, Check::LargeRadius, Level::Warn),
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
