//! Attacks keep to their rules, leave the network alone and do not look at an image's neighbours.

use burn::tensor::Device;
use neokd_attack::{
    Aim, Apgd, ApgdCe, ApgdMargin, ApgdT, Attack, AttackError, Audit, AutoAttack, Batch, Criterion, Knobs, Loss, Norm,
    Objective, Pgd, Scenario, Search, Slowdown, SlowdownGoal, Threat, cross_entropy, run,
};
use neokd_datasets::Images;
use neokd_evaluate::Evaluation;
use neokd_evaluate::attack_run::AttackRun;
use neokd_evaluate::images::Source;
use neokd_model::{Frozen, MultiExit, SmallCnnConfig, weights};

use crate::cases::{batch, from_host, host, network, part};

const OBJECTIVES: [Objective; 3] = [Objective::Single(1), Objective::Average, Objective::MaxAverage];

fn pgd(steps: usize) -> Pgd {
    Pgd { steps, step_size: 0.05, random_start: true, restarts: 1 }
}

#[test]
fn an_attack_leaves_parameters_and_statistics_byte_identical() {
    let device = Device::flex();
    let model = network(&device);
    let before = weights::collect(&model).unwrap();
    let (frozen, images) = (Frozen::new(&model), batch(4, &device));
    for objective in OBJECTIVES {
        run(&Scenario::new(&frozen, &images, &Threat::linf(0.1), 1), &Attack::new(objective, pgd(2))).unwrap();
    }
    assert_eq!(before, weights::collect(&model).unwrap());
    assert_eq!(before, weights::collect(frozen.network()).unwrap());
}

#[test]
fn adversarial_images_are_the_same_bits_for_any_batch_size() {
    let device = Device::flex();
    let model = SmallCnnConfig::default().init(11, &device);
    let frozen = Frozen::new(&model);
    let all = batch(64, &device);
    for threat in [Threat::linf(0.1), Threat::l2(1.0)] {
        for objective in OBJECTIVES {
            let attack = Attack::new(objective, Pgd { restarts: 2, ..pgd(3) });
            let attacked = |batch: &Batch| {
                host(&run(&Scenario::new(&frozen, batch, &threat, 9), &attack).unwrap().adversarial.pixels)
            };
            let whole = attacked(&all);
            for size in [1, 2, 3, 5, 7, 33] {
                // The first parts make the point; all of them would only repeat it.
                for start in (0..64).step_by(size).take(3) {
                    let end = (start + size).min(64);
                    let apart = attacked(&part(&all, start, end));
                    let equal = apart == whole[start * 784..end * 784];
                    assert!(equal, "{threat:?} {objective}: images {start}..{end} alone get other bits");
                }
            }
        }
    }
}

#[test]
fn an_image_that_autoattack_does_not_break_is_kept_where_its_loss_is_largest() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(8, &device);
    // Nobody is wrong without an attack, and hardly anybody is broken so near.
    let labels = frozen.forward(images.pixels.clone()).as_slice()[0].clone().argmax(1).squeeze_dim::<1>(1);
    let images = Batch { labels, ..images };
    let apgd = Apgd { steps: 5, restarts: 1 };
    let set = AutoAttack { members: vec![ApgdCe(apgd).into(), ApgdMargin(apgd).into()] };
    let scenario = Scenario::new(&frozen, &images, &Threat::linf(0.002), 1);
    let found = set.run(&scenario, &Criterion::Exit(0)).unwrap();
    let loss =
        |pixels: &burn::tensor::Tensor<4>| host(&cross_entropy(&frozen.forward_to(pixels.clone(), 0), &images.labels));
    let survivors = found.survivors();
    assert!(!survivors.is_empty());
    let (before, after) = (loss(&images.pixels), loss(&found.pixels));
    for row in survivors {
        assert!(after[row] > before[row], "image {row}: {} is not above {}", after[row], before[row]);
    }
}

#[test]
fn the_average_is_broken_where_the_mean_cross_entropy_says_so() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(32, &device);
    let logits = frozen.forward(images.pixels.clone());
    let broken: Vec<bool> = Criterion::Average.broken(&logits, &images.labels).into_data().try_into_vec().unwrap();
    // Wrong is where another label would have a smaller mean cross-entropy.
    let classes = logits.as_slice()[0].dims()[1];
    let mean_loss = |labels: &burn::tensor::Tensor<1, burn::tensor::Int>| {
        let exits = logits.as_slice().iter().map(|exit| cross_entropy(exit, labels));
        host(&exits.reduce(|sum, exit| sum + exit).unwrap())
    };
    let of_label = |label: usize| {
        let labels = burn::tensor::Tensor::<1, burn::tensor::Int>::full([32], label as i64, &device);
        mean_loss(&labels)
    };
    let losses: Vec<Vec<f32>> = (0..classes).map(of_label).collect();
    let own = mean_loss(&images.labels);
    for (row, broken) in broken.into_iter().enumerate() {
        assert_eq!(broken, losses.iter().any(|loss| loss[row] < own[row]), "image {row}");
    }
}

#[test]
fn runs_that_share_searches_find_the_same_bits_as_alone() {
    let device = Device::flex();
    let frozen = Frozen::new(&SmallCnnConfig::default().init(11, &device));
    let data = neokd_datasets::load("mnist", std::path::Path::new("")).unwrap();
    let images = Source::from(&data.test as &dyn Images);
    let runs = [Objective::MaxAverage, Objective::Average, Objective::Single(0), Objective::Single(1)]
        .map(|objective| AttackRun::of(&Attack::new(objective, pgd(3)), &Threat::linf(0.1)));
    let evaluate = |runs: &[AttackRun]| {
        let whole = Evaluation::new(&frozen, &images, runs, 9, &device);
        Evaluation { count: 5, keep_pixels: true, ..whole }.run().unwrap().runs
    };
    for (run, together) in runs.iter().zip(evaluate(&runs)) {
        let alone = evaluate(std::slice::from_ref(run)).remove(0);
        assert!(!alone.pixels.is_empty());
        assert_eq!(alone.pixels, together.pixels, "{}", run.objective());
        // A single attack is a part of max-average: it is judged, not searched for again.
        let backward = match run.target {
            Objective::Single(_) => 0,
            _ => alone.passes.backward,
        };
        assert_eq!(together.passes.backward, backward, "{}", run.objective());
    }
}

#[test]
fn perturbations_stay_in_the_ball_and_in_the_pixel_cube() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(16, &device);
    for norm in [Norm::Linf, Norm::L2] {
        for epsilon in [0.0, 0.003, 0.3, 2.0] {
            let threat = Threat { norm, epsilon };
            for objective in OBJECTIVES {
                let attack = Attack::new(objective, Pgd { steps: 3, step_size: 0.7 * epsilon + 0.01, ..pgd(3) });
                let outcome = run(&Scenario::new(&frozen, &images, &threat, 2), &attack).unwrap();
                let audit = outcome.adversarial.audit;
                assert!(audit.largest <= epsilon + 4e-6, "{norm:?} {epsilon} {audit:?}");
                assert!(audit.lowest >= 0.0 && audit.highest <= 1.0);
                if epsilon == 0.0 {
                    assert_eq!(host(&outcome.adversarial.pixels), host(&images.pixels));
                }
            }
        }
    }
}

#[test]
fn a_broken_rule_is_an_error_and_not_a_number() {
    let device = Device::flex();
    let images = batch(2, &device);
    let shape = images.pixels.dims();
    let clean = host(&images.pixels);
    let check = |values: Vec<f32>, epsilon: f64| {
        Audit::check(&images, &from_host(values, shape, &device), &Threat::linf(epsilon))
    };
    let changed = |value: f32| {
        let mut values = clean.clone();
        values[900] = value;
        values
    };
    assert!(check(clean.clone(), 0.0).is_ok());
    assert!(matches!(check(changed(f32::NAN), 1.0), Err(AttackError::NotFinite)));
    assert!(matches!(check(changed(f32::INFINITY), 1.0), Err(AttackError::NotFinite)));
    assert!(matches!(check(changed(1.5), 9.0), Err(AttackError::OutOfRange { .. })));
    let far = if clean[900] > 0.5 { 0.0 } else { 1.0 };
    assert!(matches!(check(changed(far), 0.3), Err(AttackError::OutOfBall { .. })));
}

#[test]
fn attacks_raise_what_they_maximise() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(32, &device);
    let value = |aim: &Aim, pixels: &burn::tensor::Tensor<4>| {
        let logits = frozen.forward_at(pixels.clone(), &aim.exits(3));
        host(&aim.value(&Loss::CrossEntropy, &logits, &images.labels).mean())[0]
    };
    let threat = Threat::linf(0.1);
    for (objective, aim) in [(Objective::Single(2), Aim::Exit(2)), (Objective::Average, Aim::Average)] {
        let values: Vec<f32> = [1, 3, 9]
            .iter()
            .map(|&steps| {
                let pgd = Pgd { steps, step_size: 0.1 / steps as f64 * 1.5, random_start: false, restarts: 1 };
                let outcome = run(&Scenario::new(&frozen, &images, &threat, 0), &Attack::new(objective, pgd)).unwrap();
                value(&aim, &outcome.adversarial.pixels)
            })
            .collect();
        assert!(value(&aim, &images.pixels) <= values[0], "{objective}: {values:?}");
        assert!(values[0] <= values[2], "{objective}: {values:?}");
    }
}

#[test]
fn max_average_is_per_image_the_worst_single_attack() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(12, &device);
    let damage = |objective| {
        let attack = Attack::new(objective, pgd(3));
        let outcome = run(&Scenario::new(&frozen, &images, &Threat::linf(0.2), 4), &attack).unwrap();
        host(&Aim::Average.value(&Loss::CrossEntropy, &outcome.logits, &images.labels))
    };
    let single: Vec<Vec<f32>> = (0..3).map(|exit| damage(Objective::Single(exit))).collect();
    let worst: Vec<f32> = (0..12).map(|image| single.iter().map(|exit| exit[image]).fold(f32::MIN, f32::max)).collect();
    assert_eq!(damage(Objective::MaxAverage), worst);
}

#[test]
fn more_restarts_never_lower_the_objective() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(16, &device);
    let values = |restarts| {
        let attack = Attack::new(Objective::Average, Pgd { restarts, ..pgd(1) });
        let outcome = run(&Scenario::new(&frozen, &images, &Threat::linf(0.1), 3), &attack).unwrap();
        host(&Aim::Average.value(&Loss::CrossEntropy, &outcome.logits, &images.labels))
    };
    let (one, three) = (values(1), values(3));
    assert!(one.iter().zip(&three).all(|(one, three)| three >= one));
    assert!(one.iter().zip(&three).any(|(one, three)| three > one), "restarts changed nothing");
}

#[test]
fn passes_are_counted_as_spent() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(5, &device);
    let spent = |objective| {
        let attack = Attack::new(objective, Pgd { steps: 4, restarts: 1, ..pgd(4) });
        let passes = run(&Scenario::new(&frozen, &images, &Threat::linf(0.1), 3), &attack).unwrap().adversarial.passes;
        (passes.forward / 5, passes.backward / 5)
    };
    assert_eq!(spent(Objective::Average), (4 + 1, 4));
    assert_eq!(spent(Objective::Single(0)), (4 + 1, 4));
    assert_eq!(spent(Objective::MaxAverage), (3 * (4 + 1) + 1, 3 * 4));
}

#[test]
fn an_exit_that_does_not_exist_is_an_error() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let attack = Attack::new(Objective::Single(3), pgd(1));
    let error =
        run(&Scenario::new(&frozen, &batch(1, &device), &Threat::linf(0.1), 0), &attack).map(|_| ()).unwrap_err();
    assert!(matches!(error, AttackError::NoSuchExit { exit: 3, exits: 3 }));
}

#[test]
fn criteria_agree_with_counting_by_hand() {
    let device = Device::flex();
    let frozen = Frozen::new(&network(&device));
    let images = batch(40, &device);
    let logits = frozen.forward(images.pixels.clone());
    let correct: Vec<i64> = logits.correct(&images.labels).into_data().convert::<i64>().try_into_vec().unwrap();
    let broken = |criterion: Criterion| -> Vec<bool> {
        criterion.broken(&logits, &images.labels).into_data().convert::<bool>().try_into_vec().unwrap()
    };
    let (one, any, all) = (broken(Criterion::Exit(1)), broken(Criterion::AnyExit), broken(Criterion::AllExits));
    for image in 0..40 {
        let exits: Vec<bool> = (0..3).map(|exit| correct[exit * 40 + image] == 0).collect();
        assert_eq!(one[image], exits[1]);
        assert_eq!(any[image], exits.contains(&true));
        assert_eq!(all[image], !exits.contains(&false));
    }
    assert_eq!(frozen.exits(), frozen.network().exits());
}

#[test]
fn an_attack_reads_what_it_writes_and_refuses_keys_that_it_does_not_know() {
    for kind in Search::KINDS {
        let search = Search::named(kind, &Knobs::default(), &Threat::linf(0.1)).unwrap();
        let attack = Attack::new(Objective::Average, search);
        let text = toml::to_string(&attack).unwrap();
        assert!(text.contains(&format!("kind = \"{kind}\"")), "{text}");
        assert_eq!(toml::from_str::<Attack>(&text).unwrap(), attack, "{text}");
        assert_eq!(serde_json::from_value::<Attack>(serde_json::to_value(&attack).unwrap()).unwrap(), attack);
        let error = toml::from_str::<Attack>(&format!("{text}stepps = 3\n")).unwrap_err().to_string();
        assert!(error.contains("stepps"), "{kind}: {error}");
    }
    let read = |text: &str| toml::from_str::<Attack>(text);
    let pgd = Pgd { step_size: 2.0 / 255.0, steps: 7, random_start: true, restarts: 1 };
    assert_eq!(
        read("kind = \"pgd\"\nsteps = 7\nstep_size = \"2/255\"").unwrap(),
        Attack::new(Objective::MaxAverage, pgd)
    );
    let targeted = ApgdT { steps: 100, restarts: 1, targets: 9 };
    assert_eq!(
        read("kind = \"apgd-t\"\nobjective = \"single:2\"").unwrap(),
        Attack::new(Objective::Single(2), targeted)
    );
    let slow = "kind = \"slowdown\"\nsteps = 7\nstep_size = 0.1\n";
    assert_eq!(read(slow).unwrap().search, Slowdown::like(Pgd { step_size: 0.1, ..pgd }, SlowdownGoal::Slow).into());
    let error = read(&format!("{slow}objective = \"average\"")).unwrap_err().to_string();
    assert!(error.contains("unknown field `objective`"), "{error}");
}

#[test]
fn no_two_attacks_draw_the_same_random_numbers() {
    let numbers = Search::KINDS
        .iter()
        .filter(|kind| **kind != "fgsm")
        .map(|kind| Search::named(kind, &Knobs::default(), &Threat::linf(0.1)).unwrap().number());
    let numbers: Vec<u64> = numbers.collect();
    let different: std::collections::BTreeSet<&u64> = numbers.iter().collect();
    assert_eq!(different.len(), numbers.len(), "{numbers:?}");
}
