//! safetensors files as image sets: what loads as what, and every way we know in which one can be wrong.
#![allow(clippy::unwrap_used)]

use neokd_datasets::tensors::parse_safetensors;
use neokd_datasets::{DataError, DataErrorKind, FloatImages, TensorImages, TensorsError, load_safetensors, sha256_hex};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn file(tensors: &[Tensor]) -> Vec<u8> {
    let view = |(name, dtype, shape, data): &Tensor| {
        (*name, TensorView::new(*dtype, shape.clone(), Box::leak(data.clone().into_boxed_slice())).unwrap())
    };
    serialize(tensors.iter().map(view), None).unwrap()
}

/// Three images of 2x1x2 with values 0 to 11.
fn bytes() -> Tensor {
    ("images", Dtype::U8, vec![3, 2, 1, 2], (0..12).collect())
}

fn floats(values: &[f32]) -> Tensor {
    ("images", Dtype::F32, vec![values.len() / 2, 1, 1, 2], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn labels() -> Tensor {
    ("labels", Dtype::I64, vec![3], [0_i64, 2, 1].iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn parse(tensors: &[Tensor]) -> Result<TensorImages, DataError> {
    parse_safetensors(&file(tensors), 3, "f")
}

fn refused(tensors: &[Tensor]) -> TensorsError {
    match parse(tensors).unwrap_err() {
        DataError::Tensors(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn bytes_load_as_an_image_set() {
    let TensorImages::Bytes(set) = parse(&[bytes(), labels()]).unwrap() else { panic!("floats") };
    assert_eq!((set.len(), set.shape(), set.classes(), set.labels()), (3, [2, 1, 2], 3, &[0, 2, 1][..]));
    assert_eq!(set.image(1), [4, 5, 6, 7]);
}

#[test]
fn labels_may_be_of_any_integer_type() {
    use Dtype::{I8, I16, I32, I64, U8, U16, U32, U64};
    for (dtype, size) in [(U8, 1), (I8, 1), (U16, 2), (I16, 2), (U32, 4), (I32, 4), (U64, 8), (I64, 8)] {
        let data = |last: u8| [0_u8, 2, last].iter().flat_map(|&v| [vec![v], vec![0; size - 1]].concat()).collect();
        let TensorImages::Bytes(set) = parse(&[bytes(), ("labels", dtype, vec![3], data(1))]).unwrap() else {
            panic!()
        };
        assert_eq!(set.labels(), [0, 2, 1], "{dtype:?}");
        let error = parse(&[bytes(), ("labels", dtype, vec![3], data(3))]).unwrap_err();
        assert!(
            matches!(error, DataError::LabelOutOfRange { index: 2, value: 3, classes: 3, .. }),
            "{dtype:?}: {error}"
        );
        // All bits set: -1 or the largest number.
        let error = parse(&[bytes(), ("labels", dtype, vec![3], vec![0xff; 3 * size])]).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 0, .. }), "{dtype:?}: {error}");
    }
    let error = parse_safetensors(&file(&[bytes(), labels()]), 0, "f").unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { index: 0, value: 0, classes: 0, .. }), "{error}");
}

#[test]
fn floats_stay_what_they_are() {
    let values = [0.0, 1.0, 0.123_456_79, f32::MIN_POSITIVE, 0.5, 2.0 / 255.0];
    let TensorImages::Floats(set) = parse(&[floats(&values), labels()]).unwrap() else { panic!("bytes") };
    assert_eq!((set.pixels(), set.shape(), set.labels()), (&values[..], [1, 1, 2], &[0, 2, 1][..]));
    let error = set.to_bytes().unwrap_err();
    let DataError::Tensors(TensorsError::NotEightBit { image: 1, at: 0, value, .. }) = error else { panic!("{error}") };
    assert_eq!(value, values[2]);
    // Values that are multiples of 1/255 still load as floats: the type decides, not the values.
    assert!(matches!(parse(&[floats(&[0.0; 6]), labels()]).unwrap(), TensorImages::Floats(_)));
}

#[test]
fn every_byte_survives_the_way_through_floats() {
    let values: Vec<f32> = (0..=255_u8).map(|byte| f32::from(byte) / 255.0).collect();
    let set = FloatImages::new("s", [1, 16, 16], 1, values.clone(), vec![0]).unwrap();
    assert_eq!(set.to_bytes().unwrap().pixels(), (0..=255).collect::<Vec<u8>>());
    for index in 0..256 {
        let mut off = values.clone();
        off[index] = if index == 0 { 1e-9 } else { off[index].next_down() };
        let set = FloatImages::new("s", [1, 16, 16], 1, off, vec![0]).unwrap();
        assert!(set.to_bytes().is_err(), "{index}: the next number is another one");
    }
}

#[test]
fn pixels_that_are_no_numbers_from_0_to_1() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-7, 1.0_f32.next_up(), 255.0] {
        let error = refused(&[floats(&[0.0, 0.5, 1.0, bad, 0.0, 0.0]), labels()]);
        assert!(matches!(error, TensorsError::Pixel { image: 1, at: 1, .. }), "{error}");
    }
    // Minus zero is zero.
    assert!(parse(&[floats(&[-0.0; 6]), labels()]).is_ok());
}

#[test]
fn tensors_that_are_missing_or_of_another_kind() {
    let missing = refused(&[labels(), ("x", Dtype::U8, vec![1], vec![0])]);
    assert!(
        matches!(&missing, TensorsError::Missing { tensor: "images", holds, .. } if holds == "labels, x"),
        "{missing}"
    );
    assert!(matches!(refused(&[bytes()]), TensorsError::Missing { tensor: "labels", .. }));
    assert!(matches!(refused(&[]), TensorsError::Missing { .. }));

    let wrong = ("images", Dtype::F64, vec![3, 1, 1, 1], vec![0; 24]);
    assert!(matches!(refused(&[wrong, labels()]), TensorsError::Type { tensor: "images", .. }));
    let wrong = ("labels", Dtype::F32, vec![3], vec![0; 12]);
    assert!(matches!(refused(&[bytes(), wrong]), TensorsError::Type { tensor: "labels", .. }));
    for shape in [vec![12], vec![3, 4], vec![3, 2, 2], vec![3, 1, 2, 1, 2], vec![]] {
        let data = vec![0; shape.iter().product()];
        let error = refused(&[("images", Dtype::U8, shape, data), labels()]);
        assert!(matches!(error, TensorsError::Shape { tensor: "images", .. }), "{error}");
    }
    let one_hot = ("labels", Dtype::U8, vec![3, 1], vec![0; 3]);
    assert!(matches!(refused(&[bytes(), one_hot]), TensorsError::Shape { tensor: "labels", .. }));

    let few = ("labels", Dtype::U8, vec![2], vec![0; 2]);
    assert!(matches!(parse(&[bytes(), few]), Err(DataError::CountMismatch { images: 3, labels: 2, .. })));
    let none = [("images", Dtype::U8, vec![0, 1, 1, 1], vec![]), ("labels", Dtype::U8, vec![0], vec![])];
    assert!(matches!(parse(&none), Err(DataError::EmptySet { what: "images", .. })));
    let flat = [("images", Dtype::U8, vec![3, 1, 0, 5], vec![]), labels()];
    assert!(matches!(parse(&flat), Err(DataError::EmptySet { what: "height", .. })));
}

#[test]
fn files_are_read_hashed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.safetensors");
    let content = file(&[bytes(), labels()]);
    std::fs::write(&path, &content).unwrap();
    let (_, digest) = load_safetensors(&path, 3).unwrap();
    assert_eq!((digest.name.as_str(), digest.sha256), ("set.safetensors", sha256_hex(&content)));
    std::fs::write(&path, b"<html>").unwrap();
    let error = load_safetensors(&path, 3).unwrap_err();
    assert!(error.to_string().contains("set.safetensors") && std::error::Error::source(&error).is_some(), "{error}");
    assert_eq!(load_safetensors(&folder.path().join("none"), 3).unwrap_err().kind(), DataErrorKind::Io);
}

#[test]
fn every_truncation_and_extension_is_an_error() {
    let content = file(&[bytes(), labels()]);
    for len in 0..content.len() {
        let error = parse_safetensors(&content[..len], 3, "f").unwrap_err();
        assert!(matches!(error, DataError::Tensors(TensorsError::Damaged { .. })), "{len}: {error}");
    }
    assert!(parse_safetensors(&[&content[..], &[0]].concat(), 3, "f").is_err());
}

#[test]
fn random_damage_parses_or_is_an_error_and_never_panics() {
    let mut rng = ChaCha8Rng::from_seed([4; 32]);
    let originals = [file(&[bytes(), labels()]), file(&[floats(&[0.25; 6]), labels()])];
    let mut refused = 0;
    for round in 0..20_000 {
        let mut content = originals[round % 2].clone();
        for _ in 0..1 + rng.next_u32() % 4 {
            let at = rng.next_u32() as usize % content.len();
            match rng.next_u32() % 4 {
                0 => content[at] ^= 1 << (rng.next_u32() % 8),
                1 => content[at] = b"0139-[]{}\",:"[rng.next_u32() as usize % 12],
                2 => content.insert(at, b'0' + (rng.next_u32() % 10) as u8),
                _ => drop(content.remove(at)),
            }
        }
        match parse_safetensors(&content, 3, "f") {
            Ok(TensorImages::Bytes(set)) => assert!(set.labels().iter().all(|&label| label < 3)),
            Ok(TensorImages::Floats(set)) => assert!(set.pixels().iter().all(|pixel| (0.0..=1.0).contains(pixel))),
            Err(error) => {
                assert_ne!(error.kind(), DataErrorKind::Io, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10_000, "only {refused}: the damage is too mild to test anything");
}
