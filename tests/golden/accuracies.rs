//! Accuracies of published networks, clean and under reference attacks without random start.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use neokd_attack::{
    Apgd, ApgdCe, ApgdT, Attack, AutoAttack, Batch, Criterion, Fate, Objective, Pgd, Scenario, Threat, run,
};
use neokd_model::{ExitLogits, Frozen, Network};
use serde_json::Value;

use crate::cases::{Tensors, files, json};
use crate::networks::open;

const BATCH: usize = 64;

struct Case {
    network: Frozen<Network>,
    batches: Vec<Batch>,
    expected: Value,
}

impl Case {
    fn read(images: &Path) -> Self {
        let (device, io) = (Device::flex(), Tensors::read(images));
        let pixels: Tensor<4> = io.float::<4>("images", &device) / 255.0;
        let labels = io.int::<1>("labels", &device);
        let batch = |start: usize| {
            let length = BATCH.min(pixels.dims()[0] - start);
            let examples = (start as u64..(start + length) as u64).collect();
            let pixels = pixels.clone().narrow(0, start, length);
            Batch { pixels, labels: labels.clone().narrow(0, start, length), examples }
        };
        Self {
            network: Frozen::new(&open(images.parent().unwrap()).unwrap()),
            batches: (0..pixels.dims()[0]).step_by(BATCH).map(batch).collect(),
            expected: json(&images.with_extension("json")),
        }
    }

    /// Share of images that each exit classifies correctly, given the logits of each batch.
    fn accuracy(&self, logits: impl Fn(&Batch) -> ExitLogits) -> Vec<f64> {
        let (mut correct, mut all) = (vec![0; self.network.exits()], 0);
        for batch in &self.batches {
            let right: Vec<i64> =
                logits(batch).correct(&batch.labels).into_data().convert::<i64>().try_into_vec().unwrap();
            let per_exit = right.chunks(batch.len()).map(|exit| exit.iter().sum::<i64>());
            correct.iter_mut().zip(per_exit).for_each(|(sum, exit)| *sum += exit);
            all += batch.len();
        }
        correct.into_iter().map(|correct| correct as f64 / all as f64).collect()
    }

    /// The first so many images, in the batches in which they come.
    fn first(&self, images: usize) -> Vec<Batch> {
        let whole = self.batches.iter().scan(images, |left, batch| {
            let taken = batch.len().min(*left);
            *left -= taken;
            Some((batch, taken))
        });
        let cut = |(batch, taken): (&Batch, usize)| Batch {
            pixels: batch.pixels.clone().narrow(0, 0, taken),
            labels: batch.labels.clone().narrow(0, 0, taken),
            examples: batch.examples[..taken].to_vec(),
        };
        whole.filter(|(_, taken)| *taken > 0).map(cut).collect()
    }

    fn under(&self, objective: Objective) -> Vec<f64> {
        let number = |key: &str| self.expected[key].as_f64().unwrap();
        let (steps, step_size) = (number("pgd_steps") as usize, number("pgd_step_size"));
        let attack = Attack::new(objective, Pgd { steps, step_size, random_start: false, restarts: 1 });
        let threat = Threat::linf(number("eps"));
        self.accuracy(|batch| run(&Scenario::new(&self.network, batch, &threat, 0), &attack).unwrap().logits)
    }
}

fn cases() -> Vec<Case> {
    let images = files().into_iter().filter(|path| path.file_name().is_some_and(|name| name == "eval256.safetensors"));
    let cases: Vec<Case> = images.map(|path| Case::read(&path)).collect();
    if cases.is_empty() {
        eprintln!("golden accuracy: SKIPPED, no eval256.safetensors found");
    }
    cases
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn assert_within(what: &str, ours: &[f64], theirs: &[f64], points: f64) {
    eprintln!("golden accuracy, {what}: {ours:.4?}, reference {theirs:.4?}");
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let close = ours.iter().zip(theirs).all(|(our, their)| (our - their).abs() <= points / 100.0 + 5e-5);
    assert!(close, "{what}: {ours:?} instead of {theirs:?}");
}

/// Logits agree, so accuracies are the same to the last of their four digits.
#[test]
fn golden_clean_accuracy() {
    for case in cases() {
        let clean = case.accuracy(|batch| case.network.forward(batch.pixels.clone()));
        assert_within("clean", &clean, &numbers(&case.expected["clean"]), 0.0);
    }
}

#[test]
#[ignore = "takes minutes on a CPU; run with --ignored"]
fn golden_robust_accuracy() {
    for case in cases() {
        assert_within("average", &case.under(Objective::Average), &numbers(&case.expected["pgd20_average"]), 1.0);
        for (exit, expected) in case.expected["pgd20_single"].as_array().unwrap().iter().enumerate() {
            assert_within(&format!("single {exit}"), &case.under(Objective::Single(exit)), &numbers(expected), 1.0);
        }
        let expected = numbers(&case.expected["pgd20_max_average"]);
        assert_within("max-average", &case.under(Objective::MaxAverage), &expected, 1.0);
    }
}

/// Auto-PGD starts at random, so counts agree within 2 images. `NEOKD_GOLDEN_EXIT` picks one exit.
#[test]
#[ignore = "takes half an hour on a CPU; run with --ignored"]
fn golden_apgd_accuracy() {
    let (steps, restarts) = (100, 1);
    let members = vec![ApgdCe(Apgd { steps, restarts }).into(), ApgdT { steps, restarts, targets: 9 }.into()];
    let set = AutoAttack { members };
    let only = std::env::var("NEOKD_GOLDEN_EXIT").ok().map(|exit| format!("exit{exit}"));
    for case in cases() {
        let stored = case.expected["apgd"].as_object().unwrap();
        let images = stored["n"].as_u64().unwrap() as usize;
        let threat = Threat::linf(case.expected["eps"].as_f64().unwrap());
        for (name, expected) in stored.iter().filter(|(name, _)| name.starts_with("exit")) {
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let criterion = Criterion::Exit(name["exit".len()..].parse().unwrap());
            let run =
                |batch: &Batch| set.run(&Scenario::new(&case.network, batch, &threat, 0), &criterion).unwrap().fates;
            let fates: Vec<Fate> = case.first(images).iter().flat_map(run).collect();
            let left =
                |broken: &[Fate]| images as f64 - fates.iter().filter(|fate| broken.contains(fate)).count() as f64;
            let stages = [
                ("clean", left(&[Fate::WrongClean])),
                ("after_apgd_ce", left(&[Fate::WrongClean, Fate::Broken(0)])),
                ("after_apgd_t", left(&[Fate::WrongClean, Fate::Broken(0), Fate::Broken(1)])),
            ];
            for (stage, ours) in stages {
                let theirs = expected[stage].as_f64().unwrap();
                let close = if stage == "clean" { 0.0 } else { 2.0 };
                assert_within(&format!("{name} {stage}, images"), &[ours], &[theirs], 100.0 * close);
            }
        }
    }
}
