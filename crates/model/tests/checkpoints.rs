//! PyTorch files: what is read, what is left out, and that a hostile one is an error and runs nothing.
#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use neokd_model::weights::{self, HostTensor, PytorchWeights, Shapes, TensorMap, WeightsError};
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
    /// Operations as they are.
    Raw(&'a [u8]),
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
            Self::Raw(operations) => out.extend(*operations),
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

fn shapes(wanted: &[(&str, &[usize])]) -> Shapes {
    wanted.iter().map(|(name, shape)| ((*name).to_string(), shape.to_vec())).collect()
}

fn read(bytes: &[u8], wanted: &[(&str, &[usize])], key: Option<&str>) -> Result<PytorchWeights, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    weights::read_pytorch(&written(&folder, bytes), &shapes(wanted), key)
}

/// What [`training_checkpoint`] holds weights for.
const TRAINED: &[(&str, &[usize])] = &[("fc.weight", &[2, 3]), ("fc.scale", &[2])];

const ONE: &[(&str, &[usize])] = &[("a.weight", &[2])];

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
    let weights = read(&training_checkpoint(), TRAINED, None).unwrap();
    let expected = TensorMap::from([
        ("fc.scale".to_string(), HostTensor { shape: vec![2], values: vec![0.5, -2.0] }),
        ("fc.weight".to_string(), HostTensor { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }),
    ]);
    assert_eq!(weights.tensors, expected);
    assert_eq!(weights.integers, ["bn.num_batches_tracked"]);
    assert_eq!(weights.beside, ["arch", "epoch", "optimizer"]);
    assert_eq!((weights.key.as_str(), weights.prefix.as_str()), ("state_dict", "module."));
}

#[test]
fn a_bare_state_dict_gives_its_weights() {
    let entries = vec![("a.weight", Pickle::Tensor(0, "FloatStorage", &[2])), ("version", Pickle::Integer(1))];
    let weights = read(&legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, -1.0])]), ONE, None).unwrap();
    assert_eq!(weights.tensors["a.weight"].values, [1.0, -1.0]);
    assert_eq!(weights.beside, ["version"]);
}

#[test]
fn a_safetensors_file_of_a_state_dict_is_read_too() {
    let config = ModelConfig::RdiResNet(RdiResNetConfig { depth: 14, ..RdiResNetConfig::default() });
    let network = config.init(1, &Device::flex());
    let original = weights::to_pytorch_names(&config, weights::collect(&network).unwrap());
    let bytes = weights::encode(&original, &weights::Metadata::new()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wanted = weights::pytorch_shapes(&config, &Device::flex()).unwrap();
    let read = |bytes: &[u8]| weights::read_pytorch(&written(&folder, bytes), &wanted, None);
    assert_eq!(read(&bytes).unwrap().tensors, original);
    assert!(matches!(read(&bytes[..bytes.len() - 1]), Err(WeightsError::Format(_))));
}

#[test]
fn a_missing_file_is_named() {
    let error = weights::read_pytorch(Path::new("no/such/file.pth"), &Shapes::new(), None).unwrap_err();
    assert!(matches!(&error, WeightsError::Read { file, .. } if file.ends_with("file.pth")), "{error}");
}

#[test]
fn a_truncated_checkpoint_is_an_error_wherever_it_ends() {
    let whole = training_checkpoint();
    for length in 0..whole.len() {
        assert!(read(&whole[..length], TRAINED, None).is_err(), "{length} bytes");
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
            assert!(read(&bytes, ONE, None).is_err(), "{bytes:?}");
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
        let _ = read(&bytes, TRAINED, None);
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
            let error =
                weights::read_pytorch(&written(&folder, &bytes), &shapes(&[("a.weight", &[1])]), None).unwrap_err();
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
    let error = read(&bytes, &[("a.weight", &[1 << 20, 1 << 10])], None).unwrap_err().to_string();
    assert!(error.contains("a.weight: claims [1048576, 1024] values, but 1 are stored"), "{error}");
    // What the network does not ask for is not read at all.
    assert!(matches!(read(&bytes, ONE, None), Err(WeightsError::Mismatch(_))));
}

fn weight(key: usize) -> Pickle<'static> {
    Pickle::Tensor(key, "FloatStorage", &[2])
}

fn state_dict(name: &str, key: usize) -> Pickle<'_> {
    Pickle::Dictionary(vec![(name, weight(key))])
}

#[test]
fn weights_are_found_under_any_key_and_behind_any_prefix() {
    let below = |key, inner| Pickle::Dictionary(vec![("epoch", Pickle::Integer(1)), (key, inner)]);
    let cases = [
        (below("params", state_dict("a.weight", 0)), "params", ""),
        (below("run", below("best", state_dict("a.weight", 0))), "run.best", ""),
        (below("ema", state_dict("module._orig_mod.a.weight", 0)), "ema", "module._orig_mod."),
        (state_dict("1.a.weight", 0), "", "1."),
        (below("model", Pickle::Dictionary(vec![("a", state_dict("weight", 0))])), "model", ""),
    ];
    for (object, key, prefix) in cases {
        let weights = read(&legacy_file(&object, &[floats(&[1.0, -1.0])]), ONE, None).unwrap();
        assert_eq!(weights.tensors["a.weight"].values, [1.0, -1.0], "{key} {prefix}");
        assert_eq!((weights.key.as_str(), weights.prefix.as_str()), (key, prefix));
        assert!(weights.unexpected.is_empty() && weights.strict().is_ok(), "{key} {prefix}");
    }
}

#[test]
fn of_several_entries_that_fit_one_has_to_be_named() {
    let entries = vec![("model", state_dict("a.weight", 0)), ("ema", state_dict("module.a.weight", 1))];
    let file = legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, 2.0]), floats(&[3.0, 4.0])]);
    let error = read(&file, ONE, None).unwrap_err();
    assert!(matches!(&error, WeightsError::Entries(entries) if entries.len() == 2), "{error}");
    let message = error.to_string();
    assert!(message.contains("ema.module (1 tensors, 2 values)") && message.contains("--key"), "{message}");
    for (key, values) in [("model", [1.0, 2.0]), ("ema", [3.0, 4.0]), ("ema.module", [3.0, 4.0])] {
        assert_eq!(read(&file, ONE, Some(key)).unwrap().tensors["a.weight"].values, values, "{key}");
    }
    let error = read(&file, ONE, Some("average")).unwrap_err();
    assert!(matches!(&error, WeightsError::Key { entries, .. } if !entries.is_empty()), "{error}");

    // The same with both in one dictionary.
    let both = Pickle::Dictionary(vec![("net.a.weight", weight(0)), ("ema_net.a.weight", weight(1))]);
    let file = legacy_file(&both, &[floats(&[1.0, 2.0]), floats(&[3.0, 4.0])]);
    assert!(matches!(read(&file, ONE, None), Err(WeightsError::Entries(_))));
    let weights = read(&file, ONE, Some("ema_net")).unwrap();
    assert_eq!(weights.tensors["a.weight"].values, [3.0, 4.0]);
    assert!(matches!(weights.strict(), Err(WeightsError::Mismatch(_))));
}

#[test]
fn a_storage_counts_once_however_many_names_it_has() {
    let entries = vec![("a.weight", weight(0)), ("main.a.weight", weight(0))];
    let weights = read(&legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, 2.0])]), ONE, None).unwrap();
    assert_eq!(weights.repeated, ["main.a.weight"]);
    assert!(weights.strict().is_ok());
    let entries = vec![("model", state_dict("a.weight", 0)), ("ema", state_dict("a.weight", 0))];
    let weights = read(&legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, 2.0])]), ONE, None).unwrap();
    assert_eq!((weights.key.as_str(), weights.beside.as_slice()), ("model", &["ema".to_string()][..]));
}

/// As `pickle` writes them in protocols 2 to 4.
#[test]
fn objects_beside_the_weights_stay_opaque() {
    let objects: [(&str, &[u8]); 12] = [
        ("path", b"cpathlib\nPosixPath\nX\x01\0\0\0/X\x01\0\0\0a\x86R"),
        ("date", b"cdatetime\ndatetime\nC\x0a\x07\xe8\x01\x02\0\0\0\0\0\0\x85R"),
        ("deque", b"ccollections\ndeque\n)K\x05\x86R(K\x01K\x02e"),
        ("counts", b"ccollections\ndefaultdict\ncbuiltins\nint\n\x85R(X\x01\0\0\0aK\x01u"),
        ("schedule", b"cfunctools\npartial\ncmath\ncos\n\x85R(cmath\ncos\n)}Ntb"),
        ("bytes", b"C\x03abc"),
        (
            "score",
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8K\0K\x01\x87RC\x08\0\0\0\0\0\0\xf0?\x86R",
        ),
        ("config", b"c__main__\nConfig\n)\x81}X\x02\0\0\0lrG?\xb9\x99\x99\x99\x99\x99\x9asb"),
        ("by_size", b"}(K\x01K\x02\x86K\x03NK\x04u"),
        ("large", b"\x8a\x0a\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"),
        ("nothing", b"N"),
        ("set", b"\x8f(K\x01\x90"),
    ];
    let mut entries = vec![("state_dict", state_dict("a.weight", 0))];
    entries.extend(objects.map(|(name, operations)| (name, Pickle::Raw(operations))));
    let weights = read(&legacy_file(&Pickle::Dictionary(entries), &[floats(&[1.0, 2.0])]), ONE, None).unwrap();
    let mut names = objects.map(|(name, _)| name.to_string());
    names.sort();
    assert_eq!(weights.beside, names);
}

#[test]
fn values_of_a_diverged_run_are_counted() {
    let wanted: &[(&str, &[usize])] = &[("a.weight", &[2]), ("bn.running_var", &[2])];
    let sound = |weight: &[f32], variance: &[f32]| {
        let entries = vec![("a.weight", self::weight(0)), ("bn.running_var", self::weight(1))];
        let file = legacy_file(&Pickle::Dictionary(entries), &[floats(weight), floats(variance)]);
        read(&file, wanted, None).unwrap().sound().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(sound(&[1.0, -2.0], &[0.0, 1.0]), Ok(()));
    for (weight, variance, expected) in [
        ([f32::NAN, 1.0], [1.0, 1.0], "a.weight: 1 NaN of 2 values"),
        ([f32::INFINITY, f32::NEG_INFINITY], [1.0, 1.0], "a.weight: 2 infinite of 2 values"),
        ([1.0, 1.0], [-1.0, 1.0], "bn.running_var: 1 negative of 2 values"),
    ] {
        let error = sound(&weight, &variance).unwrap_err();
        assert!(error.contains(expected) && error.contains("--allow-non-finite"), "{error}");
    }
}

/// Dictionaries that hold one another twice, and a list that holds itself.
#[test]
fn tangled_objects_are_refused_or_passed_over() {
    let mut doubled = vec![0x80, 2];
    doubled.push(b'}');
    text(&mut doubled, "a.weight");
    tensor(&mut doubled, "0", "FloatStorage", &[2]);
    doubled.push(b's');
    for level in 0..40u8 {
        doubled.extend([b'q', level, b'0', b'}']);
        for key in ["x", "y"] {
            text(&mut doubled, key);
            doubled.extend([b'h', level, b's']);
        }
    }
    doubled.push(b'.');
    let circle = b"\x80\x02]q\0h\0a.".to_vec();
    let placeholder = Pickle::Integer(0).file();
    let file = legacy_file(&Pickle::Integer(0), &[floats(&[1.0, 2.0])]);
    let at = file.windows(placeholder.len()).position(|window| window == placeholder).unwrap();
    for object in [doubled, circle] {
        let bytes = [&file[..at], &object, &file[at + placeholder.len()..]].concat();
        assert!(matches!(read(&bytes, ONE, None), Err(WeightsError::Checkpoint { .. })));
    }
}

/// A file as PyTorch writes it since 1.6.
fn zip_file(object: &[u8], storages: &[Vec<u8>], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut entry = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    };
    entry("data.pkl", object);
    entry("byteorder", b"little");
    storages.iter().enumerate().for_each(|(key, storage)| entry(&format!("data/{key}"), storage));
    archive.finish().unwrap().into_inner()
}

#[test]
fn an_archive_is_read_in_place() {
    let object = Pickle::Dictionary(vec![("ema", state_dict("module.a.weight", 0))]).file();
    let storage = floats(&[1.0, -1.0]).1;
    let whole = zip_file(&object, std::slice::from_ref(&storage), zip::CompressionMethod::Stored);
    assert_eq!(read(&whole, ONE, None).unwrap().tensors["a.weight"].values, [1.0, -1.0]);
    let refused = |bytes: &[u8], part: &str| {
        let error = read(bytes, ONE, None).unwrap_err().to_string();
        assert!(error.contains(part), "{part:?} is not in: {error}");
    };
    let place = whole.windows(8).position(|bytes| bytes == storage).unwrap();
    let mut flipped = whole.clone();
    flipped[place] ^= 1;
    refused(&flipped, "archive/data/0");
    // What is compressed may be much larger than the file.
    refused(&zip_file(&object, &[vec![0; 1 << 20]], zip::CompressionMethod::Deflated), "compressed");
    refused(&zip_file(&object, &[], zip::CompressionMethod::Stored), "archive/data/0 in the archive: missing");
    refused(&zip_file(&object, &[vec![0; 4]], zip::CompressionMethod::Stored), "but 1 are stored");
    for length in 0..whole.len() {
        assert!(read(&whole[..length], ONE, None).is_err(), "{length} bytes");
    }
}
