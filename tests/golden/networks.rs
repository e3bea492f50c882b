//! Networks: logits, attacked images, costs.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use neokd_attack::{Attack, Batch, Objective, Pgd, Scenario, Threat, cross_entropy, run};
use neokd_model::{Frozen, ModelConfig, MultiExit, Network, weights};
use serde_json::Value;

use crate::cases::{Tensors, assert_close, files, host, json, largest_difference};

#[test]
fn golden_networks() {
    let (mut checked, mut skipped) = (0, 0);
    for model in model_files() {
        let folder = model.parent().unwrap();
        match open(folder) {
            Ok(network) => {
                check(folder, &network);
                eprintln!("golden network {}: passed", folder.display());
                checked += 1;
            }
            Err(why) => {
                eprintln!("golden network {}: SKIPPED, {why}", folder.display());
                skipped += 1;
            }
        }
    }
    assert!(checked > 0, "no golden network ran ({skipped} skipped)");
}

fn model_files() -> impl Iterator<Item = PathBuf> {
    files().into_iter().filter(|path| path.file_name().is_some_and(|name| name == "model.toml"))
}

pub(crate) fn open(folder: &Path) -> Result<Network, String> {
    let text = std::fs::read_to_string(folder.join("model.toml")).unwrap();
    let config: ModelConfig = toml::from_str(&text).map_err(|error| error.message().to_string())?;
    let file = weight_files(folder).into_iter().next().ok_or("no weights.safetensors and no *.pth.tar")?;
    Ok(read(&config, &file))
}

/// Files that hold the weights of a case, `weights.safetensors` first.
fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_weights = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name == "weights.safetensors")
            || path.to_string_lossy().ends_with(".pth.tar")
    };
    let mut files: Vec<PathBuf> = entries.filter(is_weights).collect();
    files.sort_by_key(|path| path.to_string_lossy().ends_with(".pth.tar"));
    files
}

fn read(config: &ModelConfig, file: &Path) -> Network {
    let wanted = weights::pytorch_shapes(config, &Device::flex()).unwrap();
    let read = weights::read_pytorch(file, &wanted, None).unwrap();
    assert!(
        read.integers.iter().all(|name| name.ends_with(".num_batches_tracked")),
        "{}: skipped {:?}",
        file.display(),
        read.integers
    );
    weights::from_pytorch(config, read.tensors, &Device::flex()).unwrap()
}

#[test]
fn golden_checkpoints_equal_safetensors() {
    for model in model_files() {
        let folder = model.parent().unwrap();
        let files = weight_files(folder);
        if files.len() < 2 {
            eprintln!("golden weight files {}: SKIPPED, only one", folder.display());
            continue;
        }
        let config: ModelConfig = toml::from_str(&std::fs::read_to_string(&model).unwrap()).unwrap();
        let networks = files.iter().map(|file| weights::collect(&read(&config, file)).unwrap());
        let networks: Vec<weights::TensorMap> = networks.collect();
        assert!(networks.windows(2).all(|pair| pair[0] == pair[1]), "{}: files differ", folder.display());
        eprintln!("golden weight files {}: {} are equal", folder.display(), files.len());
    }
}

fn check(folder: &Path, network: &Network) {
    let device = Device::flex();
    let (io, meta) = (Tensors::read(&folder.join("io.safetensors")), json(&folder.join("meta.json")));
    let images: Tensor<4> = io.float("images", &device);
    let examples = (0..images.dims()[0] as u64).collect();
    let batch = Batch { pixels: images, labels: io.int("labels", &device), examples };
    let frozen = Frozen::new(network);

    let logits = frozen.forward(batch.pixels.clone());
    for (exit, ours) in logits.as_slice().iter().enumerate() {
        let name = format!("logits.{exit}");
        assert_close(&name, &host(ours), io.values(&name), 1e-4);
        eprintln!("  {name}: largest difference {:.1e}", largest_difference(&host(ours), io.values(&name)));
        let prefix = host(&frozen.forward_to(batch.pixels.clone(), exit));
        assert_close(&format!("prefix of {name}"), &prefix, &host(ours), 1e-6);
        check_gradient(exit, &frozen, &batch, &io);
    }
    check_costs(network, &meta);
    check_entropy("clean", &frozen, &batch, &batch.pixels, &meta);
    for name in io.names().filter(|name| name.contains(".steps") && io.shape(name).len() == 4) {
        check_attack(name, &frozen, &batch, &io, &meta);
    }
}

/// Gradient of the summed cross-entropy of one exit with respect to the images, where it is given.
fn check_gradient(exit: usize, frozen: &Frozen<Network>, batch: &Batch, io: &Tensors) {
    let name = format!("grad.{exit}");
    if !io.has(&name) {
        return;
    }
    let images = batch.pixels.clone().autodiff().require_grad();
    let labels = Tensor::from_data(batch.labels.to_data(), &images.device());
    let gradients = cross_entropy(&frozen.forward_to(images.clone(), exit), &labels).sum().backward();
    let (ours, theirs) = (host(&images.grad(&gradients).unwrap()), io.values(&name));
    let largest = theirs.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let scaled = |values: &[f64]| values.iter().map(|value| value / largest).collect::<Vec<f64>>();
    assert_close(&name, &scaled(&ours), &scaled(theirs), 1e-3);
    let difference = largest_difference(&scaled(&ours), &scaled(theirs));
    eprintln!("  {name}: largest difference {difference:.1e} of the largest magnitude");
}

fn check_costs(network: &Network, meta: &Value) {
    let costs = network.costs();
    let compare = |key: &str, ours: Vec<u64>| {
        if let Some(theirs) = meta.get(key).and_then(Value::as_array) {
            let theirs: Vec<u64> = theirs.iter().map(|value| value.as_f64().unwrap() as u64).collect();
            assert_eq!(ours, theirs, "{key}");
        }
    };
    compare("flops", costs.iter().map(|cost| cost.multiply_adds).collect());
    compare("params", costs.iter().map(|cost| cost.parameters).collect());
}

fn check_attack(name: &str, frozen: &Frozen<Network>, batch: &Batch, io: &Tensors, meta: &Value) {
    let (objective, steps) = name.rsplit_once(".steps").unwrap();
    let attacked = match objective.strip_prefix("single.") {
        Some(exit) => Objective::Single(exit.parse().unwrap()),
        None if objective == "average" => Objective::Average,
        None => Objective::MaxAverage,
    };
    let number = |key: &str| meta[key].as_f64().unwrap();
    let pgd = Pgd { steps: steps.parse().unwrap(), step_size: number("step"), random_start: false, restarts: 1 };
    let threat = Threat::linf(number("eps"));
    let outcome = run(&Scenario::new(frozen, batch, &threat, 0), &Attack::new(attacked, pgd)).unwrap();

    let (ours, theirs) = (host(&outcome.adversarial.pixels), io.values(name));
    let equal = ours.iter().zip(theirs).filter(|(our, their)| (*our - *their).abs() < 1e-5).count();
    let share = equal as f64 / ours.len() as f64;
    eprintln!("  {name}: {:.3} % of the pixels are equal", 100.0 * share);
    assert!(share >= 0.995, "{name}: only {:.3} % of the pixels are equal", 100.0 * share);
    check_entropy(&name.replace('.', "_"), frozen, batch, &outcome.adversarial.pixels, meta);
}

/// Mean cross-entropy per exit against `meta.json`, where it is given.
fn check_entropy(name: &str, frozen: &Frozen<Network>, batch: &Batch, pixels: &Tensor<4>, meta: &Value) {
    let Some(theirs) = meta["cross_entropy"].get(name).and_then(Value::as_array) else {
        return;
    };
    let logits = frozen.forward(pixels.clone());
    let ours: Vec<f64> =
        logits.as_slice().iter().map(|exit| host(&cross_entropy(exit, &batch.labels).mean())[0]).collect();
    let theirs: Vec<f64> = theirs.iter().map(|value| value.as_f64().unwrap()).collect();
    assert_close(&format!("cross-entropy {name}"), &ours, &theirs, 1e-3);
}

#[test]
fn golden_max_average_picks() {
    for path in files().into_iter().filter(|path| path.file_name().is_some_and(|name| name == "io.safetensors")) {
        let (folder, io) = (path.parent().unwrap(), Tensors::read(&path));
        let Ok(network) = open(folder) else {
            eprintln!("golden picks {}: SKIPPED, network not available", folder.display());
            continue;
        };
        if !io.has("max_average.pick.steps3") {
            continue;
        }
        let (device, meta) = (Device::flex(), json(&folder.join("meta.json")));
        let images: Tensor<4> = io.float("images", &device);
        let examples = (0..images.dims()[0] as u64).collect();
        let batch = Batch { pixels: images, labels: io.int("labels", &device), examples };
        let frozen = Frozen::new(&network);
        let step = meta["step"].as_f64().unwrap();
        let pgd = Pgd { steps: 3, step_size: step, random_start: false, restarts: 1 };
        let threat = Threat::linf(meta["eps"].as_f64().unwrap());
        let damage: Vec<Vec<f64>> = (0..frozen.exits())
            .map(|exit| {
                let attack = Attack::new(Objective::Single(exit), pgd);
                let outcome = run(&Scenario::new(&frozen, &batch, &threat, 0), &attack).unwrap();
                let exits = outcome.logits.as_slice();
                let sum =
                    exits.iter().map(|logits| cross_entropy(logits, &batch.labels)).reduce(|sum, exit| sum + exit);
                host(&sum.unwrap().div_scalar(exits.len() as f64))
            })
            .collect();
        assert_close("max_average.losses", &damage.concat(), io.values("max_average.losses.steps3"), 1e-3);
        let picks = (0..batch.len()).map(|image| {
            (0..damage.len()).fold(0, |best, exit| if damage[exit][image] > damage[best][image] { exit } else { best })
        });
        let ours: Vec<f64> = picks.map(|exit| exit as f64).collect();
        assert_close("max_average.pick", &ours, io.values("max_average.pick.steps3"), 0.0);
        eprintln!("golden picks {}: passed", folder.display());
    }
}
