//! Picture files as they occur, against what Pillow makes of them: `Image.open(file).convert("RGB")`, as torchvision's
//! `ImageFolder` reads them. `pictures/make.py` made the files and says how; the three of `BROKEN` and `whole.jpg` are
//! random pixels that were cut.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::Place;
use neokd_datasets::{DataError, ImageSet, TreeError, TreeOptions, jpeg_problem, load_tree};

const SHAPE: [usize; 3] = [3, 21, 37];

const JPEGS: [&str; 9] = [
    "baseline.jpg",
    "subsampled.jpg",
    "full.jpg",
    "restarts.jpg",
    "progressive.jpg",
    "grey.jpg",
    "grey-progressive.jpg",
    "exif-turned.jpg",
    "cmyk.jpg",
];

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures").join(name)).unwrap()
}

/// The picture as the only test image of a tree.
fn load(name: &str, bytes: &[u8], shape: [usize; 3]) -> Result<ImageSet, DataError> {
    let whole = file("palette.png");
    let names = ["train/a/0.png", "train/a/1.png"];
    let mut files: Vec<_> = names.map(|name| (name.to_owned(), whole.clone())).into();
    files.push((format!("test/a/{name}"), bytes.to_vec()));
    let place = Place::with(&files);
    Ok(load_tree(&place.tree(), &place.library(), &TreeOptions::new(shape))?.test)
}

/// Largest and mean difference from Pillow's pixels.
fn difference(name: &str, expected: &str) -> (u8, f64) {
    let ours = load(name, &file(name), SHAPE).unwrap();
    let theirs = file(expected);
    let plane = SHAPE[1] * SHAPE[2];
    let differences = (0..3 * plane).map(|at| ours.image(0)[at].abs_diff(theirs[at % plane * 3 + at / plane]));
    let differences: Vec<u8> = differences.collect();
    let sum: f64 = differences.iter().map(|value| f64::from(*value)).sum();
    (*differences.iter().max().unwrap(), sum / differences.len() as f64)
}

#[test]
fn png_files_give_the_pixels_that_pillow_gives() {
    for name in ["palette", "palette-transparent", "bits", "alpha", "grey-alpha"] {
        assert_eq!(difference(&format!("{name}.png"), &format!("{name}.rgb")).0, 0, "{name}");
    }
}

/// Decoders of JPEG files round differently.
#[test]
fn jpeg_files_give_the_pixels_that_pillow_gives_but_for_rounding() {
    for name in JPEGS {
        let (most, mean) = difference(name, &name.replace(".jpg", ".rgb"));
        assert!(most <= 3 && mean <= 0.5, "{name}: {most}, {mean}");
    }
}

/// The turned file has the pixels of the one that is not: its orientation is passed over, as Pillow does it.
#[test]
fn an_orientation_is_not_applied() {
    let turned = load("exif-turned.jpg", &file("exif-turned.jpg"), SHAPE).unwrap();
    let straight = load("baseline.jpg", &file("baseline.jpg"), SHAPE).unwrap();
    assert_eq!(turned.image(0), straight.image(0));
}

/// Pillow makes everything above 255 white of it. The values are 256 times those of `grey-alpha.png`, and 77.
#[test]
fn sixteen_bits_are_scaled_to_eight() {
    assert!(file("grey16.rgb").iter().all(|value| *value == 255));
    assert!(difference("grey16.png", "grey-alpha.rgb").0 <= 1);
}

const BROKEN: [&str; 2] = ["trunc1000.jpg", "truncated_then_eoi.jpg"];

#[test]
fn a_broken_download_is_an_error_with_its_name() {
    assert!(load("whole.jpg", &file("whole.jpg"), [3, 32, 32]).is_ok());
    for name in BROKEN {
        let error = load(name, &file(name), [3, 32, 32]).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, DataError::Tree(TreeError::ImageDamaged { .. })), "{message}");
        assert!(message.contains(name), "{message}");
        assert!(jpeg_problem(&file(name)).unwrap().contains("cut short"));
    }
}

/// Where the codes of each scan are in a file.
fn codes(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7);
    let starts = (0..file.len() - 1).filter(|at| file[*at..*at + 2] == [0xff, 0xda]);
    let starts = starts.map(|at| at + 2 + usize::from(file[at + 2]) * 256 + usize::from(file[at + 3]));
    starts.map(|start| start..start + file[start..].windows(2).position(is_marker).unwrap()).collect()
}

/// Cut anywhere without an end, and anywhere in the codes of a scan with an end after the cut. Between the scans of a
/// progressive file a cut cannot be told from a file that has no more of them.
#[test]
fn every_cut_of_every_kind_of_jpeg_is_found() {
    for name in JPEGS {
        let whole = file(name);
        assert_eq!(jpeg_problem(&whole), None, "{name}");
        let scans = codes(&whole);
        assert_eq!(scans.len() > 1, name.contains("progressive"), "{name}");
        for length in scans[0].start..whole.len() - 2 {
            assert!(jpeg_problem(&whole[..length]).is_some(), "{name}, {length} bytes");
        }
        for length in scans.into_iter().flatten() {
            let ended = [&whole[..length], &[0xff, 0xd9]].concat();
            assert!(jpeg_problem(&ended).is_some(), "{name}, {length} bytes and an end");
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    for name in JPEGS {
        let whole = file(name);
        for at in 2..whole.len() {
            for value in [0, 0x11, 0x7f, 0xff, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = jpeg_problem(&bytes);
            }
        }
    }
}
