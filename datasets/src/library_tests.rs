//! Import, load, verify and list, on a tiny dataset that is known for the time of a test: a real one would need its files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::held_out::{HeldOut, SplitRule};
use crate::import::{Import, import_known};
use crate::library::{Status, load_known, status};
use crate::manifest::{Format, IdxFiles, KnownDataset, KnownFile};
use crate::{DataError, DataErrorKind, Trust, sha256_hex};

const NAMES: [&str; 4] = ["a-images", "a-labels", "b-images", "b-labels"];

fn images(count: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend((0..count * 6).map(|value| value * 3));
    bytes
}

fn labels(count: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1, 0, 0, 0, count];
    bytes.extend((0..count).map(|value| value % 2));
    bytes
}

fn contents() -> [Vec<u8>; 4] {
    [images(6), labels(6), images(4), labels(4)]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Six training and four test images of 2x3 pixels, known by the digests of [`contents`].
fn tiny() -> &'static KnownDataset {
    let [a, b, c, d] = contents();
    let file = |name, other: &'static [&'static str], bytes: &[u8]| KnownFile {
        name,
        other_names: other,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes).leak(),
        gzip_sha256: None,
    };
    Box::leak(Box::new(KnownDataset {
        name: "tiny",
        description: "for tests",
        shape: [1, 2, 3],
        class_names: &["even", "odd"],
        train_images: 6,
        test_images: 4,
        licence: "MIT",
        origin: "this test",
        obtain: "call contents()",
        format: Format::Idx(IdxFiles {
            train_images: file(NAMES[0], &["a.images"], &a),
            train_labels: file(NAMES[1], &["a.labels"], &b),
            test_images: file(NAMES[2], &[], &c),
            test_labels: file(NAMES[3], &[], &d),
        }),
        split: SplitRule::Drawn(HeldOut::PerClass(1)),
    }))
}

/// A source folder with the given contents and an empty library folder.
struct Place {
    _root: TempDir,
    source: PathBuf,
    library: PathBuf,
}

fn place(contents: &[Vec<u8>; 4]) -> Place {
    let root = tempfile::tempdir().unwrap();
    let (source, library) = (root.path().join("source"), root.path().join("library"));
    fs::create_dir(&source).unwrap();
    for (name, bytes) in NAMES.iter().zip(contents) {
        fs::write(source.join(name), bytes).unwrap();
    }
    Place { _root: root, source, library }
}

impl Place {
    fn import(&self) -> Result<Import, DataError> {
        import_known(tiny(), &self.source, &self.library, false)
    }

    fn import_unverified(&self) -> Result<Import, DataError> {
        import_known(tiny(), &self.source, &self.library, true)
    }

    fn imported(&self, file: &str) -> PathBuf {
        self.library.join("tiny").join(file)
    }

    fn status(&self) -> Status {
        status(tiny(), &self.library.join("tiny")).unwrap()
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn known_files_import_as_verified_and_load() {
    let place = place(&contents());
    assert_eq!(place.status(), Status::Absent);
    let import = place.import().unwrap();
    assert_eq!(import.provenance.trust, Trust::Verified);
    assert!(!import.already_present);
    assert_eq!(place.status(), Status::Imported);
    assert_eq!(entries(&place.library), ["tiny"], "no staging folder stays behind");
    assert_eq!(entries(&import.folder), NAMES, "no record beside verified files");

    let (train, test, provenance) = load_known(tiny(), &place.library).unwrap();
    assert_eq!((train.len(), test.len(), train.shape()), (6, 4, [1, 2, 3]));
    assert_eq!(train.image(1), &contents()[0][16 + 6..16 + 12]);
    assert_eq!(provenance, import.provenance);
    assert_eq!(provenance.files[3].sha256, sha256_hex(&contents()[3]));
}

#[test]
fn gzip_and_other_spellings_are_the_same_data() {
    let place = place(&contents());
    fs::rename(place.source.join("a-labels"), place.source.join("a.labels")).unwrap();
    fs::remove_file(place.source.join("a-images")).unwrap();
    fs::write(place.source.join("a.images.gz"), gzip(&contents()[0])).unwrap();
    let import = place.import().unwrap();
    assert_eq!(import.provenance.trust, Trust::Verified);
    assert_eq!(entries(&import.folder), ["a-images.gz", "a-labels", "b-images", "b-labels"]);
    assert_eq!(load_known(tiny(), &place.library).unwrap().2, import.provenance);
}

#[test]
fn a_gzip_file_that_lost_its_ending_is_stored_with_it() {
    let place = place(&contents());
    fs::write(place.source.join("a-images"), gzip(&contents()[0])).unwrap();
    assert_eq!(entries(&place.import().unwrap().folder)[0], "a-images.gz");
}

#[test]
fn one_changed_pixel_is_refused_and_leaves_nothing() {
    let mut changed = contents();
    changed[2][20] ^= 1;
    let place = place(&changed);
    let error = place.import().unwrap_err();
    let DataError::DigestMismatch { file, found, expected } = &error else { panic!("{error}") };
    assert!(file.ends_with("b-images"));
    assert_eq!((found, expected), (&sha256_hex(&changed[2]), &sha256_hex(&contents()[2])));
    assert_eq!(error.kind(), DataErrorKind::Unverified);
    assert_eq!(entries(&place.library), [""; 0]);
}

#[test]
fn another_size_is_refused_even_when_well_formed() {
    let place = place(&[images(5), labels(5), images(4), labels(4)]);
    assert!(matches!(place.import(), Err(DataError::SizeMismatch { found: 46, expected: 52, .. })));
    let accepted = place.import_unverified();
    assert!(matches!(accepted, Err(DataError::ShapeMismatch { found_images: 5, expected_images: 6, .. })));
}

#[test]
fn exchanged_files_are_named_as_such() {
    let [a, b, c, d] = contents();
    let error = place(&[b, a, c, d]).import_unverified().unwrap_err();
    assert!(matches!(error, DataError::Mislabelled { found: "labels", expected: "images", .. }));
}

#[test]
fn a_missing_file_is_named_with_what_was_looked_for() {
    let place = place(&contents());
    fs::remove_file(place.source.join("a-labels")).unwrap();
    let message = place.import().unwrap_err().to_string();
    for part in ["a-labels", "a-labels.gz", "a.labels", "a.labels.gz", "call contents()"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn unverified_data_need_acceptance_and_must_then_stay_the_same() {
    let mut changed = contents();
    changed[0][20] ^= 1;
    let place = place(&changed);
    let import = place.import_unverified().unwrap();
    assert_eq!(import.provenance.trust, Trust::Unverified);
    assert_eq!(place.status(), Status::ImportedUnverified);
    assert_eq!(load_known(tiny(), &place.library).unwrap().2.trust, Trust::Unverified);

    changed[0][20] ^= 2;
    fs::write(place.imported("a-images"), &changed[0]).unwrap();
    let error = load_known(tiny(), &place.library).unwrap_err();
    assert!(matches!(error, DataError::ChangedSinceImport { .. }), "{error}");
}

#[test]
fn accepting_does_not_mark_known_data_as_unverified() {
    let place = place(&contents());
    assert_eq!(place.import_unverified().unwrap().provenance.trust, Trust::Verified);
    assert_eq!(place.status(), Status::Imported);
}

#[test]
fn acceptance_does_not_excuse_labels_out_of_range_or_missing_labels() {
    let mut changed = contents();
    changed[1][10] = 2;
    let error = place(&changed).import_unverified().unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { index: 2, value: 2, classes: 2, .. }), "{error}");

    let [a, _, c, d] = contents();
    let error = place(&[a, labels(5), c, d]).import_unverified().unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { images: 6, labels: 5, .. }), "{error}");
}

#[test]
fn verified_data_that_change_on_disk_no_longer_load() {
    let place = place(&contents());
    place.import().unwrap();
    let mut changed = contents()[3].clone();
    changed[9] ^= 1;
    fs::write(place.imported("b-labels"), &changed).unwrap();
    assert!(matches!(load_known(tiny(), &place.library), Err(DataError::DigestMismatch { .. })));
}

#[test]
fn a_second_import_never_overwrites() {
    let place = place(&contents());
    place.import().unwrap();
    assert!(place.import().unwrap().already_present);

    let mut changed = contents();
    changed[0][20] ^= 1;
    fs::write(place.source.join("a-images"), &changed[0]).unwrap();
    assert!(matches!(place.import_unverified(), Err(DataError::AlreadyImported { .. })));
    assert_eq!(fs::read(place.imported("a-images")).unwrap(), contents()[0]);
}

#[test]
fn a_damaged_library_folder_is_reported_and_not_repaired_in_place() {
    let place = place(&contents());
    place.import().unwrap();
    fs::remove_file(place.imported("b-images")).unwrap();
    assert_eq!(place.status(), Status::Incomplete { missing: vec!["b-images"] });
    assert!(matches!(load_known(tiny(), &place.library), Err(DataError::MissingFile { file: "b-images", .. })));
    assert!(matches!(place.import(), Err(DataError::AlreadyImported { .. })));
}

#[test]
fn what_an_interrupted_import_left_does_not_disturb_the_next() {
    let place = place(&contents());
    fs::create_dir_all(place.library.join(".import-abc")).unwrap();
    fs::write(place.library.join(".import-abc/a-images"), "half").unwrap();
    fs::create_dir(place.library.join("tiny")).unwrap();
    assert_eq!(place.import().unwrap().provenance.trust, Trust::Verified);
}

#[test]
fn a_damaged_record_is_an_error_and_not_an_acceptance() {
    let mut changed = contents();
    changed[0][20] ^= 1;
    let place = place(&changed);
    place.import_unverified().unwrap();
    let record = place.imported("unverified-import.json");
    let good = fs::read_to_string(&record).unwrap();
    let bad = [
        String::new(),
        "[]".into(),
        good[..good.len() / 2].into(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("tiny", "mnist"),
        good.replace("\"files\"", "\"others\""),
    ];
    for text in bad {
        fs::write(&record, &text).unwrap();
        let result = load_known(tiny(), &place.library);
        assert!(matches!(result, Err(DataError::BadRecord { .. })), "{text}: {result:?}");
    }
    fs::write(&record, [0xff, 0xfe]).unwrap();
    assert!(matches!(load_known(tiny(), &place.library), Err(DataError::BadRecord { .. })));

    let no_files = good.split("\"files\"").next().unwrap().to_owned() + "\"files\": []}";
    fs::write(&record, no_files).unwrap();
    assert!(matches!(load_known(tiny(), &place.library), Err(DataError::ChangedSinceImport { .. })));
}

#[test]
fn an_absent_dataset_says_how_to_get_it() {
    let place = place(&contents());
    let error = load_known(tiny(), &place.library).unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Missing);
    assert!(error.to_string().contains("call contents()"));
}

#[test]
fn a_refusal_of_the_system_keeps_its_reason() {
    let place = place(&contents());
    fs::write(&place.library, "a file where a folder should be").unwrap();
    let error = place.import().unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Io);
    assert!(error.io_error().is_some());
    assert!(std::error::Error::source(&error).is_some());
    assert!(error.to_string().contains("library"));

    let absent = import_known(tiny(), &place.source.join("nowhere"), &place.library, false).unwrap_err();
    assert_eq!(absent.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    let file = import_known(tiny(), &place.source.join("a-images"), &place.library, false);
    assert!(matches!(file, Err(DataError::NotAFolder { .. })));
}

#[cfg(unix)]
#[test]
fn an_imported_folder_is_as_open_as_any_other_new_folder() {
    use std::os::unix::fs::PermissionsExt;
    let place = place(&contents());
    let folder = place.import().unwrap().folder;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), mode(&place.library));
}
