//! What has to hold between attacks, and for any of them.

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::{
    Apgd, ApgdCe, ApgdDlr, ApgdMargin, ApgdT, Attack, AutoAttack, Batch, Criterion, Cw, DeepFool, Fab, Norm, Objective,
    Pgd, Scenario, Search, Slowdown, SlowdownGoal, Square, Threat, run,
};
use neokd_model::Frozen;
use neokd_model::policy::{Policy, Rule};

use crate::networks::{Numbers, Tiny, answered, batch, host, part};

const SHAPE: [usize; 3] = [1, 8, 8];
const NORMS: [Norm; 2] = [Norm::Linf, Norm::L2];

fn searches() -> Vec<Search> {
    let pgd = Pgd { steps: 3, step_size: 0.02, random_start: true, restarts: 2 };
    let apgd = Apgd { steps: 8, restarts: 2 };
    vec![
        pgd.into(),
        Cw(pgd).into(),
        ApgdCe(apgd).into(),
        ApgdDlr(apgd).into(),
        ApgdMargin(apgd).into(),
        ApgdT { steps: 5, restarts: 1, targets: 3 }.into(),
        Fab { steps: 4, restarts: 2, targets: 3 }.into(),
        DeepFool { steps: 4, targets: 3, overshoot: 0.02 }.into(),
        Square { queries: 60, share: 0.8, restarts: 2 }.into(),
        Slowdown::like(pgd, SlowdownGoal::Slow).into(),
    ]
}

fn attacks() -> Vec<Attack> {
    let objectives = [Objective::Single(1), Objective::Average, Objective::MaxAverage, Objective::Policy];
    let policy = Policy { rule: Rule::Confidence(vec![0.4]), ensemble: true };
    let all = searches().into_iter().flat_map(|search| objectives.map(|objective| Attack::new(objective, search)));
    all.map(|attack| attack.with_policy(policy.clone())).collect()
}

fn epsilon(norm: Norm) -> f64 {
    if norm == Norm::Linf { 0.01 } else { 0.05 }
}

fn pixels(model: &Frozen<Tiny>, of: &Batch, attack: &Attack, threat: &Threat) -> Vec<f32> {
    host(&run(&Scenario::new(model, of, threat, 11), attack).unwrap().adversarial.pixels)
}

#[test]
fn every_attack_gives_the_same_bits_for_any_batch_size() {
    let model = Tiny::random(SHAPE, 10, 3, 51);
    let (frozen, all) = (Frozen::new(&model), answered(&model, 64, 6, 1));
    for norm in NORMS {
        let threat = Threat { norm, epsilon: epsilon(norm) };
        for attack in attacks() {
            let whole = pixels(&frozen, &all, &attack, &threat);
            for (start, end) in [(0, 1), (17, 18), (63, 64), (0, 7), (7, 14), (57, 64), (3, 5)] {
                let apart = pixels(&frozen, &part(&all, start, end), &attack, &threat);
                assert!(apart == whole[start * 64..end * 64], "{norm:?} {attack:?}: images {start}..{end}");
            }
        }
    }
}

#[test]
fn autoattack_gives_the_same_fates_and_bits_for_any_batch_size() {
    let model = Tiny::random(SHAPE, 10, 3, 52);
    let (frozen, all) = (Frozen::new(&model), answered(&model, 64, 6, 1));
    let set = AutoAttack { members: searches() };
    let policy = Policy { rule: Rule::Confidence(vec![0.4]), ensemble: false };
    for criterion in
        [Criterion::Exit(1), Criterion::AnyExit, Criterion::AllExits, Criterion::Ensemble, Criterion::Policy(policy)]
    {
        for norm in NORMS {
            let threat = Threat { norm, epsilon: epsilon(norm) };
            let evaluate = |of: &Batch| set.run(&Scenario::new(&frozen, of, &threat, 3), &criterion).unwrap();
            let whole = evaluate(&all);
            let (bits, mut passes) = (host(&whole.pixels), 0);
            for size in [1, 7] {
                for start in (0..64).step_by(size) {
                    let end = (start + size).min(64);
                    let apart = evaluate(&part(&all, start, end));
                    assert_eq!(apart.fates, whole.fates[start..end], "{criterion:?} {norm:?}: {start}..{end}");
                    assert!(
                        host(&apart.pixels) == bits[start * 64..end * 64],
                        "{criterion:?} {norm:?}: {start}..{end}"
                    );
                    passes += apart.spent.iter().map(|spent| spent.passes.forward).sum::<u64>();
                }
            }
            let once = whole.spent.iter().map(|spent| spent.passes.forward).sum::<u64>();
            assert_eq!(passes, 2 * once, "{criterion:?} {norm:?}: passes depend on the batch");
        }
    }
}

#[test]
fn an_evaluation_that_goes_on_member_by_member_ends_as_one_that_was_not_stopped() {
    let model = Tiny::random(SHAPE, 10, 2, 53);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 20, 6, 0));
    let (set, threat, criterion) = (AutoAttack { members: searches() }, Threat::linf(0.01), Criterion::AnyExit);
    let scenario = Scenario::new(&frozen, &of, &threat, 3);
    let whole = set.run(&scenario, &criterion).unwrap();
    let mut standing = set.start(&scenario, &criterion).unwrap();
    while set.advance(&scenario, &criterion, &mut standing).unwrap() {
        // What a journal keeps: values, not tensors of this process.
        let values = TensorData::new(host(&standing.pixels), [20, 1, 8, 8]);
        standing.pixels = Tensor::from_data(values, &Device::flex());
    }
    assert_eq!(
        (host(&whole.pixels), whole.fates, whole.spent),
        (host(&standing.pixels), standing.fates, standing.spent)
    );
}

#[test]
fn a_union_breaks_what_each_of_its_members_breaks() {
    let model = Tiny::random(SHAPE, 10, 2, 54);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 64, 6, 0));
    for norm in NORMS {
        let threat = Threat { norm, epsilon: epsilon(norm) };
        let robust = |members: Vec<Search>, criterion: &Criterion| {
            AutoAttack { members }.run(&Scenario::new(&frozen, &of, &threat, 3), criterion).unwrap().survivors()
        };
        for criterion in [Criterion::Exit(0), Criterion::AnyExit] {
            let union = robust(searches(), &criterion);
            for member in searches() {
                let alone = robust(vec![member], &criterion);
                assert!(union.iter().all(|row| alone.contains(row)), "{norm:?} {criterion:?} {member:?}");
            }
        }
        let any = robust(searches(), &Criterion::AnyExit);
        for exit in 0..2 {
            let one = robust(searches(), &Criterion::Exit(exit));
            assert!(any.iter().all(|row| one.contains(row)), "{norm:?}: any exit against exit {exit}");
        }
    }
}

#[test]
fn more_restarts_or_epsilon_never_raise_robust_accuracy() {
    let model = Tiny::random(SHAPE, 10, 1, 55);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 64, 6, 0));
    let robust = |search: Search, epsilon: f64| {
        let set = AutoAttack { members: vec![search] };
        set.run(&Scenario::new(&frozen, &of, &Threat::linf(epsilon), 3), &Criterion::Exit(0)).unwrap().survivors().len()
    };
    for restarts in [1, 2, 4] {
        let apgd = |restarts| ApgdCe(Apgd { steps: 3, restarts }).into();
        assert!(robust(apgd(2 * restarts), 0.008) <= robust(apgd(restarts), 0.008));
        let square = |restarts| Square { queries: 30, share: 0.8, restarts }.into();
        assert!(robust(square(2 * restarts), 0.01) <= robust(square(restarts), 0.01));
    }
    // On a linear network the targeted attack finds what there is, so more epsilon breaks more.
    let targeted = Search::from(ApgdT { steps: 30, restarts: 1, targets: 9 });
    let counts: Vec<usize> =
        [0.0, 0.003, 0.006, 0.012, 0.05].iter().map(|epsilon| robust(targeted, *epsilon)).collect();
    assert!(counts.is_sorted_by(|more, fewer| more >= fewer), "{counts:?}");
    assert_eq!((counts[0], counts[4]), (64, 0));
}

#[test]
fn no_epsilon_gives_the_input_back() {
    let model = Tiny::random(SHAPE, 10, 3, 56);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 9, 6, 1));
    for norm in NORMS {
        for attack in attacks() {
            let unmoved = pixels(&frozen, &of, &attack, &Threat { norm, epsilon: 0.0 });
            assert!(unmoved == host(&of.pixels), "{norm:?} {attack:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_random_points_are_projected_into_the_ball_and_the_pixel_cube() {
    let mut numbers = Numbers(9);
    for round in 0..500 {
        let shape = [1 + round % 3, 1 + round % 5, 1 + round % 7];
        let size: usize = shape.iter().product();
        let norm = NORMS[round % 2];
        let epsilon = f64::from(numbers.next().abs()).powi(3) * 4.0;
        let clean: Vec<f32> =
            numbers.list(200 * size).iter().map(|value| (value * 0.7 + 0.5).clamp(0.0, 1.0)).collect();
        let spread = 10f32.powf(3.0 * numbers.next());
        let far: Vec<f32> = numbers.list(200 * size).iter().map(|value| value * spread).collect();
        let of = batch(clean, shape, &[0; 200]);
        let [channels, height, width] = shape;
        let far = Tensor::from_data(TensorData::new(far, [200, channels, height, width]), &Device::flex());
        let threat = Threat { norm, epsilon };
        let projected = threat.project(&of.pixels, far);
        let largest = host(&threat.sizes(&of.pixels, &projected)).into_iter().fold(0.0, f32::max);
        assert!(f64::from(largest) <= epsilon * (1.0 + 2e-6) + 2e-6, "{threat:?} {shape:?}: {largest}");
        assert!(host(&projected).iter().all(|value| (0.0..=1.0).contains(value)), "{threat:?} {shape:?}");
    }
}

#[test]
fn short_attacks_of_random_shape_and_size_keep_to_their_rules() {
    let mut numbers = Numbers(10);
    for round in 0..60u64 {
        let at = round as usize;
        let shape = [1 + at % 3, 1 + at % 6, 1 + at % 5];
        let model = Tiny::random(shape, 4 + at % 3, 2, round);
        let (frozen, of) = (Frozen::new(&model), answered(&model, 12, round, 0));
        let threat = Threat { norm: NORMS[at % 2], epsilon: f64::from(numbers.next().abs()) * 2.0 };
        for search in searches() {
            // The audit inside is what fails; a rule that is broken is an error.
            let outcome = run(&Scenario::new(&frozen, &of, &threat, round), &Attack::new(Objective::Single(0), search));
            assert!(outcome.is_ok(), "{shape:?} {threat:?} {search:?}: {:?}", outcome.err());
        }
    }
}
