//! Weights made by PyTorch: reading its files without running what they ask for, and the names of the
//! original code.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::{Bytes, DType, Device, TensorData};
use burn_store::bridge;
use burn_store::pytorch_reader::{self, PickleValue, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::{HostTensor, TensorMap, WeightsError, apply, collect, compare, read_file};
use crate::{ModelConfig, Network};

/// Keys under which training checkpoints keep the weights, tried in this order.
const STATE_DICT_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// What `torch.nn.DataParallel` puts before every name.
const PARALLEL_PREFIX: &str = "module.";

/// The reader's name for a tensor among values.
const TENSOR: &str = "torch.Tensor";

/// What PyTorch keeps in a state dict about itself.
const STATE_DICT_METADATA: &str = "_metadata";

/// The longest header that the safetensors format allows, in bytes.
const LONGEST_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Python modules of which a checkpoint may hold objects beside its weights: they are not needed and
/// not rebuilt, but they come with everyday training checkpoints.
const HARMLESS_MODULES: [&str; 4] = ["torch.", "numpy.", "collections.", "argparse.Namespace"];

/// How the reader names what it cannot represent but has no module: a number too large for 64 bits.
const LARGE_INTEGER: &str = "int";

/// What a PyTorch file holds, under the original code's names, and what of it was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PytorchWeights {
    /// The tensors of floating-point numbers, as 32-bit floats, names without `module.` in front.
    pub tensors: TensorMap,
    /// Names of skipped tensors of integers or truth values, such as batch-norm's
    /// `num_batches_tracked`, which no network of this crate uses.
    pub integers: Vec<String>,
    /// Entries of a training checkpoint beside the weights, such as `epoch` or `optimizer`.
    pub beside: Vec<String>,
}

/// Weights in a file that PyTorch wrote (`.pth`, `.pt`, `.pth.tar`: a state dict, or a training
/// checkpoint that has one) or in a safetensors file of a state dict.
///
/// The pickle in a PyTorch file is a program. None of it runs: a reader rebuilds tensors from the few
/// opcodes that describe them and leaves everything else uninterpreted.
///
/// # Errors
/// [`WeightsError::Read`] if there is no such file, [`WeightsError::Call`] if it asks for a call that
/// weights have no use for, [`WeightsError::Checkpoint`], [`WeightsError::Format`] or
/// [`WeightsError::Dtype`] if it is damaged or something else.
pub fn read_pytorch(path: &Path) -> Result<PytorchWeights, WeightsError> {
    let bytes = read_file(path)?;
    match starts_like_safetensors(&bytes) {
        true => read_safetensors(&bytes),
        false => Checkpoint { path, length: bytes.len() }.read(),
    }
}

/// Whether a file begins with a length that a safetensors header may have, and a JSON object.
fn starts_like_safetensors(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= LONGEST_SAFETENSORS_HEADER) && bytes.get(8) == Some(&b'{')
}

fn read_safetensors(bytes: &[u8]) -> Result<PytorchWeights, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format(error.to_string()))?;
    let mut weights = PytorchWeights::default();
    for (name, view) in file.tensors() {
        let float = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            dtype if is_integer(dtype) => {
                weights.integers.push(name);
                continue;
            }
            dtype => return Err(WeightsError::Dtype { name, dtype: dtype.to_string() }),
        };
        let bytes = Bytes::from_bytes_vec(view.data().to_vec());
        let data = TensorData::try_from_bytes(bytes, view.shape().to_vec(), float);
        let tensor = data.map_err(|error| error.to_string()).and_then(host_tensor).map_err(WeightsError::Format)?;
        weights.tensors.insert(name, tensor);
    }
    Ok(weights.without_parallel_prefix())
}

fn is_integer(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    [BOOL, U8, I8, U16, I16, U32, I32, U64, I64].contains(&dtype)
}

fn host_tensor(data: TensorData) -> Result<HostTensor, String> {
    let shape = data.shape().as_slice().to_vec();
    let values = data.convert::<f32>().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))?;
    Ok(HostTensor { shape, values })
}

/// A file of `length` bytes that PyTorch is said to have written.
struct Checkpoint<'a> {
    path: &'a Path,
    length: usize,
}

impl Checkpoint<'_> {
    fn read(&self) -> Result<PytorchWeights, WeightsError> {
        // The reader is made for hostile files; should one still make it panic, that is the file's
        // fault and no reason to take the program down.
        catch_unwind(AssertUnwindSafe(|| self.read_guarded()))
            .unwrap_or_else(|_| Err(self.error("it makes the reader fail".to_string())))
    }

    fn read_guarded(&self) -> Result<PytorchWeights, WeightsError> {
        let root = PytorchReader::read_pickle_data(self.path, None).map_err(|error| self.error(error.to_string()))?;
        if let Some(call) = unexpected_call(&root) {
            return Err(WeightsError::Call { file: self.file(), call: call.to_string() });
        }
        let PickleValue::Dict(entries) = root else {
            return Err(self.error("it holds no dictionary of weights".to_string()));
        };
        let key = state_dict_key(&entries);
        let mut weights = self.read_tensors(key)?;
        weights.beside = beside(&entries, key);
        Ok(weights.without_parallel_prefix())
    }

    fn read_tensors(&self, key: Option<&str>) -> Result<PytorchWeights, WeightsError> {
        let reader = match key {
            Some(key) => PytorchReader::with_top_level_key(self.path, key),
            None => PytorchReader::new(self.path),
        };
        let tensors = reader.map_err(|error| self.error(error.to_string()))?.into_tensors();
        self.check_size(tensors.values())?;
        let mut weights = PytorchWeights::default();
        for (name, tensor) in tensors {
            match tensor.dtype() {
                dtype if is_float(dtype) => {
                    let tensor = self.read_tensor(tensor)?;
                    weights.tensors.insert(name, tensor);
                }
                _ => weights.integers.push(name),
            }
        }
        weights.integers.sort();
        match weights.tensors.is_empty() {
            true => Err(self.error("it holds no weights".to_string())),
            false => Ok(weights),
        }
    }

    /// Refuses a small file whose tensors repeat a few stored bytes until they fill the memory.
    fn check_size<'a>(&self, tensors: impl Iterator<Item = &'a pytorch_reader::Tensor>) -> Result<(), WeightsError> {
        let claimed = tensors.fold(0, |sum: usize, tensor| sum.saturating_add(tensor.byte_len()));
        match claimed > self.length {
            true => {
                let length = self.length;
                Err(self.error(format!("its tensors claim {claimed} bytes, but the file has only {length}")))
            }
            false => Ok(()),
        }
    }

    fn read_tensor(&self, tensor: pytorch_reader::Tensor) -> Result<HostTensor, WeightsError> {
        bridge::into_data(bridge::from_pytorch(tensor))
            .map_err(|error| error.to_string())
            .and_then(host_tensor)
            .map_err(|why| self.error(why))
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn error(&self, why: String) -> WeightsError {
        WeightsError::Checkpoint { file: self.file(), why }
    }
}

fn is_float(dtype: pytorch_reader::DType) -> bool {
    use pytorch_reader::DType::{BF16, F16, F32, F64};
    [F16, BF16, F32, F64].contains(&dtype)
}

/// The first call in a pickle that neither weights nor everyday training state need.
fn unexpected_call(value: &PickleValue) -> Option<&str> {
    match value {
        PickleValue::Unsupported(name) => {
            let harmless = name == LARGE_INTEGER || HARMLESS_MODULES.iter().any(|module| name.starts_with(module));
            (!harmless).then_some(name)
        }
        PickleValue::List(items) => items.iter().find_map(unexpected_call),
        PickleValue::Dict(entries) => entries.values().find_map(unexpected_call),
        _ => None,
    }
}

/// Where a training checkpoint keeps its state dict; `None` if the file is one.
fn state_dict_key(entries: &HashMap<String, PickleValue>) -> Option<&'static str> {
    if entries.values().any(is_tensor) {
        return None;
    }
    STATE_DICT_KEYS.into_iter().find(|key| entries.get(*key).is_some_and(holds_tensor))
}

/// Entries that hold no weights: those around the state dict, and values in it that are no tensors.
fn beside(entries: &HashMap<String, PickleValue>, key: Option<&str>) -> Vec<String> {
    let around = entries.keys().filter(|entry| key.is_some_and(|key| key != *entry)).cloned();
    let (state_dict, prefix) = match key.and_then(|key| Some((entries.get(key)?, key))) {
        Some((PickleValue::Dict(inner), key)) => (inner, format!("{key}.")),
        _ => (entries, String::new()),
    };
    let without_tensors =
        state_dict.iter().filter(|(entry, value)| *entry != STATE_DICT_METADATA && !holds_tensor(value));
    let mut beside: Vec<String> = around.chain(without_tensors.map(|(entry, _)| format!("{prefix}{entry}"))).collect();
    beside.sort();
    beside
}

fn is_tensor(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Unsupported(name) if name == TENSOR)
}

fn holds_tensor(value: &PickleValue) -> bool {
    match value {
        PickleValue::List(items) => items.iter().any(holds_tensor),
        PickleValue::Dict(entries) => entries.values().any(holds_tensor),
        value => is_tensor(value),
    }
}

impl PytorchWeights {
    fn without_parallel_prefix(mut self) -> Self {
        let all_have_it = self.tensors.keys().chain(&self.integers).all(|name| name.starts_with(PARALLEL_PREFIX));
        if all_have_it {
            let short = |name: String| name[PARALLEL_PREFIX.len()..].to_string();
            self.tensors = self.tensors.into_iter().map(|(name, tensor)| (short(name), tensor)).collect();
            self.integers = self.integers.into_iter().map(short).collect();
        }
        self
    }
}

/// A network with the weights of the original PyTorch code, under that code's names.
///
/// # Errors
/// [`WeightsError::Model`] if the configuration cannot be built; [`WeightsError::Mismatch`] lists what
/// is missing, unexpected or of another shape, under the original names.
pub fn from_pytorch(config: &ModelConfig, mut tensors: TensorMap, device: &Device) -> Result<Network, WeightsError> {
    if let Some(why) = config.problem() {
        return Err(WeightsError::Model(why));
    }
    let (network, names) = (config.init(0, device), OriginalNames::of(config));
    let initial = collect(&network)?;
    let ours: Vec<String> = initial.keys().cloned().collect();
    let report = compare(&names.rename(initial), &tensors);
    if !report.is_clean() {
        return Err(WeightsError::Mismatch(report));
    }
    let renamed = ours.into_iter().filter_map(|name| Some((tensors.remove(&names.original(&name))?, name)));
    apply(network, renamed.map(|(tensor, name)| (name, tensor)).collect())
}

/// A network's tensors under the names of the original PyTorch code, whose `load_state_dict` takes
/// them as they are.
pub fn to_pytorch_names(config: &ModelConfig, tensors: TensorMap) -> TensorMap {
    OriginalNames::of(config).rename(tensors)
}

/// Our layer names and the original code's, one to one.
struct OriginalNames(HashMap<String, String>);

impl OriginalNames {
    fn of(config: &ModelConfig) -> Self {
        Self(config.pytorch_names().into_iter().collect())
    }

    /// The original name of one of our tensors.
    fn original(&self, name: &str) -> String {
        let layer = |(layer, tensor): (&str, &str)| Some(format!("{}.{tensor}", self.0.get(layer)?));
        name.rsplit_once('.').and_then(layer).unwrap_or_else(|| name.to_string())
    }

    fn rename(&self, tensors: TensorMap) -> TensorMap {
        tensors.into_iter().map(|(name, tensor)| (self.original(&name), tensor)).collect()
    }
}
