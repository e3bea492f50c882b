//! Options of the training loop: resumable like everything else, and each does what it says.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use neokd_attack::{Batch, Objective, Pgd, Scenario, Threat};
use neokd_datasets::DataSplits;
use neokd_distill::{ExitLoss, Memory, PgdTe, cross_entropy, divergence};
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_model::{Frozen, ModelConfig, Network, SmallCnn, weights};
use neokd_train::RunConfig;
use neokd_train::options::ema::EmaConfig;
use neokd_train::options::training_attack::{AttackLoss, Climb, TrainingAttack, TrainingObjective, TrainingSearch};
use neokd_train::run::checkpoint::{self, Contents, TrainingState};

use crate::cases::{batch, host};
use crate::training::{metrics, train};

/// A small MSDNet, which has batch-norm; four steps in two epochs.
fn config(set: &[&str]) -> RunConfig {
    let text = r#"
        data = { name = "synthetic" }
        threat = { epsilon = 0.1 }
        [model]
        kind = "msdnet"
        blocks = 2
        base = 1
        step = 1
        channels = 4
        growth = 2
        growth_factors = [1, 2]
        bottleneck_factors = [1, 1]
        classes = 4
        image = 16
        [training]
        epochs = 2
        batch_size = 8
        steps_per_epoch = 2
        checkpoint_every_steps = 3
        attack = { kind = "fgsm-rs", objective = "average" }
        loss = { kind = "neo-kd" }
        optimizer = { kind = "sgd" }
        schedule = { kind = "cosine", rate = 0.05 }
        [validation]
        every_steps = 1
        images = 8
        transfer_images = 12
        probe = { every_steps = 2, images = 8, steps = 2 }
        [evaluation]
        batch_size = 5
        attack = { kind = "fgsm" }
    "#;
    RunConfig::parse("test", text, &set.iter().map(|change| change.to_string()).collect::<Vec<_>>()).unwrap()
}

fn data() -> DataSplits {
    neokd_datasets::synthetic(3, 32, 16, 16, [3, 16, 16], 4).unwrap()
}

#[derive(Debug, PartialEq)]
struct End {
    model: weights::TensorMap,
    average: Option<weights::TensorMap>,
    predictions: Option<weights::HostTensor>,
    best: Option<Vec<u8>>,
    metrics: String,
}

fn end(folder: &std::path::Path, state: &TrainingState) -> End {
    End {
        model: weights::collect(&state.model).unwrap(),
        average: state.average.as_ref().map(|average| weights::collect(average).unwrap()),
        predictions: state.predictions.as_ref().map(|kept| kept.to_host()),
        best: std::fs::read(folder.join("checkpoints/best.safetensors")).ok(),
        metrics: metrics(folder),
    }
}

#[test]
fn with_every_option_a_run_that_is_interrupted_anywhere_ends_the_same() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let averaged: &[&str] = &[
        "training.ema={ decay = 0.9 }",
        "training.awp={ gamma = 0.01 }",
        "training.cutmix={ probability = 0.7 }",
        "training.label_smoothing=0.1",
        "training.attack_mode=training",
        "training.passes=joint",
        "training.loss.partition={ redrawn = \"batch\" }",
        "validation.keep_best=true",
    ];
    let remembering: &[&str] = &[
        "training.loss={ kind = \"pgd-te\", ensemble = { start = 0.0, full = 0.5 } }",
        "training.attack={ kind = \"n-fgsm\", objective = \"max-average\" }",
        "validation.keep_best=true",
        "validation.patience=1",
    ];
    for (name, set) in [("averaged", averaged), ("remembering", remembering)] {
        let config = config(set);
        let whole = folder.path().join(name);
        let state = train(&config, &data, &whole, &Stop::default()).unwrap();
        let expected = end(&whole, &state);
        assert!(expected.metrics.contains("\"event\":\"probe\""));
        let count = |event: &str| expected.metrics.matches(&format!("\"event\":\"{event}\"")).count();
        assert_eq!(count("transfer"), count("epoch"));
        for step in 1..state.progress.step {
            let path = folder.path().join(format!("{name}-{step}"));
            let stopped = train(&config, &data, &path, &Stop::after_step(step));
            assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{name} {step}");
            let resumed = train(&config, &data, &path, &Stop::default()).unwrap();
            assert_eq!(end(&path, &resumed), expected, "{name}, step {step}");
        }
    }
}

#[test]
fn the_average_is_what_a_checkpoint_stands_for_and_both_networks_can_be_read() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let path = folder.path().join("run");
    let state = train(&config(&["training.ema={ decay = 0.9 }"]), &data, &path, &Stop::default()).unwrap();
    let (file, device) = (path.join("checkpoints/last.safetensors"), Device::flex());
    let read = |network: Network| weights::collect(&network).unwrap();
    let expected = weights::collect(state.average.as_ref().unwrap()).unwrap();
    assert_eq!(read(checkpoint::load_network(&file, &device).unwrap().1), expected);
    let last = weights::collect(&state.model).unwrap();
    assert_eq!(read(Contents::<ModelConfig>::read(&file).unwrap().last_network(&device).unwrap().1), last);
    assert_ne!(last, expected);
}

#[test]
fn an_average_of_equal_networks_is_that_network_and_forgets_at_its_rate() {
    let device = Device::flex();
    let (first, second) = (config(&[]).model.init(1, &device), config(&[]).model.init(2, &device));
    let ema = EmaConfig { decay: 0.75, warm_up: false };
    let value = |network: &Network| weights::collect(network).unwrap();
    let same = value(&ema.update(first.valid(), &first, 0));
    let mixed = value(&ema.update(first.valid(), &second, 0));
    for (name, tensor) in value(&first) {
        let other = &value(&second)[&name].values;
        for (at, own) in tensor.values.iter().enumerate() {
            assert!((same[&name].values[at] - own).abs() <= 1e-6 * own.abs(), "{name}");
            let expected = 0.75 * own + 0.25 * other[at];
            assert!((mixed[&name].values[at] - expected).abs() < 1e-5, "{name}");
        }
    }
}

#[test]
fn options_that_do_nothing_change_no_bit() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let ends = |name: &str, set: &[&str]| {
        let path = folder.path().join(name);
        let state = train(&config(set), &data, &path, &Stop::default()).unwrap();
        weights::collect(&state.model).unwrap()
    };
    let plain = ends("plain", &[]);
    // Averaging, probing and keeping the best look at the network and leave it alone.
    let watched =
        &["training.ema={ decay = 0.5 }", "validation.keep_best=true", "validation.probe={ when = \"never\" }"];
    assert_eq!(ends("watched", watched), plain);
    assert_ne!(ends("awp", &["training.awp={ gamma = 0.01 }"]), plain);
    assert_ne!(ends("smooth", &["training.label_smoothing=0.1"]), plain);
    assert_ne!(ends("mode", &["training.attack_mode=training"]), plain);
    assert_ne!(ends("joint", &["training.passes=joint"]), plain);
    // NEO-KD on two exits weighs 12 cross-entropies; no gradient is that long.
    assert_eq!(ends("weighed", &["training.loss_weight=12.0"]), plain);
    assert_ne!(ends("lighter", &["training.loss_weight=1.0"]), plain);
    assert_ne!(ends("clipped", &["training.clip_norm=0.1"]), plain);
    assert_ne!(ends("risen", &["training.warm_up=0.5"]), plain);
}

#[test]
fn a_rate_rises_to_its_schedule_and_a_gradient_is_cut_to_its_length() {
    let rates = |set: &[&str]| -> Vec<f64> { (0..4).map(|step| config(set).training.rate(step, 4)).collect() };
    let (plain, risen) = (rates(&[]), rates(&["training.warm_up=0.5"]));
    assert_eq!(risen, [0.5 * plain[0], plain[1], plain[2], plain[3]]);

    // Plain gradient descent moves by the rate times the gradient's length.
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    let moved = |name: &str, norm: &str| {
        let set = [
            "training.optimizer={ kind = \"sgd\", momentum = 0.0 }",
            "training.steps_per_epoch=1",
            "training.epochs=1",
            norm,
        ];
        let config = config(&set);
        let parameters = |model: &Network| weights::collect(model).unwrap();
        let before = parameters(&TrainingState::start(&config, &Device::flex()).model);
        let after = parameters(&train(&config, &data, &folder.path().join(name), &Stop::default()).unwrap().model);
        let learned = before.iter().filter(|(name, _)| !name.contains("running"));
        let squares = learned.flat_map(|(name, tensor)| {
            tensor.values.iter().zip(&after[name].values).map(|(old, new)| f64::from(new - old).powi(2))
        });
        squares.sum::<f64>().sqrt() / 0.05
    };
    let whole = moved("whole", "training.clip_norm=1e6");
    assert!(whole > 0.2, "{whole}");
    let cut = moved("cut", "training.clip_norm=0.1");
    assert!((cut - 0.1).abs() < 1e-3, "{cut}");
}

#[test]
fn a_network_that_is_trained_against_one_step_is_chosen_by_ten() {
    let steps = |set: &[&str]| config(set).validation_attack().search.method().budget(&Threat::linf(0.1)).steps;
    assert_eq!(steps(&[]), 10);
    assert_eq!(steps(&["training.attack={ kind = \"pgd\", steps = 1, step_size = 0.1 }"]), 10);
    assert_eq!(steps(&["training.attack={ kind = \"pgd\", steps = 3, step_size = 0.1 }"]), 3);
    let attack = "validation.attack={ kind = \"pgd\", steps = 20, step_size = 0.02, objective = \"max-average\" }";
    assert_eq!(steps(&[attack]), 20);
    assert_eq!(config(&[]).validation_attack().objective, Objective::Average);
}

#[test]
fn an_attack_in_training_mode_leaves_the_network_as_it_was() {
    let (device, data) = (Device::flex(), data());
    let model = config(&[]).model.init(1, &device).train();
    let images = neokd_evaluate::batches::collect(&data.train, &[0, 1, 2, 3], &device).unwrap().batch;
    let before = weights::collect(&model).unwrap();
    let frozen = Frozen::in_training_mode(&model);
    let attack =
        TrainingAttack { objective: Objective::default().into(), search: TrainingSearch::FgsmRs(Default::default()) };
    let moved =
        attack.perturb(&Scenario::new(&frozen, &images, &Threat::linf(0.1), 5), &Climb::default()).unwrap().pixels;
    assert_eq!(weights::collect(&model).unwrap(), before);
    // Batch-norm there does see the batch.
    let alone = frozen.forward(moved.clone().narrow(0, 0, 2)).into_last();
    let together = frozen.forward(moved).into_last().narrow(0, 0, 2);
    assert_ne!(host(&alone), host(&together));
}

/// Mean over images of what an attack on all exits is to raise.
fn raised(
    model: &Frozen<SmallCnn>,
    clean: &Batch,
    pixels: Tensor<4>,
    kl: bool,
    penalty: Option<(&PgdTe, Memory)>,
) -> f64 {
    let (before, after) = (model.forward(clean.pixels.clone()), model.forward(pixels));
    let exits = before.as_slice().iter().zip(after.as_slice()).enumerate();
    let values = exits.map(|(exit, (before, after))| {
        let loss = if kl { divergence(before, after) } else { cross_entropy(after, &clean.labels) };
        let more = penalty.map(|(of, memory)| of.penalty(exit, after, memory).unwrap());
        let sum = host(&loss).iter().sum::<f32>() + more.map_or(0.0, |more| host(&more).iter().sum::<f32>());
        f64::from(sum)
    });
    values.sum()
}

#[test]
fn an_attack_climbs_the_divergence_and_the_penalty_where_the_loss_asks_for_them() {
    let device = Device::flex();
    let (model, images) = (Frozen::new(&crate::cases::network(&device)), batch(6, &device));
    let pgd = Pgd { steps: 8, step_size: 0.02, random_start: true, restarts: 1 };
    let attack = TrainingAttack { objective: Objective::Average.into(), search: TrainingSearch::Pgd(pgd) };
    let threat = Threat::linf(0.1);
    let scenario = Scenario::new(&model, &images, &threat, 5);
    let averages: Vec<Tensor<2>> = model
        .forward(images.pixels.clone())
        .as_slice()
        .iter()
        .map(|exit| softmax(exit.clone().mul_scalar(3.0), 1))
        .collect();
    let te = PgdTe::default();
    let penalty = Some((&te as &(dyn ExitLoss + Send + Sync), Memory { averages: &averages, done: 0.99 }));
    let moved = |climb: &Climb<'_>| attack.perturb(&scenario, climb).unwrap().pixels;
    let plain = moved(&Climb::default());
    let kl = moved(&Climb { loss: AttackLoss::Kl, penalty: None });
    let held = moved(&Climb { loss: AttackLoss::CrossEntropy, penalty });
    let memory = Memory { averages: &averages, done: 0.99 };
    let with_kl = |pixels: &Tensor<4>| raised(&model, &images, pixels.clone(), true, None);
    let with_penalty = |pixels: &Tensor<4>| raised(&model, &images, pixels.clone(), false, Some((&te, memory)));
    assert!(with_kl(&kl) > with_kl(&plain), "{} {}", with_kl(&kl), with_kl(&plain));
    assert!(with_penalty(&held) > with_penalty(&plain), "{} {}", with_penalty(&held), with_penalty(&plain));
    // The clean image has no divergence from itself: without noise nothing would move.
    assert_ne!(host(&kl), host(&images.pixels));
    // Max-average tries every exit by itself.
    let whole =
        TrainingAttack { objective: Objective::MaxAverage.into(), search: TrainingSearch::Fgsm(Default::default()) };
    let change = whole.perturb(&scenario, &Climb { loss: AttackLoss::Kl, penalty: None }).unwrap();
    assert!(change.audit.largest > 0.09);
}

/// Each image is attacked as if its exit were the only one, whatever is beside it; another epoch draws other exits.
#[test]
fn a_random_exit_is_attacked_by_itself_and_is_drawn_per_image() {
    let device = Device::flex();
    let (model, images) = (Frozen::new(&crate::cases::network(&device)), batch(12, &device));
    let pgd = Pgd { steps: 3, step_size: 0.05, random_start: true, restarts: 1 };
    let on = |objective| TrainingAttack { objective, search: TrainingSearch::Pgd(pgd) };
    let threat = Threat::linf(0.1);
    let moved = |objective: TrainingObjective, batch: &Batch, key: u64| {
        let scenario = Scenario::new(&model, batch, &threat, key);
        let found = on(objective).perturb(&scenario, &Climb::default()).unwrap();
        (found.pixels.into_data().try_into_vec::<f32>().unwrap(), found.passes)
    };
    let image = 28 * 28;
    let singles = [0, 1, 2].map(|exit| moved(Objective::Single(exit).into(), &images, 5).0);
    let (mixed, passes) = moved(TrainingObjective::RandomExit, &images, 5);
    let drawn = |mixed: &[f32]| -> Vec<usize> {
        let of = |row: usize| {
            singles.iter().position(|single| single[row * image..][..image] == mixed[row * image..][..image])
        };
        (0..images.len()).map(|row| of(row).expect("an attack on a single exit")).collect()
    };
    let exits = drawn(&mixed);
    assert!((0..3).all(|exit| exits.contains(&exit)), "{exits:?}");
    assert_eq!(passes, moved(Objective::Single(2).into(), &images, 5).1);
    let some = images.pick(&[7, 2, 3]);
    let (part, _) = moved(TrainingObjective::RandomExit, &some, 5);
    for (at, row) in [7, 2, 3].into_iter().enumerate() {
        assert_eq!(part[at * image..][..image], mixed[row * image..][..image]);
    }
    assert_ne!(moved(TrainingObjective::RandomExit, &images, 6).0, mixed);
}

#[test]
fn n_fgsm_stays_among_pixels_and_goes_beyond_the_ball() {
    let device = Device::flex();
    let (model, images) = (crate::cases::network(&device), batch(6, &device));
    let attack =
        TrainingAttack { objective: Objective::default().into(), search: TrainingSearch::NFgsm(Default::default()) };
    let moved = attack
        .perturb(&Scenario::new(&Frozen::new(&model), &images, &Threat::linf(0.1), 5), &Climb::default())
        .unwrap()
        .pixels;
    let change: Vec<f32> = host(&(moved.clone() - images.pixels.clone()).abs());
    let largest = change.iter().copied().fold(0.0, f32::max);
    // Noise of twice epsilon and a step of one.
    assert!(largest > 0.2 && largest <= 0.3 + 1e-6, "{largest}");
    assert!(host(&moved).iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    let again = attack
        .perturb(&Scenario::new(&Frozen::new(&model), &images, &Threat::linf(0.1), 5), &Climb::default())
        .unwrap()
        .pixels;
    assert_eq!(host(&moved), host(&again));
}

#[test]
fn a_patient_run_ends_early_and_its_best_is_kept() {
    let (folder, data) = (tempfile::tempdir().unwrap(), data());
    // Nothing improves at a learning rate of almost zero.
    let set =
        ["validation.keep_best=true", "validation.patience=2", "training.schedule.rate=1e-12", "training.epochs=5"];
    let path = folder.path().join("run");
    let state = train(&config(&set), &data, &path, &Stop::default()).unwrap();
    let best = state.progress.best.unwrap();
    assert_eq!((best.step, best.looks_since, state.progress.step), (1, 2, 3));
    assert!(path.join("checkpoints/best.safetensors").exists());
}

/// FGSM without a random start at a large epsilon is the textbook case.
#[test]
fn a_run_that_overfits_catastrophically_raises_the_alarm_within_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let data = neokd_datasets::load("mnist", folder.path()).unwrap();
    let text = r#"
        model = { kind = "small-cnn", dropout = 0.0 }
        data = { name = "mnist" }
        threat = { epsilon = 0.3 }
        [training]
        epochs = 1
        batch_size = 16
        steps_per_epoch = 100
        attack = { kind = "fgsm", objective = "average" }
        loss = { kind = "adversarial-training" }
        optimizer = { kind = "adam" }
        schedule = { kind = "cosine", rate = 0.002 }
        [validation]
        every_steps = 0
        images = 8
        probe = { every_steps = 20, images = 32 }
        [evaluation]
        attack = { kind = "fgsm" }
    "#;
    let config = RunConfig::parse("test", text, &[]).unwrap();
    let state = train(&config, &data, &folder.path().join("run"), &Stop::default()).unwrap();
    assert!(state.progress.alarm.is_some(), "{}", metrics(&folder.path().join("run")));
}
