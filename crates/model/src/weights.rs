//! Weights in and out: named tensors, safetensors files with the model's TOML in the header, and a
//! strict report of what did not fit.
//!
//! Names and layouts on disk follow PyTorch (linear weights `[out, in]`, batch-norm `weight`,
//! `bias`, `running_mean`, `running_var`), so that other tools read the files as they expect.
//! Every file written here carries a SHA-256 over names, shapes, values and metadata; a flipped bit
//! is an error, not a slightly different network.

mod pytorch;

pub use pytorch::{PytorchWeights, Shapes, from_pytorch, pytorch_shapes, read_pytorch, to_pytorch_names};

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use burn_store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, bridge};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::{Backbone, ModelConfig, Network};

/// Key of the header entry that holds the model's TOML.
pub const MODEL_KEY: &str = "neokd.model";
const DIGEST_KEY: &str = "neokd.sha256";

/// A tensor on the host: 32-bit floats in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// The values, as many as the shape says.
    pub values: Vec<f32>,
}

/// Named tensors, in the order of their names.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// Header entries of a safetensors file.
pub type Metadata = BTreeMap<String, String>;

/// Why weights could not be read, written or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Path of the file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no safetensors file: truncated, or something else.
    #[error("not a complete safetensors file ({0}); copy or write it again")]
    Format(String),
    /// The content is not what was written.
    #[error(
        "content does not match its checksum (stored {stored}, found {found}): the file is damaged; copy or write it again"
    )]
    Damaged {
        /// SHA-256 in the header.
        stored: String,
        /// SHA-256 of the content.
        found: String,
    },
    /// A tensor is not of 32-bit floats.
    #[error("tensor {name} is {dtype}, not F32; convert the file first")]
    Dtype {
        /// Name of the tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The header lacks an entry or it cannot be understood.
    #[error("header entry {key}: {why}; was this file written by neokd?")]
    Header {
        /// The entry.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Names or shapes differ from the network's.
    #[error("tensors do not fit the network: {0}")]
    Mismatch(KeyReport),
    /// The network that the weights are meant for cannot be built.
    #[error("{0}")]
    Model(String),
    /// The file is no PyTorch checkpoint, or one that holds what cannot be read.
    #[error("{file} cannot be read as a PyTorch checkpoint ({why}); copy it again, or save model.state_dict() anew")]
    Checkpoint {
        /// Path of the file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Several entries of a checkpoint hold tensors that fit, and not the same.
    #[error("several entries hold weights that fit: {}; say which by --key", .0.join(", "))]
    Entries(Vec<String>),
    /// A checkpoint has no entry of this name that holds tensors.
    #[error("there are no weights under --key {key}; entries with tensors: {}", .entries.join(", "))]
    Key {
        /// The name that was asked for.
        key: String,
        /// The entries, with their sizes.
        entries: Vec<String>,
    },
    /// Tensors hold what training that went well never leaves: tensors, each with how many values.
    #[error(
        "values that are not finite, or negative variances, as a diverged run leaves them: {}; take an earlier \
         checkpoint, or --allow-non-finite to take them as they are",
        .0.join(", ")
    )]
    Values(Vec<String>),
    /// The checkpoint asks for a call that weights have no use for. Nothing was called.
    #[error(
        "{file} asks Python to call {call}, which weights have no use for; it was not called and nothing was read. \
         Ask for a file that holds model.state_dict() alone"
    )]
    Call {
        /// Path of the file.
        file: String,
        /// The function or class, with its Python module.
        call: String,
    },
    /// Burn refused a tensor that looked right.
    #[error("Burn could not apply the tensors: {0}")]
    Apply(String),
}

/// What did not fit when tensors met a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Tensors of the network that were not given.
    pub missing: Vec<String>,
    /// Tensors that the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape, with both shapes.
    pub misshapen: Vec<String>,
}

impl KeyReport {
    /// Number of tensors that did not fit.
    pub fn count(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }

    /// Whether everything fitted.
    pub fn is_clean(&self) -> bool {
        self.count() == 0
    }
}

impl std::fmt::Display for KeyReport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists =
            [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &self.misshapen)];
        let parts: Vec<String> = lists
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{} {what} ({})", names.len(), names.join(", ")))
            .collect();
        out.write_str(&parts.join("; "))
    }
}

/// All tensors of a module, parameters and running statistics, under their PyTorch names.
///
/// The statistics are those after the last training pass: Burn holds back a batch-norm's newest
/// update until something asks for it, and copying the module, as done here, does.
///
/// # Errors
/// [`WeightsError::Apply`] if the device cannot be read.
pub fn collect<M: Module>(module: &M) -> Result<TensorMap, WeightsError> {
    module
        .valid()
        .collect(None, Some(Box::new(BurnToPyTorchAdapter)), true)
        .into_iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            let data = bridge::into_data(tensor).map_err(|error| WeightsError::Apply(format!("{name}: {error}")))?;
            let shape = data.shape().as_slice().to_vec();
            let values =
                data.try_into_vec::<f32>().map_err(|error| WeightsError::Apply(format!("{name}: {error:?}")))?;
            Ok((name, HostTensor { shape, values }))
        })
        .collect()
}

/// Puts tensors into a module; names and shapes must be exactly the module's.
///
/// Give it a module made for the purpose: clones of a module share batch-norm statistics in Burn, so
/// that the statistics of a clone's original would change with it.
///
/// # Errors
/// [`WeightsError::Mismatch`] lists every missing, unexpected and misshapen tensor.
pub fn apply<M: Module>(mut module: M, tensors: TensorMap) -> Result<M, WeightsError> {
    let report = compare(&collect(&module)?, &tensors);
    if !report.is_clean() {
        return Err(WeightsError::Mismatch(report));
    }
    let packed = tensors
        .into_iter()
        .map(|(name, tensor)| bridge::from_data(TensorData::new(tensor.values, tensor.shape), name, None))
        .collect();
    let result = module.apply(packed, None, Some(Box::new(PyTorchToBurnAdapter)), true);
    match result.errors.is_empty() && result.missing.is_empty() && result.unused.is_empty() {
        true => Ok(module),
        false => Err(WeightsError::Apply(format!("{result}"))),
    }
}

fn compare(expected: &TensorMap, given: &TensorMap) -> KeyReport {
    let misshapen = expected.iter().filter_map(|(name, tensor)| {
        let other = given.get(name)?;
        (other.shape != tensor.shape).then(|| format!("{name} {:?} instead of {:?}", other.shape, tensor.shape))
    });
    KeyReport {
        missing: expected.keys().filter(|name| !given.contains_key(*name)).cloned().collect(),
        unexpected: given.keys().filter(|name| !expected.contains_key(*name)).cloned().collect(),
        misshapen: misshapen.collect(),
    }
}

/// Bytes of a safetensors file with these tensors and header entries, and a checksum over both.
///
/// # Errors
/// [`WeightsError::Format`] if a tensor's shape and values disagree.
pub fn encode(tensors: &TensorMap, metadata: &Metadata) -> Result<Vec<u8>, WeightsError> {
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.as_str(), tensor.shape.as_slice(), bytes)
        })
        .collect();
    let mut header: HashMap<String, String> = metadata.clone().into_iter().collect();
    header.insert(DIGEST_KEY.to_string(), digest(tensors, metadata));
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (*name, view)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| WeightsError::Format(error.to_string()))?;
    let file = safetensors::serialize(views, Some(header)).map_err(|error| WeightsError::Format(error.to_string()))?;
    with_sorted_header(file)
}

/// Sorts the JSON header's keys, so that the same content always gives the same bytes; the library
/// writes header entries in the order of a hash map.
fn with_sorted_header(mut file: Vec<u8>) -> Result<Vec<u8>, WeightsError> {
    let unreadable = |error: serde_json::Error| WeightsError::Format(error.to_string());
    let (length, _) = SafeTensors::read_metadata(&file).map_err(|error| WeightsError::Format(error.to_string()))?;
    let header = &mut file[8..8 + length];
    let entries: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).map_err(unreadable)?;
    let sorted = serde_json::to_vec(&entries).map_err(unreadable)?;
    // The header is padded with spaces to a multiple of eight.
    header.fill(b' ');
    header.get_mut(..sorted.len()).ok_or_else(|| WeightsError::Format("header grew".into()))?.copy_from_slice(&sorted);
    Ok(file)
}

/// Tensors and header entries of a safetensors file; the checksum is checked where there is one.
///
/// # Errors
/// [`WeightsError::Format`], [`WeightsError::Dtype`] or [`WeightsError::Damaged`].
pub fn decode(bytes: &[u8]) -> Result<(TensorMap, Metadata), WeightsError> {
    let format = |error: safetensors::SafeTensorError| WeightsError::Format(error.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let mut metadata: Metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut tensors = TensorMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(format)?.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(WeightsError::Dtype { name, dtype: view.dtype().to_string() });
        }
        let values = view.data().chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        tensors.insert(name, HostTensor { shape: view.shape().to_vec(), values: values.collect() });
    }
    if let Some(stored) = metadata.remove(DIGEST_KEY) {
        let found = digest(&tensors, &metadata);
        if stored != found {
            return Err(WeightsError::Damaged { stored, found });
        }
    }
    Ok((tensors, metadata))
}

/// Whether the bytes begin with a safetensors header that says which network the tensors are for.
pub fn carries_model(bytes: &[u8]) -> bool {
    let header = SafeTensors::read_metadata(bytes);
    header.is_ok_and(|(_, header)| header.metadata().as_ref().is_some_and(|entries| entries.contains_key(MODEL_KEY)))
}

/// SHA-256 (hex) over the tensors' names, shapes and values and over the header entries.
pub fn digest(tensors: &TensorMap, metadata: &Metadata) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(format!("{name}\0{:?}\0", tensor.shape));
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(bytes);
    }
    for (key, value) in metadata {
        hash.update(format!("{key}\0{value}\0"));
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Bytes of a weights file: the network's tensors, with its configuration in the header.
///
/// # Errors
/// As [`collect`] and [`encode`].
pub fn encode_network<B: Backbone>(config: &B, network: &B::Network) -> Result<Vec<u8>, WeightsError> {
    encode(&collect(network)?, &Metadata::from([(MODEL_KEY.to_string(), model_toml(config)?)]))
}

/// The network that a weights file holds, and its configuration.
///
/// # Errors
/// As [`decode`] and [`apply`]; [`WeightsError::Header`] if the file does not say which network.
pub fn decode_network(bytes: &[u8], device: &Device) -> Result<(ModelConfig, Network), WeightsError> {
    let (tensors, metadata) = decode(bytes)?;
    let config: ModelConfig = read_model(&metadata)?;
    let network = apply(config.init(0, device), tensors)?;
    Ok((config, network))
}

/// The model's TOML as it goes into a header.
///
/// # Errors
/// [`WeightsError::Header`] if it cannot be written as TOML.
pub fn model_toml<B: Backbone>(config: &B) -> Result<String, WeightsError> {
    toml::to_string(config).map_err(|error| header_error(&error))
}

/// The model configuration in a file's header.
///
/// # Errors
/// [`WeightsError::Header`] if there is none or it is not valid.
pub fn read_model<B: Backbone>(metadata: &Metadata) -> Result<B, WeightsError> {
    let Some(text) = metadata.get(MODEL_KEY) else {
        return Err(header_error(&"missing"));
    };
    let config: B = toml::from_str(text).map_err(|error| header_error(&error))?;
    match config.problem() {
        Some(why) => Err(header_error(&why)),
        None => Ok(config),
    }
}

fn header_error(why: &dyn std::fmt::Display) -> WeightsError {
    WeightsError::Header { key: MODEL_KEY.to_string(), why: why.to_string() }
}

/// Reads a file whole.
///
/// # Errors
/// [`WeightsError::Read`] names the file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, WeightsError> {
    std::fs::read(path).map_err(|source| WeightsError::Read { file: path.display().to_string(), source })
}
