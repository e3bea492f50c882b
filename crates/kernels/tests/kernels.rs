//! The kernels against Burn's own operations on the same device, and the promises of the crate: same
//! bits on every run, no influence of one image on another, no work for what is not tracked.
#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used)]

use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train as burn_batch_norm, conv2d as burn_conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Tensor, TensorData};
use neokd_kernels::{FeatureMap, batch_norm_train, conv2d, conv2d_relu, max_pool_2x2};

/// One convolution to test; sizes are per axis where there are two.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: [usize; 2],
    image: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    bias: bool,
    relu: bool,
}

/// Numbers that follow from a key alone (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let values = (0..shape.iter().product()).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
        Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
    }
}

/// Shapes of every kind that networks use, and odd ones between them.
fn cases() -> Vec<Case> {
    let mut random = Random(1);
    (0..120)
        .map(|index| {
            let side = random.pick(&[1, 3, 3, 5, 7]);
            let kernel = if index % 8 == 7 { [side, random.pick(&[1, 2, 3])] } else { [side, side] };
            let stride = random.pick(&[1, 1, 2]);
            let padding = random.pick(&[0, 1, 3]);
            let most = if side > 3 { 9 } else { 70 };
            Case {
                batch: random.between(1, 9),
                channels: [random.between(1, most), random.between(1, most)],
                image: kernel.map(|side| random.between(side, 17)),
                kernel,
                stride: if index % 9 == 8 { [stride, 3] } else { [stride, stride] },
                padding: if index % 7 == 6 { [padding, 0] } else { [padding, padding] },
                bias: index % 5 != 0,
                relu: index % 2 == 0,
            }
        })
        .collect()
}

/// Input, weights and bias of a case, and the gradient of its output.
struct Tensors {
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
}

impl Tensors {
    fn new(case: &Case, device: &Device) -> Self {
        let mut random = Random(2);
        let ([inputs, outputs], [height, width], [rows, columns]) = (case.channels, case.image, case.kernel);
        Self {
            input: random.tensor([case.batch, inputs, height, width], device),
            weight: random.tensor([outputs, inputs, rows, columns], device),
            bias: case.bias.then(|| random.tensor([outputs], device)),
        }
    }

    fn tracked(self) -> Self {
        Self {
            input: self.input.require_grad(),
            weight: self.weight.require_grad(),
            bias: self.bias.map(Tensor::require_grad),
        }
    }

    fn ours(&self, case: &Case) -> Tensor<4> {
        let operation = if case.relu { conv2d_relu } else { conv2d };
        operation(self.input.clone(), self.weight.clone(), self.bias.clone(), case.stride, case.padding)
    }

    fn burns(&self, case: &Case) -> Tensor<4> {
        let options = ConvOptions::new(case.stride, case.padding, [1, 1], 1);
        let output = burn_conv2d(self.input.clone(), self.weight.clone(), self.bias.clone(), options);
        if case.relu { relu(output) } else { output }
    }

    /// Gradients of input, weights and bias, of a fixed weighted sum of the output.
    fn gradients(&self, output: Tensor<4>) -> [Option<Vec<f32>>; 3] {
        let weights = Random(3).tensor(output.dims(), &output.device());
        let gradients = (output * weights).sum().backward();
        [
            self.input.grad(&gradients).map(values),
            self.weight.grad(&gradients).map(values),
            self.bias.as_ref().and_then(|bias| bias.grad(&gradients)).map(values),
        ]
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(1e-3, |scale: f32, value| scale.max(value.abs()));
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= 1e-4 * scale, "{what}, value {index}: {ours} against {theirs}");
    }
}

#[test]
fn outputs_and_gradients_are_those_of_burn() {
    let device = Device::flex().autodiff();
    for case in cases() {
        let tensors = Tensors::new(&case, &device).tracked();
        let (ours, theirs) = (tensors.ours(&case), tensors.burns(&case));
        assert_eq!(ours.dims(), theirs.dims(), "{case:?}");
        assert_close(&values(ours.clone()), &values(theirs.clone()), &format!("output of {case:?}"));

        let (ours, theirs) = (tensors.gradients(ours), tensors.gradients(theirs));
        for (what, (ours, theirs)) in ["input", "weight", "bias"].iter().zip(ours.iter().zip(&theirs)) {
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => assert_close(ours, theirs, &format!("{what} gradient of {case:?}")),
                _ => assert!(ours.is_none() && theirs.is_none(), "{what} of {case:?}"),
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let case = Case {
        batch: 2,
        channels: [3, 5],
        image: [7, 6],
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 1],
        bias: true,
        relu: false,
    };
    // Half the square of the output: for a quadratic function central differences are exact.
    let loss = |tensors: &Tensors| -> f64 {
        values(tensors.ours(&case)).iter().map(|&value| 0.5 * f64::from(value) * f64::from(value)).sum()
    };
    let tracked = Tensors::new(&case, &Device::flex().autodiff()).tracked();
    let gradients = tracked.ours(&case).powi_scalar(2).sum().mul_scalar(0.5).backward();
    let input = values(tracked.input.grad(&gradients).unwrap());
    let weight = values(tracked.weight.grad(&gradients).unwrap());
    let bias = values(tracked.bias.unwrap().grad(&gradients).unwrap());

    let device = Device::flex();
    let step = 0.25;
    for index in [0, 17, 50, input.len() - 1] {
        let [up, down] = [step, -step].map(|by| {
            let mut tensors = Tensors::new(&case, &device);
            tensors.input = moved(tensors.input, index, by);
            loss(&tensors)
        });
        assert_difference(up - down, step, input[index], "input");
    }
    for index in [0, 4, 31, weight.len() - 1] {
        let [up, down] = [step, -step].map(|by| {
            let mut tensors = Tensors::new(&case, &device);
            tensors.weight = moved(tensors.weight, index, by);
            loss(&tensors)
        });
        assert_difference(up - down, step, weight[index], "weight");
    }
    for index in 0..bias.len() {
        let [up, down] = [step, -step].map(|by| {
            let mut tensors = Tensors::new(&case, &device);
            tensors.bias = tensors.bias.map(|bias| moved(bias, index, by));
            loss(&tensors)
        });
        assert_difference(up - down, step, bias[index], "bias");
    }
}

/// The tensor with one value moved.
fn moved<const D: usize>(tensor: Tensor<D>, index: usize, by: f32) -> Tensor<D> {
    let (shape, device) = (tensor.dims(), tensor.device());
    let mut values = values(tensor);
    values[index] += by;
    Tensor::from_data(TensorData::new(values, shape), &device)
}

#[track_caller]
fn assert_difference(difference: f64, step: f32, gradient: f32, what: &str) {
    let slope = difference / (2.0 * f64::from(step));
    let error = (slope - f64::from(gradient)).abs();
    assert!(error <= 1e-3 * (1.0 + slope.abs()), "{what}: slope {slope}, gradient {gradient}");
}

/// Cases that are large enough for several tasks, one of them strided.
fn large_cases() -> [Case; 2] {
    let case = Case {
        batch: 35,
        channels: [5, 18],
        image: [13, 12],
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        bias: true,
        relu: true,
    };
    [case, Case { stride: [2, 2], padding: [0, 0], ..case }]
}

#[test]
fn the_same_inputs_give_the_same_bits_with_any_number_of_threads() {
    for case in large_cases() {
        let run = || {
            let tensors = Tensors::new(&case, &Device::flex().autodiff()).tracked();
            let output = tensors.ours(&case);
            let [input, weight, bias] = tensors.gradients(output.clone()).map(|gradient| bits(&gradient.unwrap()));
            [bits(&values(output)), input, weight, bias]
        };
        let expected = run();
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(run) == expected, "{threads} threads, {case:?}");
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_neighbours() {
    for case in large_cases() {
        let device = Device::flex().autodiff();
        let run = |rows: std::ops::Range<usize>| {
            let mut tensors = Tensors::new(&case, &device);
            tensors.input = tensors.input.slice([rows.clone()]);
            let tensors = tensors.tracked();
            let output = tensors.ours(&case);
            // Weights of the sum that belong to the image, not to its place in the batch.
            let [_, channels, height, width] = output.dims();
            let weights = Random(3).tensor([case.batch, channels, height, width], &device).slice([rows]);
            let gradients = (output.clone() * weights).sum().backward();
            (values(output), values(tensors.input.grad(&gradients).unwrap()))
        };
        let (outputs, gradients) = run(0..case.batch);
        for rows in [0..1, 17..18, 4..7, 20..28] {
            let (output, gradient) = run(rows.clone());
            let (map, image) = (outputs.len() / case.batch, gradients.len() / case.batch);
            assert_eq!(bits(&output), bits(&outputs[rows.start * map..rows.end * map]), "output {rows:?}");
            assert_eq!(bits(&gradient), bits(&gradients[rows.start * image..rows.end * image]), "gradient {rows:?}");
        }
    }
}

#[test]
fn untracked_parents_get_no_gradient_and_change_nothing() {
    let device = Device::flex().autodiff();
    let [case, _] = large_cases();
    let all = Tensors::new(&case, &device).tracked();
    let expected = all.gradients(all.ours(&case));
    for tracked in [[true, false, false], [false, true, false], [false, false, true], [false, true, true]] {
        let mut tensors = Tensors::new(&case, &device);
        if tracked[0] {
            tensors.input = tensors.input.require_grad();
        }
        if tracked[1] {
            tensors.weight = tensors.weight.require_grad();
        }
        if tracked[2] {
            tensors.bias = tensors.bias.map(Tensor::require_grad);
        }
        let gradients = tensors.gradients(tensors.ours(&case));
        for ((gradient, expected), tracked) in gradients.iter().zip(&expected).zip(tracked) {
            assert_eq!(gradient.is_some(), tracked);
            assert!(gradient.is_none() || gradient == expected);
        }
    }
}

#[test]
fn untracked_tensors_give_the_same_output() {
    for case in large_cases() {
        let plain = Tensors::new(&case, &Device::flex()).ours(&case);
        let tracked = Tensors::new(&case, &Device::flex().autodiff()).tracked().ours(&case);
        assert_eq!(bits(&values(plain)), bits(&values(tracked)));
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let [case, _] = large_cases();
    let run = |device: &Device| {
        let tensors = Tensors::new(&case, device).tracked();
        // A cheap operation before the convolution is one that checkpointing computes twice.
        let input = relu(tensors.input.clone());
        let inner = Tensors { input, weight: tensors.weight.clone(), bias: tensors.bias.clone() };
        tensors.gradients(inner.ours(&case))
    };
    let device = Device::flex().autodiff();
    assert_eq!(run(&device), run(&device.clone().gradient_checkpointing()));
}

#[test]
fn views_are_read_in_their_own_order() {
    let device = Device::flex();
    let mut random = Random(4);
    let input: Tensor<4> = random.tensor([3, 9, 8, 4], &device).permute([0, 3, 2, 1]).slice([1..3, 0..4, 1..7, 2..9]);
    let weight: Tensor<4> = random.tensor([4, 6, 3, 3], &device).swap_dims(0, 1);
    let ours = conv2d(input.clone(), weight.clone(), None, [1, 1], [1, 1]);
    let theirs = burn_conv2d(input, weight, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    assert_close(&values(ours), &values(theirs), "views");
}

#[test]
fn other_number_types_are_left_to_burn() {
    let device = Device::flex();
    let mut random = Random(5);
    let input: Tensor<4> = random.tensor([1, 2, 5, 5], &device).cast(DType::F64);
    let weight: Tensor<4> = random.tensor([3, 2, 3, 3], &device).cast(DType::F64);
    assert_eq!(conv2d(input.clone(), weight, None, [1, 1], [0, 0]).dtype(), DType::F64);
    assert_eq!(max_pool_2x2(input).dtype(), DType::F64);
}

#[test]
fn nan_reaches_the_output_through_relu() {
    let device = Device::flex();
    let input = Tensor::<4>::full([1, 1, 3, 3], f32::NAN, &device);
    let weight = Tensor::<4>::ones([1, 1, 3, 3], &device);
    let output = values(conv2d_relu(input, weight, None, [1, 1], [0, 0]));
    assert!(output[0].is_nan(), "{output:?}");
}

#[test]
#[should_panic(expected = "a kernel of 3")]
fn a_kernel_larger_than_the_image_is_refused() {
    let device = Device::flex();
    conv2d(Tensor::zeros([1, 1, 2, 2], &device), Tensor::zeros([1, 1, 3, 3], &device), None, [1, 1], [0, 0]);
}

fn burn_pool(input: Tensor<4>) -> Tensor<4> {
    max_pool2d(input, MaxPoolOptions::new([2, 2]).with_stride([2, 2]))
}

#[test]
fn pooling_and_its_gradient_are_those_of_burn_ties_included() {
    let device = Device::flex().autodiff();
    for shape in [[1, 1, 2, 2], [3, 5, 8, 8], [2, 7, 9, 11], [9, 33, 5, 4]] {
        // Few distinct values, so that windows have ties; no pooling of NaN here.
        let input = Random(6).tensor(shape, &device).mul_scalar(2.0).round().require_grad();
        let (ours, theirs) = (max_pool_2x2(input.clone()), burn_pool(input.clone()));
        assert_eq!(ours.dims(), theirs.dims());
        assert_eq!(values(ours.clone()), values(theirs.clone()), "{shape:?}");
        let [ours, theirs] = [ours, theirs].map(|output| {
            let weights = Random(7).tensor(output.dims(), &device);
            values(input.grad(&(output * weights).sum().backward()).unwrap())
        });
        assert_eq!(ours, theirs, "gradient of {shape:?}");
    }
}

#[test]
fn pooling_passes_nan_on() {
    let device = Device::flex();
    for place in 0..4 {
        let mut window = [3.0, 1.0, 2.0, 4.0];
        window[place] = f32::NAN;
        let input = Tensor::<1>::from_floats(window, &device).reshape([1, 1, 2, 2]);
        assert!(values(max_pool_2x2(input))[0].is_nan(), "NaN at {place}");
    }
}

/// Maps far from zero mean and unit variance, with the parameters of a batch-norm, all tracked.
fn norm_tensors(shape: [usize; 4], device: &Device) -> (Tensor<4>, [Tensor<1>; 2]) {
    let mut random = Random(8);
    let input = random.tensor(shape, device).mul_scalar(3.0).add_scalar(2.0);
    let [gamma, beta] = [1.0, 0.1].map(|add| random.tensor([shape[1]], device).add_scalar(add).require_grad());
    (input.require_grad(), [gamma, beta])
}

/// Gradients of input, gamma and beta, of a fixed weighted sum of the output.
fn norm_gradients(input: &Tensor<4>, parameters: &[Tensor<1>; 2], output: Tensor<4>) -> [Vec<f32>; 3] {
    let weights = Random(9).tensor(output.dims(), &output.device());
    let gradients = (output * weights).sum().backward();
    let [gamma, beta] = parameters;
    [
        values(input.grad(&gradients).unwrap()),
        values(gamma.grad(&gradients).unwrap()),
        values(beta.grad(&gradients).unwrap()),
    ]
}

#[test]
fn batch_norm_and_its_gradients_are_those_of_burn() {
    let device = Device::flex().autodiff();
    for shape in [[1, 1, 2, 2], [3, 5, 8, 8], [2, 7, 9, 11], [19, 33, 5, 4], [4, 3, 32, 32]] {
        for with_relu in [false, true] {
            let (input, parameters) = norm_tensors(shape, &device);
            let [gamma, beta] = parameters.clone();
            let ours = batch_norm_train(input.clone(), gamma.clone(), beta.clone(), 1e-5, with_relu);
            let theirs = burn_batch_norm(input.clone(), gamma, beta, 1e-5);
            assert_close(&values(ours.mean), &values(theirs.mean), "mean");
            assert_close(&values(ours.variance), &values(theirs.variance), "variance");
            let expected = if with_relu { relu(theirs.output) } else { theirs.output };
            let output = ours.output.into_tensor();
            assert_close(&values(output.clone()), &values(expected.clone()), "output");
            let ours = norm_gradients(&input, &parameters, output);
            let theirs = norm_gradients(&input, &parameters, expected);
            for (what, (ours, theirs)) in ["input", "gamma", "beta"].iter().zip(ours.iter().zip(&theirs)) {
                assert_close(ours, theirs, &format!("{what} gradient of {shape:?}, relu {with_relu}"));
            }
        }
    }
}

#[test]
fn batch_norm_gives_the_same_bits_with_any_number_of_threads() {
    let run = || {
        let (input, parameters) = norm_tensors([21, 9, 7, 6], &Device::flex().autodiff());
        let [gamma, beta] = parameters.clone();
        let output = batch_norm_train(input.clone(), gamma, beta, 1e-5, true).output.into_tensor();
        let gradients = norm_gradients(&input, &parameters, output.clone());
        (bits(&values(output)), gradients.map(|gradient| bits(&gradient)))
    };
    let expected = run();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(run) == expected, "{threads} threads");
    }
}

#[test]
fn batch_norm_of_untracked_parameters_passes_the_same_gradient_to_the_input() {
    let device = Device::flex().autodiff();
    let (input, parameters) = norm_tensors([5, 4, 6, 6], &device);
    let [gamma, beta] = parameters.clone();
    let all = batch_norm_train(input.clone(), gamma.clone(), beta.clone(), 1e-5, true).output.into_tensor();
    let [expected, ..] = norm_gradients(&input, &parameters, all);
    let alone = batch_norm_train(input.clone(), gamma.detach(), beta.detach(), 1e-5, true).output.into_tensor();
    let weights = Random(9).tensor(alone.dims(), &device);
    let gradients = (alone * weights).sum().backward();
    assert_eq!(values(input.grad(&gradients).unwrap()), expected);
    let [gamma, beta] = parameters;
    assert!(gamma.grad(&gradients).is_none() && beta.grad(&gradients).is_none());
}

/// What a convolution reads after batch-norm and concatenation is made again for its gradients, and the
/// gradients are those of a convolution that kept its input.
#[test]
fn maps_that_are_made_again_give_the_same_gradients() {
    let device = Device::flex().autodiff();
    for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1)] {
        let weight: Tensor<4> = Random(10).tensor([6, 11, kernel, kernel], &device).require_grad();
        let run = |knows: bool| {
            let mut random = Random(11);
            let mut normalized = |channels, with_relu| {
                let input = random.tensor([9, channels, 7, 5], &device).require_grad();
                let [gamma, beta] = [1.0, 0.5].map(|scale| random.tensor([channels], &device) * scale);
                batch_norm_train(input, gamma, beta, 1e-5, with_relu).output
            };
            let parts = [normalized(4, true), normalized(2, false)];
            let plain: Tensor<4> = random.tensor([9, 5, 7, 5], &device);
            let map = FeatureMap::cat(vec![FeatureMap::cat(parts.into()), plain.into()]);
            let map = if knows { map } else { map.into_tensor().into() };
            let output = conv2d_relu(map, weight.clone(), None, [stride; 2], [padding; 2]);
            let weights = Random(12).tensor(output.dims(), &device);
            let gradients = (output * weights).sum().backward();
            bits(&values(weight.grad(&gradients).unwrap()))
        };
        assert!(run(true) == run(false), "kernel {kernel}, stride {stride}");
    }
}

/// Maps of 3, 5, 1 and 2 channels behind each other, and the gradients of those that are tracked, all but one.
fn concatenated(parts: usize, batch: usize, cat: impl Fn(Vec<Tensor<4>>) -> Tensor<4>) -> Vec<Vec<u32>> {
    let device = Device::flex().autodiff();
    let mut random = Random(13);
    let maps: Vec<Tensor<4>> =
        [3, 5, 1, 2].into_iter().take(parts).map(|channels| random.tensor([batch, channels, 7, 5], &device)).collect();
    let tracked = |(at, map): (usize, Tensor<4>)| if at == 1 { map } else { map.require_grad() };
    let maps: Vec<Tensor<4>> = maps.into_iter().enumerate().map(tracked).collect();
    // A part that is looked at a second time: its gradient has two origins.
    let whole = cat(maps.clone());
    let weights = random.tensor(whole.dims(), &device);
    let gradients = ((whole.clone() * weights).sum() + maps[0].clone().powf_scalar(2.0).sum()).backward();
    assert!(parts < 2 || maps[1].grad(&gradients).is_none());
    let found = maps.iter().filter_map(|map| map.grad(&gradients)).map(|gradient| bits(&values(gradient)));
    [bits(&values(whole))].into_iter().chain(found).collect()
}

#[test]
fn maps_behind_each_other_have_the_values_and_gradients_of_burns_concatenation() {
    for (parts, batch) in [(1, 4), (2, 1), (2, 9), (3, 4), (3, 1000), (4, 4)] {
        let own = concatenated(parts, batch, |maps| {
            FeatureMap::cat(maps.into_iter().map(FeatureMap::from).collect()).into_tensor()
        });
        assert!(own == concatenated(parts, batch, |maps| Tensor::cat(maps, 1)), "{parts} parts of {batch} images");
    }
}

#[test]
#[should_panic(expected = "differ in batch, height or width")]
fn maps_of_other_sizes_are_not_put_behind_each_other() {
    let device = Device::flex();
    let maps = [[2, 3, 4, 4], [2, 3, 4, 5]].map(|shape| FeatureMap::from(Tensor::<4>::zeros(shape, &device)));
    let _whole = FeatureMap::cat(maps.into());
}
