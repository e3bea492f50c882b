//! Import and load of a zip archive of images, on a tiny dataset that is known for the time of a test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};

use image::{ImageFormat, Rgb, RgbImage};

use crate::held_out::{HeldOut, SplitRule};
use crate::import::import_known;
use crate::library::{load_known, status};
use crate::manifest::{Format, KnownDataset, KnownFile};
use crate::{DataError, Status, TreeError, Trust, sha256_hex};

/// Two classes in the published layout, two training images and one labelled validation image each.
fn archive(shade: u8) -> Vec<u8> {
    let image = |value: u8| {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(64, 64, Rgb([value; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let mut files = vec![
        ("wnids.txt".to_owned(), b"n2\nn1\n".to_vec()),
        ("val/val_annotations.txt".to_owned(), b"b.png\tn2\t0\na.png\tn1\t0\n".to_vec()),
        ("val/images/a.png".to_owned(), image(7)),
        ("val/images/b.png".to_owned(), image(8)),
    ];
    for (class, value) in [("n1", 0), ("n2", shade)] {
        files.push((format!("train/{class}/images/0.png"), image(value)));
        files.push((format!("train/{class}/images/1.png"), image(value + 1)));
    }
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(format!("tiny/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tiny(class_names: &'static [&'static str], train_images: usize) -> &'static KnownDataset {
    let bytes = archive(100);
    Box::leak(Box::new(KnownDataset {
        name: "tiny",
        description: "for tests",
        shape: [3, 64, 64],
        class_names,
        train_images,
        test_images: 2,
        licence: "MIT",
        origin: "this test",
        obtain: "call archive()",
        format: Format::TinyImageNet(KnownFile {
            name: "tiny.zip",
            other_names: &[],
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes).leak(),
            gzip_sha256: None,
        }),
        split: SplitRule::Drawn(HeldOut::PerClass(1)),
    }))
}

#[test]
fn the_archive_is_kept_and_its_images_are_cached_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let (path, library) = (root.path().join("download.zip"), root.path().join("library"));
    fs::write(&path, archive(100)).unwrap();
    let dataset = tiny(&["n1", "n2"], 4);
    let import = import_known(dataset, &path, &library, false).unwrap();
    assert_eq!(import.provenance.trust, Trust::Verified);
    assert_eq!(status(dataset, &import.folder).unwrap(), Status::Imported);

    let (train, test, _) = load_known(dataset, &library).unwrap();
    assert_eq!((train.labels(), test.labels()), (&[0, 0, 1, 1][..], &[0, 1][..]));
    assert_eq!((train.image(3)[0], test.image(1)[0], test.name()), (101, 8, "tiny test"));
    let cache = import.folder.join("decoded.images");
    let written = fs::metadata(&cache).unwrap().modified().unwrap();
    assert_eq!(load_known(dataset, &library).unwrap().0, train);
    assert_eq!(fs::metadata(&cache).unwrap().modified().unwrap(), written, "the cache was used");
    assert!(import_known(dataset, &path, &library, false).unwrap().already_present);

    // Another archive does not get the images of this one.
    fs::write(import.folder.join("tiny.zip"), archive(50)).unwrap();
    assert!(matches!(
        load_known(dataset, &library),
        Err(DataError::SizeMismatch { .. } | DataError::DigestMismatch { .. })
    ));
}

#[test]
fn an_unverified_archive_is_decoded_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let (path, library) = (root.path().join("other.zip"), root.path().join("library"));
    fs::write(&path, archive(50)).unwrap();
    let dataset = tiny(&["n1", "n2"], 4);
    assert!(import_known(dataset, &path, &library, false).is_err());
    let import = import_known(dataset, &path, &library, true).unwrap();
    assert_eq!(import.provenance.trust, Trust::Unverified);
    // A cache that was made from something else is passed over.
    fs::write(import.folder.join("decoded.images"), b"neokd-images-1\n").unwrap();
    assert_eq!(load_known(dataset, &library).unwrap().0.image(3)[0], 51);
}

#[test]
fn an_archive_of_other_classes_or_counts_is_refused_even_if_accepted() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("download.zip");
    fs::write(&path, archive(100)).unwrap();
    let import = |dataset| import_known(dataset, &path, root.path(), true).unwrap_err();
    let error = import(tiny(&["n1", "n3"], 4));
    assert!(matches!(&error, DataError::Tree(TreeError::OtherClasses { class, .. }) if class == "n2"), "{error}");
    let error = import(tiny(&["n1", "n2"], 5));
    assert!(matches!(error, DataError::ShapeMismatch { found_images: 4, expected_images: 5, .. }), "{error}");
}
