//! Import, load and verify of a CIFAR archive, on a tiny dataset that is known for the time of a test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::archive_tests::{file, tar_gz};
use crate::cifar::{self, Kind};
use crate::held_out::{HeldOut, SplitRule};
use crate::import::{Import, import_known};
use crate::library::{Status, load_known, status};
use crate::manifest::{CifarFiles, Format, KnownArchive, KnownDataset, KnownFile};
use crate::{ArchiveError, DataError, SplitTable, Trust, sha256_hex};

const NAMES: [&str; 3] = ["one.bin", "two.bin", "test.bin"];

/// `count` records of CIFAR-100 with fine labels 0, 1, 0, 1, ...; every pixel is the number of the record plus `first`.
fn records(first: u8, count: u8) -> Vec<u8> {
    let record = |number: u8| {
        let mut record = vec![first + number; Kind::Cifar100.record_len()];
        record[..2].copy_from_slice(&[19, number % 2]);
        record
    };
    (0..count).flat_map(record).collect()
}

fn contents() -> [Vec<u8>; 3] {
    [records(0, 6), records(100, 4), records(200, 5)]
}

fn archive(contents: &[Vec<u8>; 3]) -> Vec<u8> {
    let mut entries = vec![file("tiny/fine_label_names.txt", b"even\nodd\n")];
    entries.extend(NAMES.iter().zip(contents).map(|(name, bytes)| file(&format!("tiny/{name}"), bytes)));
    tar_gz(&entries)
}

/// Ten training and five test images, known by the digests of [`contents`] and of its [`archive`].
fn tiny() -> &'static KnownDataset {
    let contents = contents();
    let archive = archive(&contents);
    let [one, two, test] = [0, 1, 2].map(|position| KnownFile {
        name: NAMES[position],
        other_names: &[],
        bytes: contents[position].len() as u64,
        sha256: sha256_hex(&contents[position]).leak(),
        gzip_sha256: None,
    });
    Box::leak(Box::new(KnownDataset {
        name: "tiny",
        description: "for tests",
        shape: cifar::SHAPE,
        class_names: &["even", "odd"],
        train_images: 10,
        test_images: 5,
        licence: "MIT",
        origin: "this test",
        obtain: "call archive()",
        format: Format::Cifar(CifarFiles {
            kind: Kind::Cifar100,
            archive: KnownArchive {
                name: "tiny.tar.gz",
                folder: "tiny",
                bytes: archive.len() as u64,
                sha256: sha256_hex(&archive).leak(),
                md5: "",
            },
            train: Box::leak(Box::new([one, two])),
            test,
        }),
        split: SplitRule::Drawn(HeldOut::PerClass(2)),
    }))
}

struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn library(&self) -> PathBuf {
        self.root.path().join("library")
    }

    /// Writes an archive under its usual name or another.
    fn archive(&self, name: &str, contents: &[Vec<u8>; 3]) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, archive(contents)).unwrap();
        path
    }

    fn files(&self, folder: &str, contents: &[Vec<u8>; 3]) {
        let folder = self.root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in NAMES.iter().zip(contents) {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    fn import(&self, from: &Path, accept_unverified: bool) -> Result<Import, DataError> {
        import_known(tiny(), from, &self.library(), accept_unverified)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_archive_itself_is_imported_under_any_name() {
    for (given, name) in [(true, "tiny.tar.gz"), (true, "download(1).tgz"), (false, "tiny.tar.gz")] {
        let place = Place::new();
        let path = place.archive(name, &contents());
        let import = place.import(if given { &path } else { place.root.path() }, false).unwrap();
        assert_eq!(import.provenance.trust, Trust::Verified);
        assert_eq!(names(&import.folder), ["tiny.tar.gz"], "it is stored as it came");
        assert_eq!(status(tiny(), &import.folder).unwrap(), Status::Imported);

        let (train, test, provenance) = load_known(tiny(), &place.library()).unwrap();
        assert_eq!((train.len(), test.len(), train.shape()), (10, 5, [3, 32, 32]));
        assert_eq!(train.labels(), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!((train.image(7)[0], test.image(4)[3071]), (101, 204));
        assert_eq!(provenance, import.provenance);
        assert_eq!(provenance.files[2].sha256, sha256_hex(&contents()[2]));
    }
}

#[test]
fn unpacked_files_are_the_same_data() {
    for folder in ["tiny", "."] {
        let place = Place::new();
        place.files(folder, &contents());
        let import = place.import(place.root.path(), false).unwrap();
        assert_eq!(import.provenance.trust, Trust::Verified);
        assert_eq!(names(&import.folder), ["one.bin", "test.bin", "two.bin"]);
        assert_eq!(load_known(tiny(), &place.library()).unwrap().2, import.provenance);
        // The archive brings nothing new, whatever its form.
        let path = place.archive("again.tgz", &contents());
        assert!(place.import(&path, false).unwrap().already_present);
    }
}

#[test]
fn an_archive_that_was_packed_again_is_known_by_its_files() {
    let place = Place::new();
    let path = place.root.path().join("repacked.tar.gz");
    let entries: Vec<_> = NAMES.iter().zip(&contents()).rev().map(|(name, bytes)| file(name, bytes)).collect();
    fs::write(&path, tar_gz(&entries)).unwrap();
    assert_eq!(place.import(&path, false).unwrap().provenance.trust, Trust::Verified);
    assert_eq!(load_known(tiny(), &place.library()).unwrap().2.trust, Trust::Verified);
}

/// What a copy with its images in another order is: the right sizes, other digests.
#[test]
fn other_data_of_the_same_size_need_acceptance() {
    let [mut one, two, test] = contents();
    one.rotate_left(Kind::Cifar100.record_len());
    let place = Place::new();
    let path = place.archive("tiny.tar.gz", &[one.clone(), two.clone(), test.clone()]);
    let error = place.import(&path, false).unwrap_err();
    assert!(matches!(&error, DataError::DigestMismatch { file, .. } if file.ends_with("tiny.tar.gz (one.bin)")));

    let import = place.import(&path, true).unwrap();
    assert_eq!(import.provenance.trust, Trust::Unverified);
    assert_eq!(status(tiny(), &import.folder).unwrap(), Status::ImportedUnverified);
    assert_eq!(load_known(tiny(), &place.library()).unwrap().2, import.provenance);

    // Accepted were these bytes, and no others.
    one.rotate_left(Kind::Cifar100.record_len());
    let other = place.archive("other.tar.gz", &[one, two, test]);
    fs::copy(other, import.folder.join("tiny.tar.gz")).unwrap();
    assert!(matches!(load_known(tiny(), &place.library()), Err(DataError::ChangedSinceImport { .. })));
}

#[test]
fn acceptance_excuses_no_malformed_data() {
    let refused = |contents: &[Vec<u8>; 3]| {
        let place = Place::new();
        let path = place.archive("tiny.tar.gz", contents);
        place.import(&path, true).unwrap_err()
    };
    let [one, two, test] = contents();
    let error = refused(&[one[1..].to_vec(), two.clone(), test.clone()]);
    assert!(matches!(error, DataError::Truncated { found: 18443, expected: 18444, .. }), "{error}");
    let error = refused(&[one.clone(), Vec::new(), test.clone()]);
    assert!(matches!(error, DataError::Empty { .. }), "{error}");
    let error = refused(&[one.clone(), records(0, 3), test.clone()]);
    assert!(matches!(error, DataError::ShapeMismatch { found_images: 9, expected_images: 10, .. }), "{error}");
    let error = refused(&[one.clone(), records(0, 5), test.clone()]);
    assert!(matches!(error, DataError::Archive(ArchiveError::EntryTooLarge { .. })), "{error}");

    let mut bad_label = test.clone();
    bad_label[3074 + 1] = 100;
    let error = refused(&[one.clone(), two.clone(), bad_label]);
    assert!(matches!(error, DataError::LabelOutOfRange { index: 1, value: 100, classes: 100, .. }), "{error}");
    let mut bad_class = test;
    bad_class[3074 + 1] = 99;
    let error = refused(&[one, two, bad_class]);
    assert!(matches!(error, DataError::LabelOutOfRange { index: 1, value: 99, classes: 2, .. }), "{error}");
}

#[test]
fn what_is_missing_is_named_with_all_that_was_looked_for() {
    let place = Place::new();
    place.files("tiny", &contents());
    fs::remove_file(place.root.path().join("tiny/two.bin")).unwrap();
    let message = place.import(place.root.path(), false).unwrap_err().to_string();
    for part in ["two.bin", "tiny.tar.gz", "call archive()"] {
        assert!(message.contains(part), "{message}");
    }
    let library_folder = place.library().join("tiny");
    assert_eq!(status(tiny(), &library_folder).unwrap(), Status::Absent);
    fs::create_dir_all(&library_folder).unwrap();
    fs::write(library_folder.join("one.bin"), &contents()[0]).unwrap();
    assert_eq!(status(tiny(), &library_folder).unwrap(), Status::Incomplete { missing: vec!["two.bin", "test.bin"] });
}

#[test]
fn the_split_follows_from_the_labels_alone() {
    let place = Place::new();
    let path = place.archive("tiny.tar.gz", &contents());
    place.import(&path, false).unwrap();
    let (train, _, _) = load_known(tiny(), &place.library()).unwrap();
    let table = SplitTable::of(tiny(), &train).unwrap();
    assert!(SplitTable::committed(tiny()).unwrap().is_none());
    let (kept, held_out) = table.apply(&train).unwrap();
    assert_eq!((kept.class_counts(), held_out.class_counts()), (vec![3, 3], vec![2, 2]));
    let record = table.record();
    assert_eq!(record.file, "drawn from the labels");
    assert_eq!(record.sha256, sha256_hex(table.to_text().as_bytes()));
    assert_eq!(SplitTable::parse("t", &table.to_text()).unwrap().validation(), table.validation());
}
