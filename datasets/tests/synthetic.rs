//! The generated data: the same bytes everywhere, balanced, and learnable by the simplest classifier there is.
#![allow(clippy::unwrap_used)]

use neokd_datasets::{DataError, ImageSet, Trust, synthetic};

#[test]
fn a_seed_gives_the_same_bytes_on_every_machine() {
    let splits = synthetic(7, 40, 20, 20, [3, 12, 10], 5).unwrap();
    assert_eq!(splits.train.digest(), "56d6437333bac11c358219f402b8e9a6b28e4f845aed369e3395481435e44906");
    assert_eq!(splits.provenance.trust, Trust::Generated);
    assert!(splits.split.is_none());
}

#[test]
fn seeds_and_parts_differ() {
    let a = synthetic(1, 20, 20, 20, [1, 8, 8], 4).unwrap();
    let b = synthetic(2, 20, 20, 20, [1, 8, 8], 4).unwrap();
    assert_ne!(a.train.digest(), b.train.digest());
    assert_ne!(a.train.digest(), a.validation.digest());
    assert_ne!(a.validation.digest(), a.test.digest());
}

#[test]
fn more_images_leave_the_first_ones_as_they_were() {
    let few = synthetic(1, 10, 5, 6, [1, 8, 8], 4).unwrap();
    let many = synthetic(1, 30, 9, 8, [1, 8, 8], 4).unwrap();
    assert_eq!(many.train.head(10).unwrap().digest(), few.train.digest());
    assert_eq!(many.test.head(6).unwrap().digest(), few.test.digest());
}

#[test]
fn classes_are_balanced() {
    let splits = synthetic(1, 40, 12, 10, [1, 8, 8], 4).unwrap();
    assert_eq!(splits.train.class_counts(), [10; 4]);
    assert_eq!(splits.validation.class_counts(), [3; 4]);
    assert_eq!(splits.test.class_counts(), [3, 3, 2, 2]);
}

#[test]
fn the_nearest_class_mean_classifies_it_far_above_chance() {
    for (shape, classes) in [([1, 28, 28], 10), ([3, 32, 32], 10), ([1, 16, 16], 4)] {
        for seed in 0..3 {
            let splits = synthetic(seed, 40 * classes, 1, 20 * classes, shape, classes).unwrap();
            let accuracy = nearest_mean_accuracy(&splits.train, &splits.test);
            assert!(accuracy > 0.7, "seed {seed}, {shape:?}: {accuracy}");
        }
    }
}

fn nearest_mean_accuracy(train: &ImageSet, test: &ImageSet) -> f64 {
    let mut means = vec![vec![0.0; train.image_len()]; train.classes()];
    for index in 0..train.len() {
        let scale = train.class_counts()[usize::from(train.label(index))] as f64;
        for (mean, &pixel) in means[usize::from(train.label(index))].iter_mut().zip(train.image(index)) {
            *mean += f64::from(pixel) / scale;
        }
    }
    let distance = |mean: &[f64], image: &[u8]| -> f64 {
        mean.iter().zip(image).map(|(mean, &pixel)| (mean - f64::from(pixel)).powi(2)).sum()
    };
    let nearest = |image: &[u8]| {
        let distances = means.iter().map(|mean| distance(mean, image));
        distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    };
    let correct = (0..test.len()).filter(|&i| nearest(test.image(i)) == usize::from(test.label(i))).count();
    correct as f64 / test.len() as f64
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    for (train, validation, test, shape, classes) in [
        (0, 1, 1, [1, 8, 8], 2),
        (1, 0, 1, [1, 8, 8], 2),
        (1, 1, 0, [1, 8, 8], 2),
        (1, 1, 1, [1, 0, 8], 2),
        (1, 1, 1, [1, 8, 8], 0),
    ] {
        assert!(matches!(synthetic(1, train, validation, test, shape, classes), Err(DataError::EmptySet { .. })));
    }
    assert!(matches!(synthetic(1, 1, 1, 1, [1, 1, 1], 65_537), Err(DataError::TooManyClasses { .. })));
    assert!(matches!(synthetic(1, usize::MAX, 1, 1, [1, 8, 8], 2), Err(DataError::TooMuchToGenerate { .. })));
    assert!(matches!(synthetic(1, 1, 1, 1, [1, usize::MAX, 8], 2), Err(DataError::TooMuchToGenerate { .. })));
    // The smallest sizes are fine.
    assert!(synthetic(1, 1, 1, 1, [1, 1, 1], 1).is_ok());
}
