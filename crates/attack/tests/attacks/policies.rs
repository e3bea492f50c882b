//! Attacks on the deployed system: the tensors decide as the policy does, and its worst case is found.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use neokd_attack::{
    Aim, Apgd, ApgdCe, ApgdT, Attack, AttackError, AutoAttack, Criterion, Deployed, Objective, Pgd, Scenario, Search,
    Slowdown, SlowdownGoal, Threat, Transfer, run,
};
use neokd_model::policy::{Policy, Rule};
use neokd_model::{ExitLogits, Frozen};

use crate::networks::{Numbers, Tiny, answered, host, labels, matrix};

const SHAPE: [usize; 3] = [1, 4, 4];

fn policies() -> Vec<Policy> {
    let rules = [
        Rule::Confidence(vec![0.6]),
        Rule::Confidence(vec![0.9, 0.5, 0.1]),
        Rule::Confidence(vec![2.0, 0.7, 0.7]),
        Rule::Entropy(0.8),
        Rule::Patience(1),
        Rule::Patience(2),
        Rule::Fixed(2),
    ];
    let both = |rule: Rule| [false, true].map(|ensemble| Policy { rule: rule.clone(), ensemble });
    rules.into_iter().flat_map(both).collect()
}

fn apgd(steps: usize) -> Search {
    ApgdCe(Apgd { steps, restarts: 1 }).into()
}

fn bools(mask: Tensor<1, burn::tensor::Bool>) -> Vec<bool> {
    mask.into_data().convert::<bool>().try_into_vec().unwrap()
}

#[test]
fn tensors_decide_as_the_policy_does_image_by_image() {
    let (images, exits, classes) = (4000, 4, 5);
    let mut numbers = Numbers(5);
    let rows: Vec<Tensor<2>> =
        (0..exits).map(|_| matrix(&numbers.list(images * classes), images, classes) * 3.0).collect();
    let probabilities: Vec<Vec<f32>> = rows.iter().map(|row| host(&softmax(row.clone(), 1))).collect();
    let logits = ExitLogits::all(rows);
    let labels = Tensor::zeros([images], &Device::flex());
    for policy in policies() {
        let theirs = (0..images).map(|image| {
            let rows = probabilities.iter().map(|exit| &exit[image * classes..][..classes]);
            policy.decide(rows).unwrap().label != 0
        });
        let ours = bools(Criterion::Policy(policy.clone()).broken(&logits, &labels));
        let differing = ours.iter().zip(theirs).filter(|(our, their)| *our != their).count();
        assert_eq!(differing, 0, "{policy:?}: of {images} images");
    }
}

#[test]
fn exits_that_no_image_can_leave_at_are_not_attacked() {
    let reachable = |rule| Deployed { policy: Policy { rule, ensemble: false }, exits: 4 }.reachable(10);
    assert_eq!(reachable(Rule::Fixed(2)), [2]);
    assert_eq!(reachable(Rule::Confidence(vec![0.5])), [0, 1, 2, 3]);
    assert_eq!(reachable(Rule::Confidence(vec![1.5, 0.5, 1.1])), [1, 3]);
    assert_eq!(reachable(Rule::Confidence(vec![0.5, 0.1, 0.5])), [0, 1]);
    assert_eq!(reachable(Rule::Patience(2)), [2, 3]);
    assert_eq!(reachable(Rule::Entropy(2.4)), [0]);
}

#[test]
fn a_deployed_system_is_at_most_as_robust_as_each_exit_that_can_be_reached() {
    let model = Tiny::random(SHAPE, 5, 4, 41);
    let frozen = Frozen::new(&model);
    let threat = Threat::linf(0.03);
    for policy in policies() {
        let of = answered(&model, 48, 3, 0);
        let scenario = Scenario::new(&frozen, &of, &threat, 2);
        let criterion = Criterion::Policy(policy.clone());
        let deployed = Attack::new(Objective::Policy, apgd(20)).with_policy(policy.clone());
        let attacked = run(&scenario, &deployed).unwrap();
        let broken = bools(criterion.broken(&attacked.logits, &of.labels));
        let clean = bools(criterion.broken(&frozen.forward(of.pixels.clone()), &of.labels));
        for (image, (broken, clean)) in broken.iter().zip(&clean).enumerate() {
            assert!(*broken || !clean, "{policy:?}: image {image} is wrong by itself, but not under attack");
        }
        // An image that some exit's own part of the attack breaks is broken by the whole.
        let system = Deployed { policy: policy.clone(), exits: 4 };
        for exit in system.reachable(5) {
            let aim = Aim::Leave { deployed: system.clone(), exit };
            let (pixels, _) = apgd(20).search(&scenario, &aim).unwrap();
            let alone = bools(criterion.broken(&frozen.forward(pixels), &of.labels));
            let missed = alone.iter().zip(&broken).filter(|(alone, whole)| **alone && !**whole).count();
            assert_eq!(missed, 0, "{policy:?}, exit {exit}");
        }
    }
}

#[test]
fn a_policy_that_always_leaves_at_one_exit_is_that_exit() {
    let model = Tiny::random(SHAPE, 5, 3, 42);
    let frozen = Frozen::new(&model);
    let of = answered(&model, 48, 3, 1);
    let set = AutoAttack {
        members: vec![apgd(30), Search::Pgd(Pgd { steps: 10, step_size: 0.01, random_start: true, restarts: 1 })],
    };
    let policy = Policy { rule: Rule::Fixed(1), ensemble: false };
    let fates = |criterion| set.run(&Scenario::new(&frozen, &of, &Threat::linf(0.03), 1), &criterion).unwrap();
    let (system, exit) = (fates(Criterion::Policy(policy)), fates(Criterion::Exit(1)));
    let robust = |standing: &neokd_attack::Standing| standing.survivors();
    assert_eq!(robust(&system), robust(&exit));
    assert!(!robust(&exit).is_empty() && robust(&exit).len() < 48);
}

#[test]
fn the_policy_objective_needs_a_policy_that_fits() {
    let model = Tiny::random(SHAPE, 3, 2, 1);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 2, 1, 0));
    let attack = Attack::new(Objective::Policy, apgd(1));
    let error =
        |attack: &Attack| run(&Scenario::new(&frozen, &of, &Threat::linf(0.1), 0), attack).map(|_| ()).unwrap_err();
    assert!(matches!(error(&attack), AttackError::NoPolicy));
    let wrong = attack.with_policy(Policy { rule: Rule::Fixed(7), ensemble: false });
    assert!(matches!(error(&wrong), AttackError::Misfit(_)));
    let few = Attack::new(Objective::Average, ApgdT { steps: 1, restarts: 1, targets: 9 });
    assert!(matches!(error(&few), AttackError::TooFewClasses { classes: 3, needed: 4 }));
}

#[test]
fn a_slow_down_makes_images_leave_later() {
    let weights: Vec<f32> = Numbers(6).list(16 * 5).into_iter().map(|weight| 8.0 * weight).collect();
    let at_grey: Vec<f32> =
        (0..5).map(|class| -0.5 * (0..16).map(|pixel| weights[pixel * 5 + class]).sum::<f32>()).collect();
    let model = (0..3).fold(Tiny::new(SHAPE, 5), |tiny, _| tiny.linear(&weights, &at_grey));
    let frozen = Frozen::new(&model);
    let of = answered(&model, 32, 2, 0);
    let confidence = |pixels: Tensor<4>| host(&softmax(frozen.forward_to(pixels, 0), 1).max_dim(1).mean())[0];
    for goal in [SlowdownGoal::Slow, SlowdownGoal::SlowAndWrong] {
        let pgd = Pgd { steps: 20, step_size: 0.01, random_start: false, restarts: 1 };
        let attack = Attack::new(Objective::Average, Slowdown::like(pgd, goal));
        let slowed = run(&Scenario::new(&frozen, &of, &Threat::linf(0.05), 1), &attack).unwrap();
        let (before, after) = (confidence(of.pixels.clone()), confidence(slowed.adversarial.pixels));
        assert!(after < 0.9 * before, "{goal:?}: {before} to {after}");
    }
}

#[test]
fn transfer_counts_add_up_over_batches_and_its_diagonal_is_the_single_attack() {
    let model = Tiny::random(SHAPE, 5, 3, 43);
    let (frozen, threat) = (Frozen::new(&model), Threat::linf(0.05));
    let of = answered(&model, 60, 3, 0);
    let search = Search::Pgd(Pgd { steps: 5, step_size: 0.02, random_start: true, restarts: 1 });
    let whole = Transfer::measure(&Scenario::new(&frozen, &of, &threat, 4), search).unwrap();
    let mut parts = Transfer::default();
    for start in 0..60 {
        let one = crate::networks::part(&of, start, start + 1);
        parts += Transfer::measure(&Scenario::new(&frozen, &one, &threat, 4), search).unwrap();
    }
    assert_eq!(whole, parts);

    let clean = frozen.forward(of.pixels.clone()).correct(&of.labels).into_data().convert::<i64>();
    let clean: Vec<i64> = clean.try_into_vec().unwrap();
    let counted: Vec<usize> = (0..60).filter(|image| (0..3).all(|exit| clean[exit * 60 + image] == 1)).collect();
    assert_eq!(whole.images as usize, counted.len());
    let outcome = run(&Scenario::new(&frozen, &of, &threat, 4), &Attack::new(Objective::Single(1), search)).unwrap();
    let answers: Vec<i64> =
        outcome.logits.get(2).unwrap().clone().argmax(1).into_data().convert::<i64>().try_into_vec().unwrap();
    let fooled = counted.iter().filter(|&&image| answers[image] as usize != labels(&of)[image]).count();
    assert_eq!(whole.fooled[1][2] as usize, fooled);
    assert!(frozen.exits() == 3 && whole.rates().unwrap()[0][0] > 0.0);
}
