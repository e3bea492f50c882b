//! NumPy files as image sets: what loads as what, and what is refused. Headers are written here as `numpy.save` writes
//! them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use neokd_datasets::{DataError, DataErrorKind, NumpyError, TensorImages, load_numpy};
use tempfile::TempDir;

fn array_with(description: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    let text = format!("{description:<117}\n");
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(bytes);
    file
}

fn array(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    array_with(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"), bytes)
}

fn archive(arrays: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn written(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Three images of two channels, one row and two columns; by channel, values 0 to 11.
fn images() -> Vec<u8> {
    array("|u1", "(3, 2, 1, 2)", &(0..12).collect::<Vec<u8>>())
}

fn labels() -> Vec<u8> {
    array("<i8", "(3,)", &[0_i64, 2, 1].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

fn load(arrays: &[(&str, Vec<u8>)]) -> Result<TensorImages, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "a.npz", &archive(arrays, zip::CompressionMethod::Stored));
    load_numpy(&path, [2, 1, 2], 3)
}

fn bytes(images: TensorImages) -> (Vec<u8>, Vec<u16>) {
    match images {
        TensorImages::Bytes(set) => (set.pixels().to_vec(), set.labels().to_vec()),
        TensorImages::Floats(_) => panic!("floats"),
    }
}

fn refused(arrays: &[(&str, Vec<u8>)], part: &str) {
    let message = load(arrays).unwrap_err().to_string();
    assert!(message.contains(part), "{part:?} is not in: {message}");
}

#[test]
fn arrays_are_found_by_every_pair_of_names_packed_or_not() {
    let expected = ((0..12).collect::<Vec<u8>>(), vec![0, 2, 1]);
    let folder = tempfile::tempdir().unwrap();
    for [pixels, classes] in [["images", "labels"], ["x_test", "y_test"], ["x", "y"], ["arr_0", "arr_1"]] {
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let arrays = [("other", labels()), (pixels, images()), (classes, labels())];
            let path = written(&folder, "a.npz", &archive(&arrays, method));
            assert_eq!(bytes(load_numpy(&path, [2, 1, 2], 3).unwrap()), expected, "{pixels}");
        }
    }
    refused(&[("x", images()), ("labels", labels())], "holds labels.npy, x.npy, and no images");
}

#[test]
fn labels_of_an_npy_file_are_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let expected = ((0..12).collect::<Vec<u8>>(), vec![0, 2, 1]);
    let path = written(&folder, "x_test.npy", &images());
    let error = load_numpy(&path, [2, 1, 2], 3).unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Missing);
    assert!(error.to_string().contains("y_test.npy or "), "{error}");
    written(&folder, "labels.npy", &labels());
    assert_eq!(bytes(load_numpy(&path, [2, 1, 2], 3).unwrap()), expected);
    // As in CIFAR-10-C.
    let fog = written(&folder, "fog.npy", &images());
    assert_eq!(bytes(load_numpy(&fog, [2, 1, 2], 3).unwrap()), expected);
    written(&folder, "y_test.npy", &array("|u1", "(3, 1)", &[2, 2, 2]));
    assert_eq!(bytes(load_numpy(&path, [2, 1, 2], 3).unwrap()).1, [2, 2, 2]);
    assert!(load_numpy(&folder.path().join("labels.npy"), [2, 1, 2], 3).is_err());
}

#[test]
fn channels_may_come_last() {
    let last: Vec<u8> = (0..3).flat_map(|image| [0, 2, 1, 3].map(|at| 4 * image + at)).collect();
    let arrays = [("x", array("|u1", "(3, 1, 2, 2)", &last)), ("y", labels())];
    assert_eq!(bytes(load(&arrays).unwrap()).0, (0..12).collect::<Vec<u8>>());
    let folder = tempfile::tempdir().unwrap();
    let grey = [("x", array("|u1", "(3, 2, 2)", &(0..12).collect::<Vec<u8>>())), ("y", labels())];
    let path = written(&folder, "a.npz", &archive(&grey, zip::CompressionMethod::Stored));
    assert_eq!(bytes(load_numpy(&path, [1, 2, 2], 3).unwrap()).0, (0..12).collect::<Vec<u8>>());
    refused(&[("x", array("|u1", "(3, 4, 1)", &[0; 12])), ("y", labels())], "the network takes [images, 2, 1, 2]");
}

#[test]
fn floats_stay_what_they_are_and_must_be_pixels() {
    let floats = |values: [f32; 12]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [("x", array("<f4", "(3, 2, 1, 2)", &bytes)), ("y", labels())]
    };
    let TensorImages::Floats(set) = load(&floats([0.3; 12])).unwrap() else { panic!("bytes") };
    assert_eq!(set.pixels(), [0.3; 12]);
    let doubles: Vec<u8> = [0.25_f64; 12].iter().flat_map(|value| value.to_le_bytes()).collect();
    let arrays = [("x", array("<f8", "(3, 2, 1, 2)", &doubles)), ("y", labels())];
    assert!(matches!(load(&arrays), Ok(TensorImages::Floats(set)) if set.pixels() == [0.25; 12]));
    let mut whole = [0.0; 12];
    whole[3] = 255.0;
    assert_eq!(bytes(load(&floats(whole)).unwrap()).0, [0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
    for wrong in [1.5, 256.0, -0.1, f32::NAN] {
        assert!(load(&floats([wrong; 12])).unwrap_err().to_string().contains("expected a number from 0 to 1"));
    }
}

#[test]
fn labels_may_be_of_any_integer_type_and_must_name_a_class() {
    for (kind, size) in [("|u1", 1), ("|i1", 1), ("<u2", 2), ("<i2", 2), ("<u4", 4), ("<i4", 4), ("<u8", 8), ("<i8", 8)]
    {
        let data = |last: u8| -> Vec<u8> {
            [0, 2, last].iter().flat_map(|v| [vec![*v], vec![0; size - 1]].concat()).collect()
        };
        let found = load(&[("x", images()), ("y", array(kind, "(3,)", &data(1)))]).unwrap();
        assert_eq!(bytes(found).1, [0, 2, 1], "{kind}");
        let error = load(&[("x", images()), ("y", array(kind, "(3,)", &data(3)))]).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 2, value: 3, .. }), "{error}");
        let error = load(&[("x", images()), ("y", array(kind, "(3,)", &vec![0xff; 3 * size]))]).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 0, .. }), "{error}");
    }
    refused(&[("x", images()), ("y", array("<f4", "(3,)", &[0; 12]))], "expected integers");
    refused(&[("x", images()), ("y", array("|u1", "(1, 3)", &[0; 3]))], "expected [images]");
    let error = load(&[("x", images()), ("y", array("|u1", "(2,)", &[0; 2]))]).unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { images: 3, labels: 2, .. }), "{error}");
}

#[test]
fn hostile_descriptions_are_refused_before_memory_is_taken() {
    let whole = |description: &str| array_with(description, &[0; 12]);
    let cases: [(Vec<u8>, &str); 12] = [
        (array("|u1", "(1000000000000, 2, 1, 2)", &[0; 12]), "but 12 are there"),
        (array("|u1", "(18446744073709551615, 18446744073709551615, 2)", &[0; 12]), "more than 2^64"),
        (array("|u1", "(3, -2, 1, 2)", &[0; 12]), "not understood"),
        (array("|u1", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 12)", &[0; 12]), "not understood"),
        (array("|O", "(3, 2, 1, 2)", &[0; 12]), "not understood"),
        (array("|O8", "(3, 2, 1, 2)", &[0; 12]), "Python objects"),
        (array(">f4", "(3, 2, 1, 2)", &[0; 48]), "big end first"),
        (array("<c8", "(3, 2, 1, 2)", &[0; 96]), "expected numbers"),
        (whole("{'descr': '|u1', 'fortran_order': True, 'shape': (3, 2, 1, 2), }"), "column-major"),
        (whole("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (12,), }"), "structured"),
        (whole("__import__('os').system('true')"), "not understood"),
        (b"\x93NUMPY\x03\0\xff\xff\xff\xff{}".to_vec(), "4294967295 bytes"),
    ];
    for (images, part) in cases {
        refused(&[("x", images), ("y", labels())], part);
    }
    refused(&[("x", b"no array".to_vec()), ("y", labels())], "no array in NumPy's format");
    let folder = tempfile::tempdir().unwrap();
    let zeros = array("|u1", "(40000000, 2, 1, 2)", &vec![0; 160_000_000]);
    let bomb = archive(&[("x", zeros), ("y", labels())], zip::CompressionMethod::Deflated);
    let error = load_numpy(&written(&folder, "a.npz", &bomb), [2, 1, 2], 3).unwrap_err();
    assert!(error.to_string().contains("would unpack to"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    written(&folder, "y.npy", &labels());
    let whole = images();
    for length in 0..whole.len() {
        let path = written(&folder, "x.npy", &whole[..length]);
        let error = load_numpy(&path, [2, 1, 2], 3).unwrap_err();
        assert!(matches!(error, DataError::Numpy(NumpyError::Array { .. })), "{length}: {error}");
    }
    let whole = archive(&[("x", images()), ("y", labels())], zip::CompressionMethod::Deflated);
    for length in 0..whole.len() {
        let path = written(&folder, "a.npz", &whole[..length]);
        assert!(load_numpy(&path, [2, 1, 2], 3).is_err(), "{length} bytes");
    }
}
