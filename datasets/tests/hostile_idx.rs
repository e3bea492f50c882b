//! IDX files that are wrong in every way we know: each is refused for its own cause, and none makes the parser panic.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use neokd_datasets::idx::{self, Images, Kind, parse_images, parse_labels};
use neokd_datasets::{DataError, DataErrorKind};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn header(magic: u32, sizes: &[u32]) -> Vec<u8> {
    std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes()).collect()
}

/// Five images of 3x4 pixels with the values 0 to 59.
fn images() -> Vec<u8> {
    let mut bytes = header(0x803, &[5, 3, 4]);
    bytes.extend(0..60);
    bytes
}

/// The labels 0, 1, 2, 3, 4.
fn labels() -> Vec<u8> {
    let mut bytes = header(0x801, &[5]);
    bytes.extend(0..5);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn image_error(bytes: &[u8]) -> DataError {
    let error = parse_images(bytes, "some-file").unwrap_err();
    assert!(error.to_string().contains("some-file"), "{error}");
    error
}

#[test]
fn valid_files_parse_raw_and_gzipped() {
    for bytes in [images(), gzip(&images())] {
        let parsed = parse_images(&bytes, "f").unwrap();
        assert_eq!(parsed, Images { count: 5, height: 3, width: 4, pixels: (0..60).collect() });
    }
    for bytes in [labels(), gzip(&labels())] {
        assert_eq!(parse_labels(&bytes, 5, "f").unwrap(), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn empty_files() {
    assert!(matches!(image_error(&[]), DataError::Empty { expected: "IDX images", .. }));
    assert!(matches!(image_error(&gzip(&[])), DataError::Empty { .. }));
    assert!(matches!(parse_labels(&[], 10, "f"), Err(DataError::Empty { expected: "IDX labels", .. })));
}

#[test]
fn every_truncation_is_an_error() {
    for (raw, kind) in [(images(), Kind::Images), (labels(), Kind::Labels)] {
        for len in 1..raw.len() {
            let error = idx::unpack(kind, &raw[..len], "f").unwrap_err();
            let DataError::Truncated { found, expected, .. } = error else { panic!("{len}: {error}") };
            assert_eq!(found, len as u64);
            assert!(expected > found);
            let packed = gzip(&raw[..len]);
            let inner = idx::unpack(kind, &packed, "f");
            assert!(matches!(inner, Err(DataError::Truncated { .. })), "{len}: {inner:?}");
        }
        let packed = gzip(&raw);
        for len in 2..packed.len() {
            let error = idx::unpack(kind, &packed[..len], "f").unwrap_err();
            assert!(matches!(error, DataError::BadGzip { .. }), "{len}: {error}");
        }
    }
}

#[test]
fn exchanged_files_are_called_mislabelled() {
    let error = image_error(&labels());
    assert!(matches!(error, DataError::Mislabelled { found: "labels", expected: "images", .. }));
    assert!(error.to_string().contains("mislabelled"));
    for bytes in [images(), gzip(&images())] {
        let error = parse_labels(&bytes, 10, "f").unwrap_err();
        assert!(matches!(error, DataError::Mislabelled { found: "images", expected: "labels", .. }));
    }
}

#[test]
fn other_formats_show_what_they_start_with() {
    let error = image_error(b"<!DOCTYPE html><title>404</title>");
    assert!(matches!(error, DataError::WrongMagic { found: 0x3c21_444f, expected: 0x803, .. }));
    assert!(error.to_string().contains("0x3c21444f") && error.to_string().contains("0x00000803"), "{error}");
    // Floating-point IDX, and the magic in the other byte order.
    assert!(matches!(image_error(&header(0xd03, &[5, 3, 4])), DataError::WrongMagic { .. }));
    assert!(matches!(image_error(&header(0x0308_0000, &[5, 3, 4])), DataError::WrongMagic { .. }));
    assert!(matches!(image_error(&gzip(b"PK\x03\x04 and so on")), DataError::WrongMagic { .. }));
}

#[test]
fn sizes_that_overflow_or_exceed_the_limit_are_refused_from_the_header() {
    for sizes in [[1 << 31, 28, 28], [u32::MAX, u32::MAX, u32::MAX], [1 << 31, 1, 1], [1 << 30, 1, 1]] {
        for bytes in [header(0x803, &sizes), gzip(&header(0x803, &sizes))] {
            let error = image_error(&bytes);
            assert!(matches!(error, DataError::TooLarge { limit: idx::MAX_BYTES, .. }), "{sizes:?}: {error}");
        }
    }
    assert!(matches!(parse_labels(&header(0x801, &[u32::MAX]), 10, "f"), Err(DataError::TooLarge { .. })));
    // Just within the limit, but the bytes are not there.
    let claim = header(0x803, &[(1 << 30) - 16, 1, 1]);
    assert!(matches!(image_error(&claim), DataError::Truncated { found: 16, expected: idx::MAX_BYTES, .. }));
}

#[test]
fn a_gzip_bomb_is_decompressed_one_byte_too_far_and_no_further() {
    let mut bomb = header(0x803, &[5, 3, 4]);
    bomb.resize(64 << 20, 0);
    let error = image_error(&gzip(&bomb));
    assert!(matches!(error, DataError::TrailingBytes { found: 77, expected: 76, .. }), "{error}");
}

#[test]
fn bytes_after_the_data_are_refused() {
    let mut long = images();
    long.push(0);
    assert!(matches!(image_error(&long), DataError::TrailingBytes { found: 77, expected: 76, .. }));
    assert!(matches!(image_error(&gzip(&long)), DataError::TrailingBytes { .. }));

    let mut after_stream = gzip(&images());
    after_stream.extend(b"xyz");
    assert!(matches!(image_error(&after_stream), DataError::TrailingCompressedBytes { extra: 3, .. }));
    // A second gzip member would be more data.
    let twice = [gzip(&images()), gzip(&images())].concat();
    assert!(matches!(image_error(&twice), DataError::TrailingCompressedBytes { .. }));
}

#[test]
fn a_wrong_checksum_is_noticed() {
    let mut packed = gzip(&images());
    let crc = packed.len() - 8;
    packed[crc] ^= 1;
    assert!(matches!(image_error(&packed), DataError::BadGzip { .. }));
}

#[test]
fn zero_sizes_name_the_dimension() {
    for (sizes, expected) in [([0, 3, 4], "images"), ([5, 0, 4], "rows"), ([5, 3, 0], "columns")] {
        let error = image_error(&header(0x803, &sizes));
        assert!(matches!(error, DataError::ZeroDimension { dimension, .. } if dimension == expected), "{error}");
    }
    // Zero must not hide an overflow, nor the other way round.
    assert!(matches!(image_error(&header(0x803, &[u32::MAX, 0, u32::MAX])), DataError::ZeroDimension { .. }));
    assert!(matches!(parse_labels(&header(0x801, &[0]), 10, "f"), Err(DataError::ZeroDimension { .. })));
}

#[test]
fn a_label_out_of_range_is_named_with_its_index() {
    let error = parse_labels(&labels(), 3, "f").unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { index: 3, value: 3, classes: 3, .. }));
    assert!(error.to_string().contains("label 3 is 3"), "{error}");
    assert!(parse_labels(&labels(), 0, "f").is_err());
}

#[test]
fn images_without_their_labels_name_both_files() {
    let images = parse_images(&images(), "f").unwrap();
    let error = idx::image_set("set", 10, images, vec![0; 4], ["the images", "the labels"]).unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { images: 5, labels: 4, .. }));
    assert!(error.to_string().contains("the images") && error.to_string().contains("the labels"));
}

#[test]
fn files_are_read_from_disk_and_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t10k-images-idx3-ubyte.gz");
    std::fs::write(&path, gzip(&images())).unwrap();
    assert_eq!(idx::read_images(&path).unwrap().count, 5);
    let error = idx::read_labels(&path, 10).unwrap_err();
    assert!(error.to_string().contains("t10k-images-idx3-ubyte.gz"), "{error}");

    let error = idx::read_images(Path::new("nowhere/at-all")).unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Io);
    assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    assert!(idx::read_images(folder.path()).is_err(), "a folder is not a file");
}

/// Flips, overwrites, inserts, deletes or cuts at one to eight random places.
fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.next_u32() % 8 {
        let at = rng.next_u32() as usize % bytes.len().max(1);
        match rng.next_u32() % 5 {
            _ if bytes.is_empty() => bytes.push(rng.next_u32() as u8),
            0 => bytes[at] ^= 1 << (rng.next_u32() % 8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.next_u32() as usize % 5],
            2 => bytes.insert(at, rng.next_u32() as u8),
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
}

#[test]
fn random_damage_parses_or_is_an_error_and_never_panics() {
    let mut rng = ChaCha8Rng::from_seed([7; 32]);
    let originals = [images(), gzip(&images()), labels(), gzip(&labels())];
    let mut refused = 0;
    for round in 0..20_000 {
        let mut bytes = originals[round % 4].clone();
        // Half of the time the damage goes into the first bytes, where the header is.
        if round % 8 < 4 {
            let mut start = bytes[..16.min(bytes.len())].to_vec();
            mutate(&mut rng, &mut start);
            bytes.splice(..16.min(bytes.len()), start);
        } else {
            mutate(&mut rng, &mut bytes);
        }
        match parse_images(&bytes, "f") {
            Ok(images) => assert_eq!(images.pixels.len(), images.count * images.height * images.width),
            Err(error) => {
                assert_eq!(error.kind(), DataErrorKind::Malformed, "{error}");
                refused += 1;
            }
        }
        if let Ok(labels) = parse_labels(&bytes, 5, "f") {
            assert!(!labels.is_empty() && labels.iter().all(|&label| label < 5));
        }
    }
    assert!(refused > 10_000, "only {refused}: the damage is too mild to test anything");
}
