//! Small networks and batches for the tests beside this file.

use burn::tensor::{Device, Tensor, TensorData};
use neokd_attack::Batch;
use neokd_datasets::DataSplits;
use neokd_evaluate::batches;
use neokd_model::{SmallCnn, SmallCnnConfig};

pub(crate) fn network(device: &Device) -> SmallCnn {
    SmallCnnConfig::default().init(11, device)
}

pub(crate) fn data() -> DataSplits {
    neokd_datasets::synthetic(3, 256, 32, 64, [1, 28, 28], 10).unwrap()
}

/// The first `n` test images.
pub(crate) fn batch(n: usize, device: &Device) -> Batch {
    batches::collect(&data().test, &(0..n).collect::<Vec<_>>(), device).unwrap().batch
}

/// The rows `range` of a batch, with their own example numbers.
pub(crate) fn part(batch: &Batch, start: usize, end: usize) -> Batch {
    Batch {
        pixels: batch.pixels.clone().narrow(0, start, end - start),
        labels: batch.labels.clone().narrow(0, start, end - start),
        examples: batch.examples[start..end].to_vec(),
    }
}

pub(crate) fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

pub(crate) fn from_host(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
