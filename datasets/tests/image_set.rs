//! `ImageSet`: valid by construction, with a digest that others can recompute.
#![allow(clippy::unwrap_used)]

use neokd_datasets::{DataError, ImageSet};

fn pair() -> ImageSet {
    ImageSet::new("pair", [1, 1, 2], 301, vec![0, 255, 7, 9], vec![1, 300]).unwrap()
}

#[test]
fn images_and_labels_are_where_they_belong() {
    let set = pair();
    assert_eq!((set.len(), set.image_len()), (2, 2));
    assert_eq!((set.image(0), set.image(1)), (&[0, 255][..], &[7, 9][..]));
    assert_eq!((set.label(0), set.label(1)), (1, 300));
}

/// Computed with Python's hashlib from the documented layout.
#[test]
fn the_digest_follows_its_documented_layout() {
    assert_eq!(pair().digest(), "1dffe0e962d8fc6531b2883d0f2bf6de430ed8dc613fd632131ff015c2ec85b6");
}

#[test]
fn the_digest_sees_every_part_of_the_content_and_nothing_else() {
    let base = pair().digest();
    let other = |shape, pixels: &[u8], labels: &[u16]| {
        ImageSet::new("n", shape, 301, pixels.to_vec(), labels.to_vec()).unwrap().digest()
    };
    assert_eq!(base, other([1, 1, 2], &[0, 255, 7, 9], &[1, 300]));
    assert_ne!(base, other([1, 2, 1], &[0, 255, 7, 9], &[1, 300]));
    assert_ne!(base, other([1, 1, 2], &[0, 255, 7, 8], &[1, 300]));
    assert_ne!(base, other([1, 1, 2], &[0, 255, 7, 9], &[1, 299]));
    assert_ne!(base, pair().select(&[1, 0]).unwrap().digest());
}

#[test]
fn invalid_parts_are_refused() {
    let new = |shape, classes, pixels: usize, labels: &[u16]| {
        ImageSet::new("s", shape, classes, vec![0; pixels], labels.to_vec()).unwrap_err()
    };
    assert!(matches!(new([1, 2, 2], 2, 0, &[]), DataError::EmptySet { what: "images", .. }));
    assert!(matches!(new([1, 0, 2], 2, 0, &[0]), DataError::EmptySet { what: "height", .. }));
    assert!(matches!(new([1, 2, 2], 0, 4, &[0]), DataError::EmptySet { what: "classes", .. }));
    assert!(matches!(new([1, 2, 2], 2, 7, &[0, 1]), DataError::PixelCount { found: 7, expected: 8, .. }));
    assert!(matches!(new([usize::MAX, 2, 2], 2, 7, &[0]), DataError::PixelCount { .. }));
    assert!(matches!(new([1, 2, 2], 2, 8, &[0, 2]), DataError::LabelOutOfRange { index: 1, value: 2, .. }));
    assert!(matches!(new([1, 2, 2], 65_537, 4, &[0]), DataError::TooManyClasses { .. }));
}

#[test]
fn selecting_keeps_order_and_refuses_what_is_not_there() {
    let set = pair();
    assert_eq!(set.select(&[1, 1, 0]).unwrap().labels(), [300, 300, 1]);
    assert!(matches!(set.select(&[0, 2]), Err(DataError::IndexOutOfRange { index: 2, len: 2, .. })));
    assert!(matches!(set.select(&[]), Err(DataError::EmptySet { .. })));
    assert_eq!(set.head(1).unwrap(), set.select(&[0]).unwrap());
    assert_eq!(set.head(99).unwrap(), set);
    assert!(set.head(0).is_err());
}

#[test]
fn statistics_are_per_channel_and_in_unit_range() {
    // Two images of two channels with two pixels: channel 0 holds 0, 255, 0, 255; channel 1 holds 51 throughout.
    let set = ImageSet::new("s", [2, 1, 2], 1, vec![0, 255, 51, 51, 0, 255, 51, 51], vec![0, 0]).unwrap();
    let statistics = set.mean_and_std();
    assert_eq!(statistics.len(), 2);
    for ((mean, std), expected) in statistics.into_iter().zip([(0.5, 0.5), (0.2, 0.0)]) {
        assert!((mean - expected.0).abs() < 1e-12 && (std - expected.1).abs() < 1e-6, "{mean} {std}");
    }
    assert_eq!(pair().class_counts().iter().sum::<usize>(), 2);
}

#[test]
fn debug_output_does_not_print_the_pixels() {
    assert_eq!(format!("{:?}", pair()), "ImageSet(pair: 2 of 1x1x2, 301 classes)");
}
