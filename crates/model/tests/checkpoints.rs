//! PyTorch files: what is read, what is left out, and that a hostile one is an error and runs nothing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_model::weights::{self, HostTensor, PytorchWeights, TensorMap, WeightsError};
use neokd_model::{ModelConfig, RdiResNetConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

/// Python values as they are pickled, in protocol 2.
enum Pickle<'a> {
    Text(&'a str),
    Integer(u8),
    /// Storage key, storage type, shape.
    Tensor(usize, &'a str, &'a [usize]),
    Dictionary(Vec<(&'a str, Pickle<'a>)>),
    /// Module, function and its one argument.
    Call(&'a str, &'a str, &'a str),
}

impl Pickle<'_> {
    fn file(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, 2];
        self.write(&mut bytes);
        bytes.push(b'.');
        bytes
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(value) => text(out, value),
            Self::Integer(value) => out.extend([b'K', *value]),
            Self::Tensor(key, kind, shape) => tensor(out, &key.to_string(), kind, shape),
            Self::Dictionary(entries) => {
                out.extend(b"}(");
                for (key, value) in entries {
                    text(out, key);
                    value.write(out);
                }
                out.push(b'u');
            }
            Self::Call(module, function, argument) => {
                global(out, module, function);
                text(out, argument);
                // TUPLE1, REDUCE: this is where Python's unpickler would make the call.
                out.extend([0x85, b'R']);
            }
        }
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'X');
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    out.push(b'J');
    out.extend((value as i32).to_le_bytes());
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

fn tuple(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    values.iter().for_each(|value| integer(out, *value));
    out.push(b't');
}

/// A tensor in row-major order over a storage of its own.
fn tensor(out: &mut Vec<u8>, key: &str, kind: &str, shape: &[usize]) {
    global(out, "torch._utils", "_rebuild_tensor_v2");
    out.extend(b"((");
    text(out, "storage");
    global(out, "torch", kind);
    text(out, key);
    text(out, "cpu");
    integer(out, shape.iter().product());
    out.extend(b"tQK\0");
    tuple(out, shape);
    let strides: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
    tuple(out, &strides);
    // requires_grad False, no hooks, call.
    out.extend([0x89, b'}', b't', b'R']);
}

/// A file as PyTorch before 1.6 writes it: magic number, version, system, object, keys, storages.
/// Storages are bytes with their number of elements; their keys are their positions.
fn legacy_file(object: &Pickle<'_>, storages: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}");
    text(&mut bytes, "little_endian");
    bytes.extend(b"\x88s.");
    bytes.extend(object.file());
    bytes.extend(b"\x80\x02](");
    (0..storages.len()).for_each(|key| text(&mut bytes, &key.to_string()));
    bytes.extend(b"e.");
    for (elements, storage) in storages {
        bytes.extend((*elements as i64).to_le_bytes());
        bytes.extend(storage);
    }
    bytes
}

fn floats(values: &[f32]) -> (usize, Vec<u8>) {
    (values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn written(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("weights.pth.tar");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(bytes: &[u8]) -> Result<PytorchWeights, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    weights::read_pytorch(&written(&folder, bytes))
}

fn training_checkpoint() -> Vec<u8> {
    let state_dict = Pickle::Dictionary(vec![
        ("module.fc.weight", Pickle::Tensor(0, "FloatStorage", &[2, 3])),
        ("module.fc.scale", Pickle::Tensor(1, "DoubleStorage", &[2])),
        ("module.bn.num_batches_tracked", Pickle::Tensor(2, "LongStorage", &[])),
    ]);
    let optimizer = Pickle::Dictionary(vec![("momentum", Pickle::Tensor(3, "FloatStorage", &[1]))]);
    let checkpoint = Pickle::Dictionary(vec![
        ("epoch", Pickle::Integer(7)),
        ("arch", Pickle::Text("test")),
        ("state_dict", state_dict),
        ("optimizer", optimizer),
    ]);
    let doubles = [0.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let storages =
        [floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (2, doubles), (1, 9i64.to_le_bytes().to_vec()), floats(&[0.25])];
    legacy_file(&checkpoint, &storages)
}

#[test]
fn a_training_checkpoint_gives_its_weights_and_says_what_it_left_out() {
    let weights = read(&training_checkpoint()).unwrap();
    let expected = TensorMap::from([
        ("fc.scale".to_string(), HostTensor { shape: vec![2], values: vec![0.5, -2.0] }),
        ("fc.weight".to_string(), HostTensor { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }),
    ]);
    assert_eq!(weights.tensors, expected);
    assert_eq!(weights.integers, ["bn.num_batches_tracked"]);
    assert_eq!(weights.beside, ["arch", "epoch", "optimizer"]);
}

#[test]
fn a_bare_state_dict_gives_its_weights() {
    let entries = vec![("a.weight", Pickle::Tensor(0, "FloatStorage", &[2])), ("version", Pickle::Integer(1))];
    let weights = read(&legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, -1.0])])).unwrap();
    assert_eq!(weights.tensors["a.weight"].values, [1.0, -1.0]);
    assert_eq!(weights.beside, ["version"]);
}

#[test]
fn a_safetensors_file_of_a_state_dict_is_read_too() {
    let config = ModelConfig::RdiResNet(RdiResNetConfig { depth: 14, ..RdiResNetConfig::default() });
    let network = config.init(1, &Device::flex());
    let original = weights::to_pytorch_names(&config, weights::collect(&network).unwrap());
    let bytes = weights::encode(&original, &weights::Metadata::new()).unwrap();
    assert_eq!(read(&bytes).unwrap().tensors, original);
    assert!(matches!(read(&bytes[..bytes.len() - 1]), Err(WeightsError::Format(_))));
}

#[test]
fn a_missing_file_is_named() {
    let error = weights::read_pytorch(Path::new("no/such/file.pth")).unwrap_err();
    assert!(matches!(&error, WeightsError::Read { file, .. } if file.ends_with("file.pth")), "{error}");
}

#[test]
fn a_truncated_checkpoint_is_an_error_wherever_it_ends() {
    let whole = training_checkpoint();
    for length in 0..whole.len() {
        // The optimizer's storage is the last; without its bytes the weights are still all there.
        if let Ok(weights) = read(&whole[..length]) {
            assert_eq!(weights, read(&whole).unwrap(), "{length} bytes");
            assert!(length >= whole.len() - 4, "{length} bytes");
        }
    }
}

#[test]
fn random_bytes_are_an_error() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for beginning in
        [&b""[..], b"\x80\x02", b"PK\x03\x04", b"}(", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."]
    {
        for _ in 0..50 {
            let mut bytes = beginning.to_vec();
            bytes.extend((0..random.next_u32() % 400).map(|_| random.next_u32() as u8));
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
    }
}

/// Whatever a changed file still holds, it is read or refused; the process goes on.
#[test]
fn a_damaged_checkpoint_never_panics() {
    let (whole, mut random) = (training_checkpoint(), ChaCha8Rng::seed_from_u64(2));
    for _ in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..=random.next_u32() % 4 {
            let at = random.next_u32() as usize % bytes.len();
            bytes[at] = random.next_u32() as u8;
        }
        let _ = read(&bytes);
    }
}

#[test]
fn a_pickle_that_calls_the_system_is_refused_and_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let command = format!("touch {}", trace.display());
    for (module, function) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "Popen")] {
        let call = || Pickle::Call(module, function, &command);
        let weights = || Pickle::Dictionary(vec![("a.weight", Pickle::Tensor(0, "FloatStorage", &[1]))]);
        let with_weights = [
            Pickle::Dictionary(vec![("state_dict", weights()), ("x", call())]),
            Pickle::Dictionary(vec![("state_dict", call()), ("x", weights())]),
            Pickle::Dictionary(vec![("a.weight", Pickle::Tensor(0, "FloatStorage", &[1])), ("x", call())]),
        ];
        let mut files = vec![call().file(), Pickle::Dictionary(vec![("state_dict", call())]).file()];
        files.extend(with_weights.iter().map(|object| legacy_file(object, &[floats(&[1.0])])));
        for bytes in files {
            let error = weights::read_pytorch(&written(&folder, &bytes)).unwrap_err();
            let name = format!("{module}.{function}");
            assert!(matches!(&error, WeightsError::Call { call, .. } if *call == name), "{error}");
            assert!(!trace.exists(), "{name} was called");
        }
    }
}

/// A view may repeat one stored number as often as it likes; the file's size bounds what is read.
#[test]
fn a_small_file_cannot_claim_a_large_tensor() {
    let mut object = vec![0x80, 2, b'}'];
    text(&mut object, "a.weight");
    global(&mut object, "torch._utils", "_rebuild_tensor_v2");
    object.extend(b"((");
    text(&mut object, "storage");
    global(&mut object, "torch", "FloatStorage");
    text(&mut object, "0");
    text(&mut object, "cpu");
    object.extend(b"K\x01tQK\0");
    tuple(&mut object, &[1 << 20, 1 << 10]);
    tuple(&mut object, &[0, 0]);
    object.extend([0x89, b'}', b't', b'R', b's', b'.']);
    let placeholder = Pickle::Integer(0).file();
    let file = legacy_file(&Pickle::Integer(0), &[floats(&[1.0])]);
    let at = file.windows(placeholder.len()).position(|window| window == placeholder).unwrap();
    let bytes = [&file[..at], &object, &file[at + placeholder.len()..]].concat();
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("claim 4294967296 bytes"), "{error}");
}
