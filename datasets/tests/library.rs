//! The library folder as a user meets it: names, places, and (where the files are at hand) a real import.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use neokd_datasets::manifest::Format;
use neokd_datasets::{DataError, Status, Trust, data_dir_from, import, known, list, load, verify};

#[test]
fn an_unknown_name_lists_the_known_ones() {
    for name in ["minst", "", "../mnist", "MNIST", "mnist\0"] {
        let error = load(name, Path::new(".")).unwrap_err();
        assert!(matches!(error, DataError::UnknownDataset { .. }));
        assert!(error.to_string().contains("mnist, fashion-mnist"), "{error}");
    }
}

#[test]
fn every_known_dataset_is_listed_and_says_how_to_get_it() {
    let empty = tempfile::tempdir().unwrap();
    for dir in [empty.path(), &empty.path().join("does/not/exist")] {
        let entries = list(dir).unwrap();
        assert_eq!(entries.len(), known().len());
        for entry in entries {
            let expected = if entry.dataset.is_embedded() { Status::Embedded } else { Status::Absent };
            assert_eq!(entry.status, expected);
            assert!(entry.folder.starts_with(dir));
            assert!(!entry.dataset.obtain.is_empty() && !entry.dataset.licence.is_empty());
        }
    }
}

fn is_hex(digest: &str, len: usize) -> bool {
    digest.len() == len && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[test]
fn manifest_entries_are_consistent() {
    for dataset in known() {
        let files = dataset.format.files();
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let images = (dataset.train_images + dataset.test_images) as u64;
        let pixels = dataset.shape.iter().product::<usize>() as u64;
        let expected = match &dataset.format {
            Format::Idx(_) => images * (pixels + 1) + 2 * (16 + 8),
            Format::Cifar(files) => images * files.kind.record_len() as u64,
            _ => total,
        };
        assert_eq!(total, expected, "{}", dataset.name);
        let digests = files.iter().flat_map(|file| [Some(file.sha256), file.gzip_sha256]).flatten();
        let archive = dataset.format.archive();
        for digest in digests.chain(archive.map(|archive| archive.sha256)) {
            assert!(is_hex(digest, 64), "{}: {digest}", dataset.name);
        }
        assert!(archive.is_none_or(|archive| is_hex(archive.md5, 32)));
        let names = dataset.class_names.iter().collect::<HashSet<_>>();
        assert_eq!(names.len(), dataset.classes(), "{}: a class name is there twice", dataset.name);
    }
}

#[test]
fn the_data_folder_follows_the_environment_in_order() {
    let dir = |variables: &[(&str, &str)]| {
        let map: HashMap<_, _> = variables.iter().map(|&(k, v)| (k.to_owned(), OsString::from(v))).collect();
        data_dir_from(|name| map.get(name).cloned())
    };
    let all = [("NEOKD_DATA", "mine"), ("XDG_DATA_HOME", "/xdg"), ("HOME", "/users/u")];
    assert_eq!(dir(&all), Some(PathBuf::from("mine")));
    assert_eq!(dir(&all[1..]), Some(PathBuf::from("/xdg/neokd")));
    assert_eq!(dir(&all[2..]), Some(PathBuf::from("/users/u/.local/share/neokd")));
    assert_eq!(dir(&[]), None);
    assert_eq!(dir(&[("NEOKD_DATA", ""), ("HOME", "/h")]), Some(PathBuf::from("/h/.local/share/neokd")));
    assert_eq!(dir(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), Some(PathBuf::from("/h/.local/share/neokd")));
}

#[test]
fn an_absent_dataset_is_an_error_with_the_cure() {
    let empty = tempfile::tempdir().unwrap();
    for error in [
        load("fashion-mnist", empty.path()).unwrap_err(),
        verify("fashion-mnist", empty.path()).unwrap_err(),
        import("fashion-mnist", empty.path(), empty.path(), true).unwrap_err(),
    ] {
        assert!(error.to_string().contains("dataset-fashion-mnist"), "{error}");
    }
}

#[test]
#[ignore = "needs Fashion-MNIST: set NEOKD_TEST_FASHION_MNIST to the folder that holds its four files"]
fn fashion_mnist_imports_verified_and_has_its_published_statistics() {
    let source = std::env::var_os("NEOKD_TEST_FASHION_MNIST").unwrap();
    let library = tempfile::tempdir().unwrap();
    let done = import("fashion-mnist", Path::new(&source), library.path(), false).unwrap();
    assert_eq!(done.provenance.trust, Trust::Verified);
    assert!(import("fashion-mnist", Path::new(&source), library.path(), false).unwrap().already_present);

    let (train, _, _) = neokd_datasets::load_unsplit("fashion-mnist", library.path()).unwrap();
    let (mean, std) = train.mean_and_std()[0];
    assert_eq!((format!("{mean:.4}"), format!("{std:.4}")), ("0.2860".into(), "0.3530".into()));
    assert_eq!(train.class_counts(), [6000; 10]);

    let splits = load("fashion-mnist", library.path()).unwrap();
    assert_eq!(splits.train.class_counts(), [5500; 10]);
    assert_eq!(splits.validation.class_counts(), [500; 10]);
    assert_eq!(splits.test.class_counts(), [1000; 10]);
}
