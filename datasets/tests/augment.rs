//! Augmentation: a function of seed, epoch and index, with the distribution that it promises.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use neokd_datasets::{Augmentation, DataError, ImageSet, augment, augment_batch, sha256_hex, synthetic};

const PAD_CROP_FLIP: Augmentation = Augmentation::PadCropFlip { pad: 4 };
const RESIZED_CROP: Augmentation =
    Augmentation::RandomResizedCrop { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], from_file: false };

fn set() -> ImageSet {
    synthetic(3, 12, 1, 1, [3, 16, 20], 4).unwrap().train
}

/// One image whose pixels say where they were: row in the first channel, column in the second, 1 everywhere in the third.
fn coordinates(height: usize, width: usize) -> ImageSet {
    let value = |channel: usize, row: usize, column: usize| [1 + row, 1 + column, 1][channel] as u8;
    let positions = (0..3).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))));
    let pixels = positions.map(|(c, y, x)| value(c, y, x)).collect();
    ImageSet::new("coordinates", [3, height, width], 1, pixels, vec![0]).unwrap()
}

#[test]
fn the_same_key_gives_the_same_bytes_and_another_key_others() {
    let set = set();
    for augmentation in [PAD_CROP_FLIP, RESIZED_CROP] {
        let images = |seed, epoch| (0..12).map(|i| augment(&set, i, &augmentation, seed, epoch)).collect::<Vec<_>>();
        assert_eq!(images(1, 5), images(1, 5));
        for (seed, epoch) in [(1, 6), (2, 5), (5, 1)] {
            assert_ne!(images(1, 5), images(seed, epoch), "{augmentation:?} {seed} {epoch}");
        }
    }
}

/// The digests were taken from this code once; they hold it to its promise on other machines and in later versions.
#[test]
fn the_bytes_are_the_same_on_every_machine() {
    let digest = |augmentation| {
        let images = (0..12).flat_map(|index| augment(&set(), index, &augmentation, 7, 3)).collect::<Vec<u8>>();
        sha256_hex(&images)
    };
    assert_eq!(digest(PAD_CROP_FLIP), "003e9a63f9f97b9a5e2492463b995bd24f6681ff8a8b9e512b1252e60420248a");
    assert_eq!(digest(RESIZED_CROP), "37d7e3294a3ba59598a7b8d542450d6b3ecbc2a38d4d3ab75652deb70acead9a");
}

#[test]
fn none_is_the_image_itself() {
    let set = set();
    assert_eq!(augment(&set, 5, &Augmentation::None, 1, 2), set.image(5));
}

#[test]
fn equal_images_at_different_places_of_the_set_differ() {
    let image = coordinates(16, 16);
    let twice = image.select(&[0; 8]).unwrap();
    let images: std::collections::HashSet<_> = (0..8).map(|i| augment(&twice, i, &PAD_CROP_FLIP, 1, 1)).collect();
    assert!(images.len() > 4, "{}", images.len());
}

#[test]
fn a_batch_is_its_images_for_any_number_of_threads() {
    let set = set();
    let indices = [3, 1, 4, 1, 5, 9, 2, 6];
    for augmentation in [Augmentation::None, PAD_CROP_FLIP, RESIZED_CROP] {
        let one_by_one: Vec<u8> = indices.iter().flat_map(|&i| augment(&set, i, &augmentation, 1, 2)).collect();
        for threads in [1, 2, 3, 8, 100] {
            let threads = NonZeroUsize::new(threads).unwrap();
            assert_eq!(augment_batch(&set, &indices, &augmentation, 1, 2, threads), one_by_one);
            assert!(augment_batch(&set, &[], &augmentation, 1, 2, threads).is_empty());
        }
    }
}

/// Offset of the crop and whether it was mirrored, read off an augmented [`coordinates`] image.
fn read_off(pixels: &[u8], height: usize, width: usize) -> (i64, i64, bool) {
    let plane = height * width;
    let inside = |y: usize, x: usize| pixels[2 * plane + y * width + x] == 1;
    let (y, x) = (0..plane).map(|at| (at / width, at % width)).find(|&(y, x)| inside(y, x)).unwrap();
    let row = i64::from(pixels[y * width + x]) - 1;
    let column = |x: usize| i64::from(pixels[plane + y * width + x]) - 1;
    let flipped = column(x) > column(x + 1);
    let first = if flipped { width as i64 - 1 - x as i64 } else { x as i64 };
    (row - y as i64, column(x) - first, flipped)
}

#[test]
fn pad_and_crop_shifts_and_fills_with_zeros() {
    let (height, width) = (9, 11);
    let set = coordinates(height, width);
    for epoch in 0..300 {
        let pixels = augment(&set, 0, &PAD_CROP_FLIP, 1, epoch);
        let (top, left, flipped) = read_off(&pixels, height, width);
        for (at, &value) in pixels.iter().enumerate() {
            let (channel, y, x) = (at / (height * width), at / width % height, at % width);
            let x = if flipped { width - 1 - x } else { x };
            let (row, column) = (y as i64 + top, x as i64 + left);
            let inside = (0..height as i64).contains(&row) && (0..width as i64).contains(&column);
            let expected = if inside { [1 + row, 1 + column, 1][channel] } else { 0 };
            assert_eq!(i64::from(value), expected, "epoch {epoch}, position {at}");
        }
    }
}

#[test]
fn offsets_are_uniform_and_flips_are_half() {
    let set = coordinates(12, 12);
    let (mut counts, mut flips) = ([[0_u32; 9]; 9], 0_u32);
    let n = 81 * 200;
    for epoch in 0..n {
        let (top, left, flipped) = read_off(&augment(&set, 0, &PAD_CROP_FLIP, 4, epoch), 12, 12);
        counts[usize::try_from(top + 4).unwrap()][usize::try_from(left + 4).unwrap()] += 1;
        flips += u32::from(flipped);
    }
    // Chi-squared with 80 degrees of freedom: mean 80, standard deviation 12.6; five of them above the mean.
    let chi: f64 = counts.as_flattened().iter().map(|&count| (f64::from(count) - 200.0).powi(2) / 200.0).sum();
    assert!(chi < 80.0 + 5.0 * 12.6, "{chi}: {counts:?}");
    // Binomial(16200, 1/2): standard deviation 64.
    assert!(flips.abs_diff(8100) < 5 * 64, "{flips}");
}

#[test]
fn no_padding_leaves_the_flip_alone() {
    let set = coordinates(6, 6);
    let images: std::collections::HashSet<_> =
        (0..50).map(|epoch| augment(&set, 0, &Augmentation::PadCropFlip { pad: 0 }, 1, epoch)).collect();
    assert_eq!(images.len(), 2);
    assert!(images.contains(set.image(0)));
}

#[test]
fn a_crop_of_everything_is_the_image_or_its_mirror_image() {
    let set = coordinates(7, 7);
    let whole = Augmentation::RandomResizedCrop { scale: [1.0, 1.0], ratio: [1.0, 1.0], from_file: false };
    let mut flips = 0_u32;
    for epoch in 0..400 {
        let pixels = augment(&set, 0, &whole, 1, epoch);
        if pixels != set.image(0) {
            let mirrored: Vec<u8> = set.image(0).chunks(7).flat_map(|row| row.iter().rev().copied()).collect();
            assert_eq!(pixels, mirrored);
            flips += 1;
        }
    }
    assert!(flips.abs_diff(200) < 50, "{flips}");
}

#[test]
fn crops_have_the_areas_and_proportions_that_were_asked_for() {
    // In a smooth ramp, first and last value of a row tell where the crop started and ended, to within rounding.
    let side = 200;
    let set = coordinates(side, side);
    let plane = side * side;
    let (mut areas, mut ratios, mut lefts) = (Vec::new(), Vec::new(), Vec::new());
    for epoch in 0..2000 {
        let pixels = augment(&set, 0, &RESIZED_CROP, 1, epoch);
        let height = f64::from(pixels[plane - 1]) - f64::from(pixels[0]) + 1.0;
        let (a, b) = (f64::from(pixels[plane]), f64::from(pixels[plane + side - 1]));
        let width = (b - a).abs() + 1.0;
        assert!(pixels[2 * plane..].iter().all(|&value| value == 1), "no padding");
        areas.push(height * width / plane as f64);
        ratios.push(width / height);
        lefts.push((a.min(b) - 1.0) / (side as f64 - width + 1e-9).max(1.0));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let extremes =
        |values: &[f64]| values.iter().fold((f64::MAX, 0.0_f64), |(low, high), &v| (low.min(v), high.max(v)));
    let ((least, greatest), (narrow, wide)) = (extremes(&areas), extremes(&ratios));
    assert!((0.07..0.10).contains(&least) && (0.9..=1.01).contains(&greatest), "{least} {greatest}");
    assert!((0.72..0.78).contains(&narrow) && (1.28..1.38).contains(&wide), "{narrow} {wide}");
    // Large narrow crops do not fit and are drawn again: the mean area is somewhat below (0.08 + 1) / 2.
    assert!((0.46..0.55).contains(&mean(&areas)), "{}", mean(&areas));
    // Uniform in the logarithm: its mean is 0, standard deviation 0.166 / sqrt(2000) = 0.004.
    assert!(mean(&ratios.iter().map(|r| r.ln()).collect::<Vec<_>>()).abs() < 0.02);
    assert!((0.45..0.55).contains(&mean(&lefts)), "{}", mean(&lefts));
}

#[test]
fn bilinear_scaling_gives_the_values_worked_out_by_hand() {
    // A single column of 2 is cut out of a 4x4 image by area 1/2 and ratio 1/2 ... 4 rows of [p, q] become 4 columns:
    // centres at -0.25 (clamped to 0), 0.25, 0.75, 1.25 (clamped to 1).
    let rows: Vec<u8> = [0, 40, 80, 120].repeat(4);
    let set = ImageSet::new("s", [1, 4, 4], 1, rows, vec![0]).unwrap();
    let half = Augmentation::RandomResizedCrop { scale: [0.5, 0.5], ratio: [0.5, 0.5], from_file: false };
    let mut seen = std::collections::BTreeSet::new();
    for epoch in 0..100 {
        let mut pixels = augment(&set, 0, &half, 1, epoch);
        assert!(pixels.chunks(4).all(|row| row == &pixels[..4]));
        pixels.truncate(4);
        pixels.sort_unstable();
        seen.insert(pixels);
    }
    let starts = [0, 40, 80].map(|start| vec![start, start + 10, start + 30, start + 40]);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), starts);
}

#[test]
fn no_parameters_make_it_panic() {
    let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 1e300, 0.5];
    for shape in [[1, 1, 1], [3, 1, 9], [1, 9, 1], [2, 5, 4]] {
        let set = ImageSet::new("s", shape, 1, vec![9; shape.iter().product()], vec![0]).unwrap();
        for a in odd {
            for b in odd {
                for (scale, ratio) in [([a, b], [0.75, 1.5]), ([0.1, 1.0], [a, b]), ([a, b], [b, a])] {
                    let pixels =
                        augment(&set, 0, &Augmentation::RandomResizedCrop { scale, ratio, from_file: false }, 1, 1);
                    assert!(pixels.iter().all(|&value| value == 9), "a flat image stays flat");
                }
            }
        }
        for pad in [0, 1, 8, 1000, u16::MAX] {
            assert_eq!(augment(&set, 0, &Augmentation::PadCropFlip { pad }, 1, 1).len(), set.image_len());
        }
    }
}

#[test]
fn parameters_without_sense_are_named() {
    let check = |augmentation: Augmentation| augmentation.check([3, 32, 28]);
    for augmentation in [Augmentation::None, PAD_CROP_FLIP, RESIZED_CROP, Augmentation::PadCropFlip { pad: 27 }] {
        assert!(check(augmentation).is_ok());
    }
    let name_of = |augmentation| match check(augmentation).unwrap_err() {
        DataError::AugmentationParameter { parameter, .. } => parameter,
        other => panic!("{other}"),
    };
    assert_eq!(name_of(Augmentation::PadCropFlip { pad: 28 }), "pad");
    let ratio = [0.75, 1.5];
    for scale in [[0.0, 1.0], [0.5, 0.1], [8.0, 100.0], [f64::NAN, 1.0], [0.1, f64::NAN], [0.1, f64::INFINITY]] {
        assert_eq!(name_of(Augmentation::RandomResizedCrop { scale, ratio, from_file: false }), "scale");
    }
    for ratio in [[-1.0, 1.0], [2.0, 1.0], [0.1, 1e9], [f64::NAN, f64::NAN]] {
        assert_eq!(name_of(Augmentation::RandomResizedCrop { scale: [0.1, 1.0], ratio, from_file: false }), "ratio");
    }
}

#[test]
fn it_is_configured_by_kind() {
    let read = |text: &str| serde_json::from_str::<Augmentation>(text);
    assert_eq!(read(r#"{"kind": "none"}"#).unwrap(), Augmentation::None);
    assert_eq!(read(r#"{"kind": "pad-crop-flip"}"#).unwrap(), PAD_CROP_FLIP);
    assert_eq!(read(r#"{"kind": "pad-crop-flip", "pad": 2}"#).unwrap(), Augmentation::PadCropFlip { pad: 2 });
    assert_eq!(read(r#"{"kind": "random-resized-crop"}"#).unwrap(), RESIZED_CROP);
    assert_eq!(Augmentation::default(), Augmentation::None);
    for augmentation in [Augmentation::None, PAD_CROP_FLIP, RESIZED_CROP] {
        assert_eq!(read(&serde_json::to_string(&augmentation).unwrap()).unwrap(), augmentation);
    }
    for bad in [
        "{}",
        r#"{"kind": "flip"}"#,
        r#"{"kind": "pad-crop-flip", "pads": 4}"#,
        r#"{"kind": "pad-crop-flip", "pad": -1}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
