//! Weights made by PyTorch: reading its files without running what they ask for, and the names of the
//! original code.

mod container;
mod entries;
mod pickle;
mod refusal;
mod tree;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::{Bytes, DType, Device, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use self::container::Container;
pub use self::entries::Shapes;
use self::entries::{Described, Entry, Fit};
use self::pickle::{Kind, View};
use self::refusal::Refusal;
use super::{HostTensor, KeyReport, TensorMap, WeightsError, apply, collect, compare, read_file};
use crate::{ModelConfig, Network};

/// The longest header that the safetensors format allows, in bytes.
const LONGEST_SAFETENSORS_HEADER: u64 = 100_000_000;

/// What a PyTorch file holds for a network, under the original code's names, and what of it was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PytorchWeights {
    /// The tensors that were wanted, as 32-bit floats.
    pub tensors: TensorMap,
    /// Where in the file they are: keys with dots between them, empty for the file itself.
    pub key: String,
    /// What stood before every name and was taken off, such as `module.`.
    pub prefix: String,
    /// Other tensors of floating-point numbers in the same place.
    pub unexpected: Vec<String>,
    /// Tensors in the same place that are a wanted one under a second name.
    pub repeated: Vec<String>,
    /// Names of skipped tensors of integers or truth values, such as batch-norm's
    /// `num_batches_tracked`, which no network of this crate uses.
    pub integers: Vec<String>,
    /// Entries of a training checkpoint beside the weights, such as `epoch` or `optimizer`.
    pub beside: Vec<String>,
}

impl PytorchWeights {
    /// The same, if nothing is there that was not wanted.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] lists what was not.
    pub fn strict(self) -> Result<Self, WeightsError> {
        match self.unexpected.is_empty() {
            true => Ok(self),
            false => Err(WeightsError::Mismatch(KeyReport { unexpected: self.unexpected, ..KeyReport::default() })),
        }
    }

    /// The same, if every number is finite and no running variance is negative: what training that went well leaves.
    ///
    /// # Errors
    /// [`WeightsError::Values`] lists the tensors, each with how many of its values are wrong.
    pub fn sound(self) -> Result<Self, WeightsError> {
        let wrong: Vec<String> = self.tensors.iter().filter_map(|(name, tensor)| unsound(name, tensor)).collect();
        match wrong.is_empty() {
            true => Ok(self),
            false => Err(WeightsError::Values(wrong)),
        }
    }
}

/// What is wrong with the values of a tensor.
fn unsound(name: &str, tensor: &HostTensor) -> Option<String> {
    let count = |is_wrong: fn(&f32) -> bool| tensor.values.iter().filter(|value| is_wrong(value)).count();
    let counts = [
        ("NaN", count(|value| value.is_nan())),
        ("infinite", count(|value| value.is_infinite())),
        ("negative", if name.ends_with("running_var") { count(|value| *value < 0.0 && value.is_finite()) } else { 0 }),
    ];
    let found = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    let found = found.collect::<Vec<_>>().join(" and ");
    (!found.is_empty()).then(|| format!("{name}: {found} of {} values", tensor.values.len()))
}

/// Names and shapes of a network's tensors in the original PyTorch code.
///
/// # Errors
/// [`WeightsError::Model`] if the configuration cannot be built.
pub fn pytorch_shapes(config: &ModelConfig, device: &Device) -> Result<Shapes, WeightsError> {
    if let Some(why) = config.problem() {
        return Err(WeightsError::Model(why));
    }
    let tensors = OriginalNames::of(config).rename(collect(&config.init(0, device))?);
    Ok(tensors.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect())
}

/// The `wanted` tensors of a file that PyTorch wrote (`.pth`, `.pt`, `.pth.tar`: a state dict, a training checkpoint
/// that has one, or a whole module) or of a safetensors file of a state dict.
///
/// They are wherever all of them are, under any key (or under the one that `key` names) and behind any prefix that all
/// of their names have. Nothing else is read.
///
/// The pickle in a PyTorch file is a program. None of it runs: tensors are rebuilt from the few operations that
/// describe them, and everything else is left uninterpreted.
///
/// # Errors
/// [`WeightsError::Read`] if there is no such file, [`WeightsError::Call`] if it asks for a call that only an attack
/// has a use for, [`WeightsError::Checkpoint`], [`WeightsError::Format`] or [`WeightsError::Dtype`] if it is damaged or
/// something else; [`WeightsError::Mismatch`] if some are missing or of another shape, [`WeightsError::Entries`] if
/// they are in several places, [`WeightsError::Key`] if `key` is none of its places.
pub fn read_pytorch(path: &Path, wanted: &Shapes, key: Option<&str>) -> Result<PytorchWeights, WeightsError> {
    let bytes = read_file(path)?;
    if starts_like_safetensors(&bytes) {
        return read_safetensors(&bytes, wanted, key);
    }
    // Nothing here should panic; should it still, that is the file's fault and no reason to take the program down.
    let read = catch_unwind(AssertUnwindSafe(|| read_checkpoint(&bytes, wanted, key)));
    let file = path.display().to_string();
    match read {
        Ok(Ok(weights)) => Ok(weights),
        Ok(Err(Refusal::Weights(error))) => Err(error),
        Ok(Err(Refusal::Call(call))) => Err(WeightsError::Call { file, call }),
        Ok(Err(Refusal::Damaged(why))) => Err(WeightsError::Checkpoint { file, why }),
        Err(_) => Err(WeightsError::Checkpoint { file, why: "it makes the reader fail".to_string() }),
    }
}

/// Whether a file begins with a length that a safetensors header may have, and a JSON object.
fn starts_like_safetensors(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= LONGEST_SAFETENSORS_HEADER) && bytes.get(8) == Some(&b'{')
}

fn read_safetensors(bytes: &[u8], wanted: &Shapes, key: Option<&str>) -> Result<PytorchWeights, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format(error.to_string()))?;
    let tensors = file.tensors().into_iter().map(|(name, view)| (name, Stored(view))).collect();
    let entries = [Entry { path: Vec::new(), tensors }];
    gather(&entries::choose(&entries, wanted, key)?, wanted, |name, Stored(view)| {
        let float = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            dtype => return Err(WeightsError::Dtype { name: name.to_string(), dtype: dtype.to_string() }),
        };
        host_tensor(view.data().to_vec(), view.shape().to_vec(), float).map_err(WeightsError::Format)
    })
}

/// A tensor of a safetensors file; no two are one.
struct Stored<'a>(TensorView<'a>);

impl PartialEq for Stored<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Described for Stored<'_> {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn is_integer(&self) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        [BOOL, U8, I8, U16, I16, U32, I32, U64, I64].contains(&self.0.dtype())
    }
}

fn read_checkpoint(bytes: &[u8], wanted: &Shapes, key: Option<&str>) -> Result<PytorchWeights, Refusal> {
    let mut container = Container::open(bytes)?;
    let entries = tree::entries(&container.pickle)?;
    if entries.is_empty() {
        return Err(Refusal::Damaged("it holds no tensors".to_string()));
    }
    let fit = entries::choose(&entries, wanted, key)?;
    let beside = tree::beside(&container.pickle, &fit.entry.path, &entries);
    let weights = gather(&fit, wanted, |name, view| read_tensor(&mut container, name, view))?;
    Ok(PytorchWeights { beside, ..weights })
}

impl Described for View<'_> {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn is_integer(&self) -> bool {
        self.kind == Kind::Integer
    }
}

/// The wanted tensors of an entry, and the names of the others.
fn gather<T: Described, E>(
    fit: &Fit<'_, T>,
    wanted: &Shapes,
    mut read: impl FnMut(&str, &T) -> Result<HostTensor, E>,
) -> Result<PytorchWeights, E> {
    let mut tensors = TensorMap::new();
    for name in wanted.keys() {
        if let Some(tensor) = fit.tensor(name) {
            tensors.insert(name.clone(), read(name, tensor)?);
        }
    }
    let (repeated, unexpected) = fit.unwanted(wanted);
    let integers = fit.entry.tensors.iter().filter(|(_, tensor)| tensor.is_integer());
    Ok(PytorchWeights {
        tensors,
        key: fit.entry.path.join("."),
        prefix: fit.prefix.to_string(),
        unexpected,
        repeated,
        integers: integers.map(|(name, _)| fit.short(name).to_string()).collect(),
        beside: Vec::new(),
    })
}

/// Reads a tensor of a shape that the network has. It must not be larger than its storage, so that no file makes much
/// of few bytes.
fn read_tensor(container: &mut Container<'_>, name: &str, view: &View<'_>) -> Result<HostTensor, Refusal> {
    let wrong = |why: String| Refusal::Damaged(format!("tensor {name}: {why}"));
    let (dtype, size) = match view.kind {
        Kind::F64 => (DType::F64, 8),
        Kind::F32 => (DType::F32, 4),
        Kind::F16 => (DType::F16, 2),
        Kind::BF16 => (DType::BF16, 2),
        Kind::Integer | Kind::Other => {
            let dtype = "of integers, complex or quantised numbers".to_string();
            return Err(Refusal::Weights(WeightsError::Dtype { name: name.to_string(), dtype }));
        }
    };
    let stored = container.storage(view.storage)?;
    let elements = (stored.len() / size).min(view.elements);
    let count = view.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
    let count = count.filter(|count| *count <= elements);
    let count = count.ok_or_else(|| wrong(format!("claims {:?} values, but {elements} are stored", view.shape)))?;
    let reach =
        view.shape.iter().zip(&view.strides).try_fold(view.offset, |reach, (side, stride)| {
            reach.checked_add(side.saturating_sub(1).checked_mul(*stride)?)
        });
    if count > 0 && reach.is_none_or(|reach| reach >= elements) {
        return Err(wrong(format!("reaches beyond the {elements} values that are stored")));
    }
    let mut bytes = Vec::with_capacity(count * size);
    for number in 0..count {
        let (mut rest, mut at) = (number, view.offset);
        for (side, stride) in view.shape.iter().zip(&view.strides).rev() {
            at += rest % side * stride;
            rest /= side;
        }
        bytes.extend_from_slice(&stored[at * size..(at + 1) * size]);
    }
    host_tensor(bytes, view.shape.clone(), dtype).map_err(wrong)
}

/// Numbers in little-endian order as 32-bit floats.
fn host_tensor(bytes: Vec<u8>, shape: Vec<usize>, dtype: DType) -> Result<HostTensor, String> {
    let data = TensorData::try_from_bytes(Bytes::from_bytes_vec(bytes), shape.clone(), dtype);
    let data = data.map_err(|error| error.to_string())?;
    let values = data.convert::<f32>().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))?;
    Ok(HostTensor { shape, values })
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
