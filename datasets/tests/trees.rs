//! Trees of image files: which layouts load, to which pixels, and what a cache must never do.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Place, jpeg, png, zip};
use image::{Rgb, RgbImage};
use neokd_datasets::{DataSplits, TreeOptions, Trust, load_tree};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn flat(value: u8) -> Vec<u8> {
    png(&RgbImage::from_pixel(8, 8, Rgb([value, 100, 200])))
}

/// Two classes with twenty and ten training images; three test images.
fn tree() -> Vec<(String, Vec<u8>)> {
    let train = (0..20).map(|i| (format!("train/bee/{i:02}.png"), flat(i)));
    let more = (0..10).map(|i| (format!("train/ant/{i:02}.PNG"), flat(100 + i)));
    let test = (0..3).map(|i| (format!("val/{}/t{i}.png", ["bee", "ant", "bee"][i]), flat(200 + i as u8)));
    train.chain(more).chain(test).collect()
}

fn options() -> TreeOptions {
    TreeOptions::new([3, 8, 8])
}

fn load(place: &Place, from: &Path) -> DataSplits {
    load_tree(from, &place.library(), &options()).unwrap()
}

#[test]
fn classes_and_images_are_in_the_order_of_their_names() {
    let place = Place::with(&tree());
    let splits = load(&place, &place.tree());
    assert_eq!(splits.class_names, ["ant", "bee"]);
    assert_eq!(splits.test.labels(), [0, 1, 1]);
    assert_eq!([0, 1, 2].map(|i| splits.test.image(i)[0]), [201, 200, 202]);
    assert_eq!(splits.test.image(0)[64..66], [100, 100], "planes of one channel each");
    assert_eq!(splits.provenance.trust, Trust::Unverified);
    assert_eq!(splits.provenance.files.len(), 1);
}

#[test]
fn a_tenth_of_each_class_is_held_out_by_a_recorded_table() {
    let place = Place::with(&tree());
    let splits = load(&place, &place.tree());
    assert_eq!((splits.train.class_counts(), splits.validation.class_counts()), (vec![9, 18], vec![1, 2]));
    let record = serde_json::to_value(splits.split.unwrap()).unwrap();
    assert_eq!((&record["percent"], &record["validation_images"]), (&10.into(), &3.into()));
    assert_eq!(record["sha256"].as_str().unwrap().len(), 64);
    let again = load(&place, &place.tree()).split.unwrap();
    assert_eq!(record["sha256"], again.sha256);
}

#[test]
fn a_validation_part_is_used_as_such() {
    let mut files = tree();
    files.push(("test/ant/only.png".into(), flat(9)));
    let place = Place::with(&files);
    let splits = load(&place, &place.tree());
    assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (30, 3, 1));
    assert!(splits.split.is_none());
}

#[test]
fn a_test_part_without_labels_does_not_count() {
    let mut files = tree();
    files.push(("test/unknown.png".into(), flat(9)));
    files.push(("README.txt".into(), b"about".to_vec()));
    files.push(("train/bee/.hidden".into(), b"not an image".to_vec()));
    let place = Place::with(&files);
    assert_eq!(load(&place, &place.tree()).test.len(), 3);
}

#[test]
fn a_zip_archive_holds_the_same_images_as_the_folder() {
    let place = Place::with(&tree());
    let folder = load(&place, &place.tree());
    for around in ["", "some-folder/"] {
        let files: Vec<_> = tree().into_iter().map(|(name, bytes)| (format!("{around}{name}"), bytes)).collect();
        let archive = place.write("data.zip", &zip(&files));
        let zipped = load(&place, &archive);
        assert_eq!(zipped.train.digest(), folder.train.digest());
        assert_eq!(zipped.test.digest(), folder.test.digest());
        assert_eq!(zipped.class_names, folder.class_names);
        assert_eq!(zipped.provenance.files[0].sha256, neokd_datasets::sha256_hex(&fs::read(&archive).unwrap()));
    }
}

#[test]
fn the_folder_around_a_tree_is_found() {
    let place = Place::with(&tree());
    assert_eq!(load(&place, place.tree().parent().unwrap()).train.len(), 27);
}

/// 200 classes would be many files; the layout is the same with two.
fn tiny_imagenet() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("wnids.txt".into(), b"n02\nn01\n".to_vec()),
        ("words.txt".into(), b"n01\tthing\n".to_vec()),
        ("val/val_annotations.txt".into(), b"val_1.JPEG\tn02\t0\t0\t9\t9\nval_0.JPEG\tn01\t1\t1\t5\t5\n".to_vec()),
    ];
    for class in ["n01", "n02"] {
        files.push((format!("train/{class}/{class}_boxes.txt"), b"x".to_vec()));
        for i in 0..4_u8 {
            let image = RgbImage::from_pixel(8, 8, Rgb([60 * i; 3]));
            files.push((format!("train/{class}/images/{class}_{i}.JPEG"), jpeg(&image)));
        }
    }
    for (i, value) in [30, 220].into_iter().enumerate() {
        files.push((format!("val/images/val_{i}.JPEG"), jpeg(&RgbImage::from_pixel(8, 8, Rgb([value; 3])))));
    }
    files.push(("test/images/test_0.JPEG".into(), jpeg(&RgbImage::new(8, 8))));
    files
}

#[test]
fn tiny_imagenet_loads_as_published() {
    let place = Place::with(&tiny_imagenet());
    let archive = place.write("t.zip", &zip(&tiny_imagenet()));
    for from in [place.tree(), archive] {
        let splits = load(&place, &from);
        assert_eq!(splits.class_names, ["n01", "n02"]);
        assert_eq!((splits.train.class_counts(), splits.validation.class_counts()), (vec![3, 3], vec![1, 1]));
        assert_eq!(splits.test.labels(), [0, 1]);
        // Flat JPEG images come back to within rounding.
        assert!(splits.test.image(0)[0].abs_diff(30) <= 1 && splits.test.image(1)[100].abs_diff(220) <= 1);
    }
}

fn decode_to(image: &RgbImage, shape: [usize; 3]) -> Vec<u8> {
    let image = png(image);
    let files = [("train/a/0.png", &image), ("train/a/1.png", &image), ("test/a/0.jpg", &image)];
    let place = Place::with(&files.map(|(name, bytes)| (name.to_owned(), bytes.clone())));
    load_tree(&place.tree(), &place.library(), &TreeOptions::new(shape)).unwrap().test.image(0).to_vec()
}

#[test]
fn the_right_size_is_left_as_it_is() {
    let image = RgbImage::from_fn(5, 4, |x, y| Rgb([x as u8, y as u8, (10 * x + y) as u8]));
    let pixels = decode_to(&image, [3, 4, 5]);
    for (x, y, pixel) in image.enumerate_pixels() {
        for channel in 0..3 {
            assert_eq!(pixels[channel * 20 + (y * 5 + x) as usize], pixel.0[channel]);
        }
    }
}

#[test]
fn the_longer_side_is_cut_evenly() {
    // Columns 0 to 9 of a 10x4 image hold their number: the centre of 4 columns starts at 3.
    let wide = RgbImage::from_fn(10, 4, |x, _| Rgb([x as u8; 3]));
    assert_eq!(decode_to(&wide, [3, 4, 4])[..4], [3, 4, 5, 6]);
    let tall = RgbImage::from_fn(4, 10, |_, y| Rgb([y as u8; 3]));
    let rows: Vec<u8> = decode_to(&tall, [3, 4, 4]).into_iter().step_by(4).take(4).collect();
    assert_eq!(rows, [3, 4, 5, 6]);
    // Offsets that are halves go to the even neighbour: 1/2 to 0, 3/2 to 2.
    assert_eq!(decode_to(&RgbImage::from_fn(5, 4, |x, _| Rgb([x as u8; 3])), [3, 4, 4])[0], 0);
    assert_eq!(decode_to(&RgbImage::from_fn(7, 4, |x, _| Rgb([x as u8; 3])), [3, 4, 4])[0], 2);
}

#[test]
fn shrinking_averages_and_keeps_flat_images_flat() {
    // Stripes of one pixel: without a filter that widens they would come out as one of the two values.
    let stripes = RgbImage::from_fn(64, 64, |x, _| Rgb([if x % 2 == 0 { 0 } else { 200 }; 3]));
    assert!(decode_to(&stripes, [3, 8, 8]).iter().all(|&value| value.abs_diff(100) < 12));
    for (w, h) in [(3, 50), (50, 3), (1, 1), (200, 117)] {
        let flat = RgbImage::from_pixel(w, h, Rgb([70, 80, 90]));
        let pixels = decode_to(&flat, [3, 6, 9]);
        assert!(pixels[..54].iter().all(|&v| v == 70) && pixels[108..].iter().all(|&v| v == 90), "{w}x{h}");
    }
}

#[test]
fn one_channel_is_luma() {
    let green = RgbImage::from_pixel(4, 4, Rgb([0, 255, 0]));
    let pixels = decode_to(&green, [1, 4, 4]);
    assert_eq!(pixels.len(), 16);
    assert!(pixels.iter().all(|&v| v.abs_diff(182) <= 1), "0.7152 * 255: {pixels:?}");
}

fn cache_file(place: &Place) -> std::path::PathBuf {
    let mut files = fs::read_dir(place.library().join("decoded")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "one cache and no temporary file");
    file
}

#[test]
fn a_cache_is_used_and_not_written_again() {
    let place = Place::with(&tree());
    let first = load(&place, &place.tree());
    let before = fs::metadata(cache_file(&place)).unwrap().modified().unwrap();
    let second = load(&place, &place.tree());
    assert_eq!((first.train, first.test), (second.train, second.test));
    assert_eq!(first.provenance, second.provenance);
    assert_eq!(fs::metadata(cache_file(&place)).unwrap().modified().unwrap(), before);
}

#[test]
fn a_changed_tree_is_decoded_again() {
    let place = Place::with(&tree());
    let first = load(&place, &place.tree());
    fs::write(place.tree().join("val/ant/t1.png"), flat(77)).unwrap();
    let second = load(&place, &place.tree());
    assert_eq!(second.test.image(0)[0], 77);
    assert_ne!(first.provenance.files[0].sha256, second.provenance.files[0].sha256);
    fs::write(place.tree().join("val/ant/t9.png"), flat(78)).unwrap();
    assert_eq!(load(&place, &place.tree()).test.len(), 4);
    cache_file(&place);
}

#[test]
fn shapes_have_caches_of_their_own() {
    let place = Place::with(&tree());
    load(&place, &place.tree());
    let grey = load_tree(&place.tree(), &place.library(), &TreeOptions::new([1, 4, 4])).unwrap();
    assert_eq!(grey.train.shape(), [1, 4, 4]);
    assert_eq!(fs::read_dir(place.library().join("decoded")).unwrap().count(), 2);
}

#[test]
fn a_damaged_cache_is_never_used() {
    let place = Place::with(&tree());
    let good = load(&place, &place.tree());
    let path = cache_file(&place);
    let bytes = fs::read(&path).unwrap();
    let mut rng = ChaCha8Rng::from_seed([5; 32]);
    for round in 0..300 {
        let mut damaged = bytes.clone();
        let at = match round % 3 {
            0 => rng.next_u32() as usize % 40,
            1 => rng.next_u32() as usize % 600,
            _ => rng.next_u32() as usize % bytes.len(),
        };
        match rng.next_u32() % 4 {
            0 => damaged[at] ^= 1 << (rng.next_u32() % 8),
            1 => damaged[at] = damaged[at].wrapping_add(1),
            2 => damaged.truncate(at),
            _ => damaged.insert(at, 0),
        }
        fs::write(&path, &damaged).unwrap();
        let loaded = load(&place, &place.tree());
        assert_eq!((&loaded.train, &loaded.test, &loaded.class_names), (&good.train, &good.test, &good.class_names));
        assert!(fs::read(&path).unwrap() == bytes, "it was made again, byte for byte");
    }
}

#[cfg(unix)]
#[test]
fn a_library_that_cannot_be_written_to_only_costs_time() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with(&tree());
    fs::create_dir_all(place.library()).unwrap();
    fs::set_permissions(place.library(), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(load(&place, &place.tree()).test.len(), 3);
    fs::set_permissions(place.library(), fs::Permissions::from_mode(0o755)).unwrap();
}
