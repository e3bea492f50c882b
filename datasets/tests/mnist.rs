//! The embedded MNIST is the published one: digests, counts and statistics come from outside this repository's code.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use neokd_datasets::{DataError, DataSplits, Trust, find, idx, import, load, load_unsplit, sha256_hex, verify};

/// Digests of the original, uncompressed files.
const PUBLISHED: [(&str, &str); 4] = [
    ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
];

fn nowhere() -> &'static Path {
    Path::new("no/such/library")
}

fn mnist() -> &'static DataSplits {
    static MNIST: OnceLock<DataSplits> = OnceLock::new();
    MNIST.get_or_init(|| load("mnist", nowhere()).unwrap())
}

#[test]
fn digests_are_the_published_ones() {
    let provenance = verify("mnist", nowhere()).unwrap();
    assert_eq!(provenance.trust, Trust::Embedded);
    let found: Vec<_> = provenance.files.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
    assert_eq!(found, PUBLISHED);
}

#[test]
fn the_committed_files_and_their_readme_agree_with_the_manifest() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mnist");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for file in find("mnist").unwrap().format.files() {
        let packed = std::fs::read(folder.join(format!("{}.gz", file.name))).unwrap();
        assert!(idx::is_gzip(&packed));
        assert_eq!(packed[3..8], [0; 5], "no name and no time in the gzip header");
        let gzip_sha256 = file.gzip_sha256.unwrap();
        assert_eq!(sha256_hex(&packed), gzip_sha256);
        assert!(readme.contains(file.sha256) && readme.contains(gzip_sha256), "{}", file.name);
    }
}

#[test]
fn counts_per_class_are_the_published_ones() {
    let (train, test, _) = load_unsplit("mnist", nowhere()).unwrap();
    assert_eq!(train.class_counts(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    assert_eq!(test.class_counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!((train.shape(), train.classes()), ([1, 28, 28], 10));
}

#[test]
fn statistics_are_the_published_ones() {
    let (train, _, _) = load_unsplit("mnist", nowhere()).unwrap();
    let [(mean, std)] = train.mean_and_std()[..] else { panic!("one channel") };
    assert_eq!((format!("{mean:.4}"), format!("{std:.4}")), ("0.1307".into(), "0.3081".into()));
}

#[test]
fn the_first_training_images_are_the_familiar_digits() {
    let (train, _, _) = load_unsplit("mnist", nowhere()).unwrap();
    assert_eq!(train.labels()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
}

#[test]
fn the_parts_have_the_documented_sizes() {
    let splits = mnist();
    assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (55_000, 5_000, 10_000));
    assert_eq!(splits.validation.class_counts(), [500; 10]);
    let record = splits.split.as_ref().unwrap();
    assert_eq!((record.train_images, record.validation_images), (55_000, 5_000));
}

#[test]
fn no_validation_image_is_trained_on_or_lost() {
    let (all, _, _) = load_unsplit("mnist", nowhere()).unwrap();
    let mut whole = digests(&all);
    let mut parts = digests(&mnist().train);
    parts.extend(digests(&mnist().validation));
    whole.sort_unstable();
    parts.sort_unstable();
    assert!(whole == parts, "training and validation together are not the original images");
    assert!(whole.windows(2).all(|pair| pair[0] != pair[1]), "MNIST has no two equal training images");
}

fn digests(set: &neokd_datasets::ImageSet) -> Vec<String> {
    (0..set.len()).map(|index| sha256_hex(set.image(index))).collect()
}

#[test]
fn a_report_shows_trust_digests_and_split() {
    let text = serde_json::to_string(&(&mnist().provenance, &mnist().split)).unwrap();
    for part in ["\"trust\":\"embedded\"", PUBLISHED[0].1, PUBLISHED[3].1, "splits/mnist.txt", "\"seed\":1"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_embedded_dataset_needs_no_import() {
    let error = import("mnist", nowhere(), nowhere(), false).unwrap_err();
    assert!(matches!(error, DataError::BuiltIn { dataset: "mnist" }));
}
