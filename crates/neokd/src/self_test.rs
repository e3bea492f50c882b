//! The device self-test: small computations on a device, held against the CPU's (Flex).
//!
//! Written after an attack that was wrong on a GPU while every operation by itself was right: under Burn's fusion a
//! kernel read the gradient of a convolution, whose strides are channels-last, as row-major (docs/gpu.md). So the
//! operations are checked one by one, and then in the chains in which they are used.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use neokd_attack::{Attack, Batch, Objective, Pgd, Scenario, Threat};
use neokd_distill::{Draw, LossConfig, LossInput, NeoKdConfig};
use neokd_evaluate::Error;
use neokd_model::{Frozen, ModelConfig, MultiExit, weights};
use neokd_train::training::optimizer::{Optimizer, OptimizerConfig};

use crate::gpu_cache;

/// How far a device may be from the CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Largest difference, as a share of the largest value: rounding, and 19-bit products (tf32) in tensor cores.
    Relative(f32),
    /// Share of values that must be equal to 1e-5; a gradient's sign may differ where the gradient is near zero.
    Equal(f64),
}

/// One computation.
pub struct Check {
    /// What it is called in messages.
    pub name: &'static str,
    tolerance: Tolerance,
    compute: Box<Compute>,
}

type Compute = dyn Fn(&Device) -> Result<Vec<f32>, Error>;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Name of the check.
    pub name: &'static str,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Largest relative difference, or the share of equal values.
    pub found: f64,
    /// Whether it is within the tolerance.
    pub passed: bool,
}

impl Finding {
    /// What was found, beside what is asked for.
    pub fn describe(&self) -> String {
        match self.tolerance {
            Tolerance::Relative(most) => format!("largest difference {:.1e}, allowed {most:.0e}", self.found),
            Tolerance::Equal(least) => {
                format!("{:.2} % equal, at least {:.1} % asked for", 100.0 * self.found, 100.0 * least)
            }
        }
    }
}

/// Runs every check on `device` and on `reference`, and tells `say` each finding.
///
/// # Errors
/// [`Error::WrongDevice`] names the first check that failed; other errors come from the computations.
pub fn run(
    device: &Device,
    reference: &Device,
    say: &mut dyn FnMut(&Finding) -> Result<(), Error>,
) -> Result<usize, Error> {
    run_checks(checks(&step, usize::MAX), device, reference, say)
}

/// Runs the checks that are quick to compile (operations, the chain of an attack, the smallest network), unless this build
/// has passed them on this device before, as a file in `cache` says; `say` hears what is going on.
///
/// # Errors
/// As [`run`].
pub fn once(
    name: &str,
    device: &Device,
    reference: &Device,
    cache: Option<&Path>,
    say: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    once_of(checks(&step, 1), (name, device, reference), cache, say)
}

fn once_of(
    checks: Vec<Check>,
    (name, device, reference): (&str, &Device, &Device),
    cache: Option<&Path>,
    say: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let passed = cache.map(|folder| folder.join(format!("{}.passed", fingerprint(name))));
    if passed.as_ref().is_some_and(|file| file.exists()) {
        return Ok(());
    }
    let (of, started) = (checks.len(), Instant::now());
    say(&format!("self-test: first use of {name} by this build; {of} computations are held against the CPU"))?;
    let (mut done, mut last) = (0, Instant::now());
    run_checks(checks, device, reference, &mut |finding| {
        done += 1;
        if last.elapsed().as_secs() >= 10 {
            last = Instant::now();
            say(&format!("self-test: {done} of {of} done ({}), {} s", finding.name, started.elapsed().as_secs()))?;
        }
        Ok(())
    })?;
    say(&format!("self-test: passed in {} s", started.elapsed().as_secs()))?;
    // Where it cannot be written down the next process tests again.
    if let Some(file) = passed {
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = neokd_evaluate::files::write_atomically(&file, format!("{name}\n").as_bytes());
    }
    Ok(())
}

/// What a passed self-test is of: device, driver, GPU models and build.
fn fingerprint(name: &str) -> String {
    let mut text = format!("{name}\n{}\n{}\n", gpu_cache::driver(), gpu_cache::models().join("\n"));
    let program = std::env::current_exe().and_then(|path| path.metadata());
    if let Ok(program) = program {
        text += &format!("{} {:?} {}", program.len(), program.modified().ok(), neokd_evaluate::VERSION);
    }
    neokd_datasets::sha256_hex(text.as_bytes())
}

fn run_checks(
    checks: Vec<Check>,
    device: &Device,
    reference: &Device,
    say: &mut dyn FnMut(&Finding) -> Result<(), Error>,
) -> Result<usize, Error> {
    let count = checks.len();
    for check in checks {
        let finding = check.compare(&(check.compute)(reference)?, &(check.compute)(device)?);
        say(&finding)?;
        if !finding.passed {
            return Err(Error::WrongDevice(format!(
                "self-test: {} is wrong on this device ({}); its results cannot be trusted. Use another --device, or \
                 a build without the feature fusion-experimental",
                finding.name,
                finding.describe()
            )));
        }
    }
    Ok(count)
}

impl Check {
    fn compare(&self, expected: &[f32], found: &[f32]) -> Finding {
        let same_length = expected.len() == found.len();
        let pairs = || expected.iter().zip(found);
        let (found, passed) = match self.tolerance {
            Tolerance::Relative(most) => {
                let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
                // A NaN is the largest difference there is, not one that max passes over.
                let difference =
                    pairs().map(|(a, b)| (a - b).abs()).map(|d| if d.is_nan() { f32::INFINITY } else { d });
                let difference = difference.fold(0.0, f32::max) / largest;
                (f64::from(difference), difference <= most)
            }
            Tolerance::Equal(least) => {
                let equal = pairs().filter(|(a, b)| (*a - *b).abs() < 1e-5).count();
                let share = equal as f64 / expected.len().max(1) as f64;
                (share, share >= least)
            }
        };
        Finding { name: self.name, tolerance: self.tolerance, found, passed: passed && same_length }
    }
}

/// A step of a sign attack: from pixels and their gradient to pixels in the ball and in `[0, 1]`.
type Step = dyn Fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>;

fn step(clean: Tensor<4>, pixels: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
    let moved = pixels + gradient.sign().mul_scalar(0.07);
    (clean.clone() + (moved - clean).clamp(-0.1, 0.1)).clamp(0.0, 1.0)
}

/// Odd sizes, so that nothing fits a tile by chance: batch, channels, height, width.
const SHAPES: [[usize; 4]; 3] = [[7, 3, 9, 11], [1, 1, 28, 28], [33, 5, 6, 6]];

/// Operations, the chain of an attack, and so many backbones, the smallest first.
fn checks(step: &'static Step, networks: usize) -> Vec<Check> {
    let mut checks = operations();
    checks.push(check("gradient of a convolution into sign, step and projection", Tolerance::Equal(0.99), |device| {
        let mut all = Vec::new();
        for shape in SHAPES {
            let clean = pixels(shape, device);
            let mut moved = clean.clone();
            for _ in 0..3 {
                moved = step(clean.clone(), moved.clone(), convolution_gradient(moved, device)?);
            }
            all.extend(host(moved)?);
        }
        Ok(all)
    }));
    for (name, model) in backbones().into_iter().take(networks) {
        checks.extend(of_network(name, model));
    }
    checks
}

fn check(
    name: &'static str,
    tolerance: Tolerance,
    compute: impl Fn(&Device) -> Result<Vec<f32>, Error> + 'static,
) -> Check {
    Check { name, tolerance, compute: Box::new(compute) }
}

/// Each operation alone.
fn operations() -> Vec<Check> {
    let exact = Tolerance::Relative(1e-6);
    let rounded = Tolerance::Relative(1e-4);
    let products = Tolerance::Relative(5e-3);
    vec![
        check("clamp", exact, |device| host(pixels(SHAPES[0], device).clamp(0.2, 0.7))),
        check("concatenation and slices", exact, |device| {
            let whole = Tensor::cat(vec![pixels(SHAPES[0], device), pixels(SHAPES[0], device).neg()], 1);
            host(whole.narrow(1, 2, 3).permute([0, 2, 3, 1]))
        }),
        check("selection of rows", exact, |device| {
            let rows = Tensor::<1, Int>::from_data(TensorData::from([6i64, 0, 3, 3]), device);
            host(pixels(SHAPES[0], device).select(0, rows))
        }),
        check("masks", exact, |device| {
            let image = pixels(SHAPES[0], device);
            host(image.clone().mask_where(image.clone().greater_elem(0.5), image.neg()))
        }),
        check("largest and smallest", exact, |device| {
            let image = pixels(SHAPES[0], device);
            host(Tensor::cat(vec![image.clone().max_dim(3), image.min_dim(3)], 1))
        }),
        check("sums", rounded, |device| host(pixels(SHAPES[2], device).sum_dim(1).sum_dim(2))),
        check("softmax and gather", rounded, |device| {
            let logits = pixels([13, 17, 1, 1], device).reshape([13, 17]).mul_scalar(9.0);
            let labels: Vec<i64> = (0..13).map(|image| image * 5 % 17).collect();
            let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [13, 1]), device);
            host(log_softmax(logits, 1).gather(1, labels))
        }),
        check("matrix product", products, |device| {
            let (left, right) = (pixels([19, 37, 1, 1], device), pixels([37, 23, 1, 1], device));
            host(left.reshape([19, 37]).matmul(right.reshape([37, 23])))
        }),
        check("convolution", products, |device| {
            let mut all = Vec::new();
            for shape in SHAPES {
                all.extend(host(convolution(pixels(shape, device), device))?);
            }
            Ok(all)
        }),
        check("largest of windows", exact, |device| host(neokd_kernels::max_pool_2x2(pixels(SHAPES[2], device)))),
        check("gradient of a convolution", products, |device| {
            let mut all = Vec::new();
            for shape in SHAPES {
                all.extend(host(convolution_gradient(pixels(shape, device), device)?)?);
            }
            Ok(all)
        }),
    ]
}

/// Logits, a PGD run in both norms and a training step.
fn of_network(name: [&'static str; 4], model: ModelConfig) -> Vec<Check> {
    let (logits, linf, l2, training) = (model.clone(), model.clone(), model.clone(), model);
    let attack = |model: ModelConfig, threat: Threat, step_size: f64| {
        move |device: &Device| {
            let frozen = Frozen::new(&model.init(3, device));
            let pgd = Pgd { steps: 5, step_size, random_start: true, restarts: 1 };
            let (batch, attack) = (batch(&model, 9, device), Attack::new(Objective::MaxAverage, pgd));
            host(neokd_attack::run(&Scenario::new(&frozen, &batch, &threat, 1), &attack)?.adversarial.pixels)
        }
    };
    vec![
        check(name[0], Tolerance::Relative(1e-2), move |device| {
            let logits = Frozen::new(&logits.init(3, device)).forward(batch(&logits, 9, device).pixels);
            host(Tensor::cat(logits.as_slice().to_vec(), 1))
        }),
        // Signs that differ where a gradient is near zero add up over the steps.
        check(name[1], Tolerance::Equal(0.9), attack(linf, Threat::linf(0.1), 0.03)),
        check(name[2], Tolerance::Relative(5e-2), attack(l2, Threat::l2(0.5), 0.1)),
        check(name[3], Tolerance::Relative(1e-2), move |device| training_step(&training, device)),
    ]
}

fn backbones() -> Vec<([&'static str; 4], ModelConfig)> {
    let named = |toml: &str| toml::from_str::<ModelConfig>(toml).ok();
    let all = [
        (
            ["small-cnn: logits", "small-cnn: PGD, Linf", "small-cnn: PGD, L2", "small-cnn: a training step"],
            named("kind = \"small-cnn\"\ndropout = 0.0"),
        ),
        (
            ["msdnet: logits", "msdnet: PGD, Linf", "msdnet: PGD, L2", "msdnet: a training step"],
            named(
                "kind = \"msdnet\"\nclasses = 10\nimage = 32\nblocks = 2\nbase = 2\nstep = 1\nchannels = 8\ngrowth = 4",
            ),
        ),
        (
            ["rdi-resnet: logits", "rdi-resnet: PGD, Linf", "rdi-resnet: PGD, L2", "rdi-resnet: a training step"],
            named("kind = \"rdi-resnet\"\nclasses = 10"),
        ),
    ];
    all.into_iter().filter_map(|(name, model)| Some((name, model?))).collect()
}

fn training_step(config: &ModelConfig, device: &Device) -> Result<Vec<f32>, Error> {
    let batch = batch(config, 9, device);
    let model = config.init(3, device).train();
    let (clean, attacked) = (model.forward(batch.pixels.clone()), model.forward(batch.pixels.clone().mul_scalar(0.9)));
    let loss = LossConfig::NeoKd(NeoKdConfig::default()).init(config.exits()).map_err(Error::Config)?;
    let labels: Vec<usize> = (0..9).map(|image| image % config.classes()).collect();
    let draw = Draw { run: 1, epoch: 1, step: 1, examples: &batch.examples, labels: &labels };
    let terms = loss.terms(LossInput::new(clean.as_slice(), attacked.as_slice(), &batch.labels, draw));
    let gradients = GradientsParams::from_grads(terms.total().backward(), &model);
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
    let model = Optimizer::new(&sgd).step(0.01, model, gradients);
    let tensors = weights::collect(&model).map_err(|error| Error::Device(error.to_string()))?;
    Ok(tensors.into_values().flat_map(|tensor| tensor.values).collect())
}

/// Two layers, so that the gradient of the first comes out of the second in whatever layout the device likes.
fn convolution(input: Tensor<4>, device: &Device) -> Tensor<4> {
    let channels = input.dims()[1];
    let first = pixels([6, channels, 3, 3], device).sub_scalar(0.5);
    let second = pixels([5, 6, 3, 3], device).sub_scalar(0.5);
    let hidden = relu(neokd_kernels::conv2d(input, first, None, [1, 1], [1, 1]));
    neokd_kernels::conv2d(hidden, second, None, [1, 1], [1, 1])
}

fn convolution_gradient(input: Tensor<4>, device: &Device) -> Result<Tensor<4>, Error> {
    let leaf = input.autodiff().require_grad();
    let gradients = convolution(leaf.clone(), device).square().sum().backward();
    leaf.grad(&gradients).ok_or_else(|| Error::Device("self-test: a convolution has no gradient".to_string()))
}

/// Images that look random and are the same everywhere, in `[0, 1]`.
fn pixels(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let count = shape.iter().product::<usize>() as u64;
    let value = |at: u64| {
        let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1u64 << 24) as f32
    };
    Tensor::from_data(TensorData::new((0..count).map(value).collect::<Vec<f32>>(), shape), device)
}

fn batch(model: &ModelConfig, images: usize, device: &Device) -> Batch {
    let [channels, height, width] = model.input_shape();
    let labels: Vec<i64> = (0..images).map(|image| (image % model.classes()) as i64).collect();
    Batch {
        pixels: pixels([images, channels, height, width], device),
        labels: Tensor::from_data(TensorData::new(labels, [images]), device),
        examples: (0..images as u64).collect(),
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.into_data().convert::<f32>().try_into_vec().map_err(|error| Error::unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself() {
        let cpu = Device::flex();
        let mut seen = Vec::new();
        let count = run(&cpu, &cpu, &mut |finding| {
            seen.push(finding.name);
            assert!(finding.passed, "{finding:?}");
            Ok(())
        });
        assert_eq!(count.unwrap(), seen.len());
        assert!(backbones().len() == 3, "a backbone's configuration is not understood");
    }

    /// The fault of Burn's fusion: a gradient with channels-last strides, read as if it were row-major.
    fn reads_channels_last_as_row_major(clean: Tensor<4>, pixels: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
        let shape = gradient.dims();
        step(clean, pixels, gradient.permute([0, 2, 3, 1]).reshape(shape))
    }

    #[test]
    fn a_layout_fault_is_found_by_name() {
        let cpu = Device::flex();
        let compare = |faulty: &'static Step| {
            let find = |step: &'static Step| {
                let name = "gradient of a convolution into sign, step and projection";
                checks(step, usize::MAX).into_iter().find(|check| check.name == name).unwrap()
            };
            let (right, wrong) = (find(&step), find(faulty));
            right.compare(&(right.compute)(&cpu).unwrap(), &(wrong.compute)(&cpu).unwrap())
        };
        assert!(compare(&step).passed);
        let finding = compare(&reads_channels_last_as_row_major);
        assert!(!finding.passed && finding.name.contains("gradient of a convolution into sign"), "{finding:?}");
    }

    #[test]
    fn a_device_is_tested_once_by_a_build_and_again_after_it_failed() {
        let (cpu, folder) = (Device::flex(), tempfile::tempdir().unwrap());
        let cache = folder.path().join("not/there/yet");
        let said = std::cell::RefCell::new(Vec::new());
        let test = |name: &str, wrong: bool| {
            said.borrow_mut().clear();
            let calls = std::cell::Cell::new(0.0);
            let check = check("drift", Tolerance::Relative(1e-3), move |_| {
                calls.set(calls.get() + 1.0);
                Ok(vec![1.0, if wrong { calls.get() } else { 1.0 }])
            });
            let say = &mut |line: &str| {
                said.borrow_mut().push(line.to_string());
                Ok(())
            };
            once_of(vec![check], (name, &cpu, &cpu), Some(&cache), say)
        };
        for _ in 0..2 {
            let refused = test("cuda:0 (a)", true).unwrap_err();
            assert_eq!(refused.exit_code(), 11);
            assert!(refused.to_string().contains("drift"), "{refused}");
        }
        test("cuda:0 (a)", false).unwrap();
        assert!(said.borrow()[0].contains("first use of cuda:0 (a)"), "{said:?}");
        test("cuda:0 (a)", false).unwrap();
        assert!(said.borrow().is_empty(), "{said:?}");
        test("cuda:0 (b)", false).unwrap();
        assert!(!said.borrow().is_empty());
    }

    #[test]
    fn a_device_that_is_wrong_is_refused_with_the_check_that_failed() {
        let cpu = Device::flex();
        let calls = std::cell::Cell::new(0.0);
        let drifts = check("drift", Tolerance::Relative(1e-3), move |_| {
            calls.set(calls.get() + 1.0);
            Ok(vec![1.0, calls.get()])
        });
        let error = run_checks(vec![drifts], &cpu, &cpu, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("self-test: drift is wrong on this device"), "{error}");
        let nan = check("nan", Tolerance::Relative(1e-3), |_| Ok(vec![f32::NAN]));
        assert!(!nan.compare(&[1.0], &[f32::NAN]).passed);
    }
}
