//! Finds golden cases and reads their tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Where the cases are.
pub(crate) fn root() -> PathBuf {
    match std::env::var_os("NEOKD_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"),
    }
}

/// All files below the root, sorted.
pub(crate) fn files() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Tensors of one safetensors file, as 64-bit floats with their shapes.
pub(crate) struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let decode = |dtype, data: &[u8]| -> Vec<f64> {
            match dtype {
                Dtype::F32 => data.chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()).into()).collect(),
                Dtype::I64 => data.chunks(8).map(|word| i64::from_le_bytes(word.try_into().unwrap()) as f64).collect(),
                Dtype::U8 => data.iter().map(|byte| f64::from(*byte)).collect(),
                other => panic!("{}: unexpected type {other}", path.display()),
            }
        };
        let tensors = file
            .iter()
            .map(|(name, view)| (name.to_string(), (view.shape().to_vec(), decode(view.dtype(), view.data()))));
        Self(tensors.collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn values(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1
    }

    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}")).0
    }

    pub(crate) fn float<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let values: Vec<f32> = self.values(name).iter().map(|value| *value as f32).collect();
        Tensor::from_data(TensorData::new(values, self.shape(name).to_vec()), device)
    }

    pub(crate) fn int<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        let values: Vec<i64> = self.values(name).iter().map(|value| *value as i64).collect();
        Tensor::from_data(TensorData::new(values, self.shape(name).to_vec()), device)
    }
}

pub(crate) fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().convert::<f64>().try_into_vec().unwrap()
}

/// The largest difference between two lists of the same length.
pub(crate) fn largest_difference(ours: &[f64], theirs: &[f64]) -> f64 {
    ours.iter().zip(theirs).fold(0.0, |largest, (our, their)| largest.max((our - their).abs()))
}

/// Fails where a value differs by more than `tolerance`, relative to values larger than 1.
pub(crate) fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}: number of values");
    for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let allowed = tolerance * their.abs().max(1.0);
        assert!((our - their).abs() <= allowed, "{what}[{at}]: {our} instead of {their}");
    }
}
