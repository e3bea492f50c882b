//! Trees and zip archives that are wrong in every way we know: each is refused for its own cause, and the file is
//! named.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Place, jpeg, png, zip};
use image::RgbImage;
use neokd_datasets::{ArchiveError, DataError, DataErrorKind, TreeError, TreeOptions, load_tree};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

type Files = Vec<(String, Vec<u8>)>;

fn image() -> Vec<u8> {
    png(&RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, 3])))
}

/// Two classes with two training images and one test image each.
fn good() -> Files {
    let names = ["train/a/0.png", "train/a/1.png", "train/b/0.png", "train/b/1.png", "test/a/0.png", "test/b/0.png"];
    names.map(|name| (name.to_owned(), image())).into()
}

fn with(mut files: Files, name: &str, bytes: &[u8]) -> Files {
    files.retain(|(other, _)| other != name);
    files.push((name.into(), bytes.to_vec()));
    files
}

fn without(mut files: Files, start: &str) -> Files {
    files.retain(|(name, _)| !name.starts_with(start));
    files
}

fn error_of(from: &Path, library: &Path) -> DataError {
    load_tree(from, library, &TreeOptions::new([3, 8, 8])).unwrap_err()
}

/// The error for the tree as a folder, which must be the same kind as that for the tree as an archive.
fn tree_error(files: &Files) -> TreeError {
    let place = Place::with(files);
    let archive = place.write("data.zip", &zip(files));
    let zipped = error_of(&archive, &place.library());
    let folder = error_of(&place.tree(), &place.library());
    assert_eq!(zipped.kind(), folder.kind(), "{zipped} | {folder}");
    match folder {
        DataError::Tree(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn parts_that_are_missing() {
    let error = tree_error(&without(good(), "test/"));
    assert!(matches!(error, TreeError::NoTest { .. }), "{error}");
    let unlabelled = with(without(good(), "test/"), "test/0.png", &image());
    assert!(matches!(tree_error(&unlabelled), TreeError::NoTest { .. }));
    let error = tree_error(&without(good(), "train/"));
    assert!(matches!(error, TreeError::NoTrain { .. }), "{error}");
    let place = Place::with(&[]);
    assert!(matches!(error_of(&place.tree(), &place.library()), DataError::Tree(TreeError::NoTrain { .. })));
    let nowhere = error_of(Path::new("no/such/tree"), &place.library());
    assert_eq!(nowhere.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn files_out_of_place_are_named() {
    let cases = [
        ("train/loose.png", "train/loose.png"),
        ("test/loose.png", "test/loose.png"),
        ("train/a/deeper/x.png", "train/a/deeper/x.png"),
    ];
    for (name, named) in cases {
        let error = tree_error(&with(good(), name, &image()));
        assert!(matches!(&error, TreeError::Misplaced { file, .. } if file == named), "{error}");
    }
    for name in ["train/a/notes.txt", "test/b/image.webp", "train/a/png", "train/a/0.png.bak"] {
        let error = tree_error(&with(good(), name, b"text"));
        assert!(matches!(&error, TreeError::NotAnImage { file, .. } if file == name), "{error}");
    }
    let place = Place::with(&with(good(), "train/a/b/c/d/e.png", &image()));
    assert!(matches!(error_of(&place.tree(), &place.library()), DataError::Tree(TreeError::Misplaced { .. })));
}

#[test]
fn classes_that_do_not_match() {
    let error = tree_error(&with(good(), "test/c/0.png", &image()));
    assert!(matches!(&error, TreeError::UnknownClass { class, classes: 2, .. } if class == "c"), "{error}");
    let place = Place::with(&good());
    std::fs::create_dir(place.tree().join("train/empty")).unwrap();
    let error = error_of(&place.tree(), &place.library());
    assert!(matches!(&error, DataError::Tree(TreeError::EmptyClass { class, .. }) if class == "empty"), "{error}");
    assert_eq!(error.kind(), DataErrorKind::Inconsistent);
    // A class of one image leaves nothing to train on once that is held out.
    let place = Place::with(&without(without(good(), "train/a/1"), "train/b/1"));
    assert!(matches!(error_of(&place.tree(), &place.library()), DataError::SplitEmptyPart { .. }));
}

#[test]
fn a_truncated_image_is_an_error_unless_every_pixel_is_there() {
    let (png, jpeg) = (image(), jpeg(&RgbImage::new(9, 7)));
    for (name, bytes) in [("train/a/2.png", png), ("train/b/2.jpeg", jpeg)] {
        let load = |bytes| {
            let place = Place::with(&with(good(), name, bytes));
            load_tree(&place.tree(), &place.library(), &TreeOptions::new([3, 8, 8]))
        };
        let whole = load(&bytes).unwrap();
        for len in (0..bytes.len()).step_by(3) {
            match load(&bytes[..len]) {
                // What PNG has after its last pixel is a formality.
                Ok(splits) => {
                    assert!(name.ends_with("png") && len + 16 > bytes.len(), "{len} of {}", bytes.len());
                    assert_eq!(splits.train.digest(), whole.train.digest());
                    assert_eq!(splits.validation.digest(), whole.validation.digest());
                }
                Err(DataError::Tree(TreeError::ImageDamaged { file, .. })) if file == name => {}
                Err(other) => panic!("{len}: {other}"),
            }
        }
    }
}

#[test]
fn what_only_looks_like_an_image_by_its_name() {
    for bytes in [&b""[..], b"<!DOCTYPE html>", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"] {
        let error = tree_error(&with(good(), "train/a/1.png", bytes));
        assert!(matches!(&error, TreeError::ImageDamaged { file, .. } if file == "train/a/1.png"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    // The ending does not matter, the content does.
    let place = Place::with(&with(good(), "train/a/1.png", &jpeg(&RgbImage::new(9, 7))));
    assert!(load_tree(&place.tree(), &place.library(), &TreeOptions::new([3, 8, 8])).is_ok());
}

/// A PNG whose header announces another size, with its checksum put right.
fn png_that_claims(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = image();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

#[test]
fn sizes_that_would_fill_the_memory_are_refused_from_the_header() {
    for (width, height) in [(100_000, 100_000), (16_385, 1), (1, 0x7fff_ffff)] {
        let error = tree_error(&with(good(), "train/a/1.png", &png_that_claims(width, height)));
        assert!(matches!(error, TreeError::ImageTooLarge { .. }), "{error}");
    }
    let bomb = tree_error(&with(good(), "train/a/1.png", &png_that_claims(16_000, 16_000)));
    assert!(matches!(bomb, TreeError::ImageDamaged { .. }), "{bomb}");

    let place = Place::with(&with(good(), "train/a/1.png", &png_that_claims(16_000, 1)));
    let narrow = load_tree(&place.tree(), &place.library(), &TreeOptions::new([3, 4096, 4096])).unwrap_err();
    assert!(matches!(narrow, DataError::Tree(TreeError::ImageTooLarge { .. })), "{narrow}");
}

#[test]
fn requests_that_make_no_sense() {
    let place = Place::with(&good());
    for shape in [[2, 8, 8], [0, 8, 8], [3, 0, 8], [3, 8, 4097], [usize::MAX, usize::MAX, usize::MAX]] {
        let error = load_tree(&place.tree(), &place.library(), &TreeOptions::new(shape)).unwrap_err();
        assert!(matches!(error, DataError::Tree(TreeError::BadShape { .. })), "{error}");
        assert_eq!(error.kind(), DataErrorKind::Request);
    }
    let mut options = TreeOptions::new([3, 8, 8]);
    options.max_bytes = 6 * 192 - 1;
    let error = load_tree(&place.tree(), &place.library(), &options).unwrap_err();
    assert!(matches!(error, DataError::Tree(TreeError::TooLarge { images: 6, .. })), "{error}");
    options.max_bytes += 1;
    assert!(load_tree(&place.tree(), &place.library(), &options).is_ok());
}

const LIST: &str = "val/val_annotations.txt";

fn tiny_imagenet() -> Files {
    let mut files: Files = ["train/n1/images/0.JPEG", "train/n1/images/1.JPEG", "train/n2/images/0.JPEG"]
        .into_iter()
        .chain(["train/n2/images/1.JPEG", "val/images/v0.JPEG", "val/images/v1.JPEG"])
        .map(|name| (name.to_owned(), jpeg(&RgbImage::new(8, 8))))
        .collect();
    files.push(("wnids.txt".into(), b"n1\nn2\n".to_vec()));
    files.push((LIST.into(), b"v0.JPEG\tn1\t0\nv1.JPEG\tn2\t0\n".to_vec()));
    files
}

#[test]
fn lists_of_tiny_imagenet_that_do_not_fit() {
    let place = Place::with(&tiny_imagenet());
    assert!(load_tree(&place.tree(), &place.library(), &TreeOptions::new([3, 8, 8])).is_ok());

    let list = |text: &str| tree_error(&with(tiny_imagenet(), LIST, text.as_bytes()));
    let good = "v0.JPEG\tn1\nv1.JPEG\tn2\n";
    assert!(matches!(list("v0.JPEG n1\n"), TreeError::Line { line: 1, .. }));
    assert!(matches!(list(&format!("{good}\n")), TreeError::Line { line: 3, .. }));
    assert!(matches!(list("v0.JPEG\tn1\nv0.JPEG\tn1\n"), TreeError::ListedTwice { line: 2, .. }));
    assert!(matches!(list(&format!("{good}v2.JPEG\tn1\n")), TreeError::ListedNotThere { .. }));
    assert!(matches!(list("v1.JPEG\tn1\n"), TreeError::NotListed { item, .. } if item == "val/images/v0.JPEG"));
    assert!(matches!(list(""), TreeError::NotListed { .. }));
    assert!(matches!(list("v0.JPEG\tn9\n"), TreeError::UnknownClass { file, .. } if file.ends_with("line 1")));
    assert!(list(&"x".repeat(1_000_000)).to_string().len() < 400);
    let binary = tree_error(&with(tiny_imagenet(), LIST, &[0xff, 0xfe]));
    assert!(matches!(binary, TreeError::NotText { .. }), "{binary}");

    let wnids = |text: &str| tree_error(&with(tiny_imagenet(), "wnids.txt", text.as_bytes()));
    assert!(matches!(wnids("n1\nn2\nn1\n"), TreeError::ListedTwice { file: "wnids.txt", line: 3, .. }));
    assert!(matches!(wnids("n1\n\nn2\n"), TreeError::Line { file: "wnids.txt", line: 2, .. }));
    assert!(matches!(wnids("n1\n"), TreeError::UnknownClass { class, .. } if class == "n2"));
    assert!(matches!(wnids("n1\nn2\nn3\n"), TreeError::EmptyClass { class, .. } if class == "n3"));
    assert!(matches!(wnids("../n1\nn2\n"), TreeError::Line { line: 1, .. }));

    let stray = tree_error(&with(tiny_imagenet(), "train/n1/images/notes.md", b""));
    assert!(matches!(stray, TreeError::Misplaced { .. }), "{stray}");
}

fn archive_error(bytes: &[u8]) -> ArchiveError {
    let place = Place::with(&[]);
    let path = place.write("x.zip", bytes);
    match error_of(&path, &place.library()) {
        DataError::Archive(error) => error,
        other => panic!("{other}"),
    }
}

/// The archive with every `from` in it replaced by `to`, which is as long.
fn replaced(archive: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = archive.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

#[test]
fn entries_of_a_zip_archive_that_leave_it_or_clash() {
    let archive = zip(&with(good(), "train/a/9.png", &image()));
    for name in ["../../../9.png", "/rain/a/9.png", "train\\a\\9.png", "C:/in/a/9.png", "train/a/../9.p"] {
        let name = &name[..13.min(name.len())];
        let padded = format!("{name:x<13}");
        let error = archive_error(&replaced(&archive, "train/a/9.png", &padded));
        assert!(matches!(&error, ArchiveError::Leaves { entry, .. } if *entry == padded), "{padded}: {error}");
    }
    let error = archive_error(&replaced(&archive, "train/a/9.png", "train/a/0.png"));
    assert!(matches!(error, ArchiveError::Duplicate { .. }), "{error}");
    let error = archive_error(&zip(&with(good(), "train/.//a/0.png", &image())));
    assert!(matches!(&error, ArchiveError::Duplicate { entry, .. } if entry == "train/a/0.png"), "{error}");
    let error = archive_error(&replaced(&archive, "train/a/9.png", "train/a/\x01.png"));
    assert!(matches!(error, ArchiveError::BadName { .. }), "{error}");
}

#[test]
fn links_in_a_zip_archive() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_symlink("train/a/9.png", "/etc/passwd", options).unwrap();
    let error = archive_error(&writer.finish().unwrap().into_inner());
    assert!(matches!(&error, ArchiveError::NotAFile { found: "symbolic link", .. }), "{error}");
}

#[test]
fn a_zip_bomb_is_refused_by_its_directory() {
    let error = archive_error(&zip(&with(good(), "train/a/9.png", &vec![0; (64 << 20) + 1])));
    assert!(matches!(error, ArchiveError::EntryTooLarge { limit: 67_108_864, .. }), "{error}");
}

#[test]
fn a_zip_archive_that_is_none() {
    for bytes in [&b""[..], b"PK\x03\x04", b"<!DOCTYPE html>", b"\x1f\x8b\x08"] {
        assert!(matches!(archive_error(bytes), ArchiveError::Damaged { format: "zip", .. }));
    }
    let archive = zip(&good());
    for len in (0..archive.len()).step_by(7) {
        let place = Place::with(&[]);
        let path = place.write("x.zip", &archive[..len]);
        assert_eq!(error_of(&path, &place.library()).kind(), DataErrorKind::Malformed, "{len}");
    }
}

#[test]
fn random_damage_to_an_archive_loads_or_is_an_error_and_never_panics() {
    let mut rng = ChaCha8Rng::from_seed([9; 32]);
    let originals = [zip(&good()), zip(&tiny_imagenet())];
    let place = Place::with(&[]);
    let mut refused = 0;
    for round in 0..800 {
        let mut bytes = originals[round % 2].clone();
        for _ in 0..1 + rng.next_u32() % 4 {
            let at = rng.next_u32() as usize % bytes.len();
            match rng.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (rng.next_u32() % 8),
                1 => bytes[at] = [0, 0xff, b'/', b'.', 0x7f][rng.next_u32() as usize % 5],
                2 => bytes.insert(at, rng.next_u32() as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        let path = place.write("x.zip", &bytes);
        match load_tree(&path, &place.library(), &TreeOptions::new([3, 8, 8])) {
            Ok(splits) => assert_eq!(splits.train.shape(), [3, 8, 8]),
            Err(error) => {
                assert_ne!(error.kind(), DataErrorKind::Io, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 300, "only {refused}: the damage is too mild to test anything");
}

#[test]
fn random_damage_to_an_image_decodes_or_is_an_error_and_never_panics() {
    let mut rng = ChaCha8Rng::from_seed([2; 32]);
    let photo = RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * y) as u8, (x + 3 * y) as u8, x as u8]));
    let originals = [png(&photo), jpeg(&photo)];
    let mut refused = 0;
    for round in 0..120 {
        // Many files at once: one tree is decoded on all cores.
        let mut files = good();
        for number in 0..16 {
            let mut bytes = originals[number % 2].clone();
            let at = rng.next_u32() as usize % bytes.len();
            match (round + number) % 3 {
                0 => bytes[at] = rng.next_u32() as u8,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, rng.next_u32() as u8),
            }
            files.push((format!("train/a/x{number:02}.png"), bytes));
        }
        let place = Place::with(&files);
        match load_tree(&place.tree(), &place.library(), &TreeOptions::new([3, 8, 8])) {
            Ok(_) => {}
            Err(DataError::Tree(TreeError::ImageDamaged { .. } | TreeError::ImageTooLarge { .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 60, "only {refused}: the damage is too mild to test anything");
}
