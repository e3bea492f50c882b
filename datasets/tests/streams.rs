//! Images left in their files: the pixels that memory would hold, in bounded memory, with errors that name the file.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Place, jpeg, png, zip};
use image::{Rgb, RgbImage};
use neokd_datasets::{Augmentation, DataError, DataSplits, Images, Storage, TreeError, TreeOptions, View, open_tree};

const SHAPE: [usize; 3] = [3, 12, 16];

/// Images of many sizes, `many` a class to train on.
fn files(many: u32) -> Vec<(String, Vec<u8>)> {
    let image = |part: &str, class: &str, number: u32| {
        let (width, height) = (5 + number * 7 % 40, 9 + number * 5 % 31);
        let shade = number * 11 + class.len() as u32;
        let at = |x: u32, y: u32| Rgb([(x * 9 + shade) as u8, (y * 7) as u8, (x * y + shade) as u8]);
        let image = RgbImage::from_fn(width, height, at);
        match number % 3 {
            0 => (format!("{part}/{class}/{number:02}.JPEG"), jpeg(&image)),
            _ => (format!("{part}/{class}/{number:02}.png"), png(&image)),
        }
    };
    let part = |part: &'static str, count: u32| {
        (0..count).flat_map(move |number| ["ant", "beetle"].map(|class| image(part, class, number)))
    };
    part("train", many).chain(part("val", 3)).collect()
}

fn options(storage: Storage, resize: Option<usize>) -> TreeOptions {
    let mut options = TreeOptions::new(SHAPE);
    options.storage = storage;
    options.resize = resize;
    options
}

fn open(place: &Place, storage: Storage, resize: Option<usize>) -> DataSplits<Box<dyn Images>> {
    open_tree(&place.tree(), &place.library(), &options(storage, resize)).unwrap()
}

/// All bytes of the batches of a plan.
fn bytes(set: &dyn Images, plan: &[Vec<usize>], view: View) -> Vec<u8> {
    set.batches(plan.to_vec(), view).flat_map(|batch| batch.unwrap().bytes).collect()
}

#[test]
fn pixels_are_those_that_memory_would_hold_for_every_view() {
    let place = Place::with(&files(20));
    for resize in [None, Some(16), Some(23)] {
        let (held, left) = (open(&place, Storage::Memory, resize), open(&place, Storage::Stream, resize));
        assert_eq!(held.class_names, left.class_names);
        assert_eq!(held.split.as_ref().unwrap().sha256, left.split.as_ref().unwrap().sha256);
        for (held, left) in [(&held.train, &left.train), (&held.validation, &left.validation), (&held.test, &left.test)]
        {
            assert_eq!((held.name(), held.labels(), held.shape()), (left.name(), left.labels(), left.shape()));
            let backwards: Vec<usize> = (0..held.len()).rev().collect();
            let plan: Vec<Vec<usize>> = backwards.chunks(5).map(<[usize]>::to_vec).collect();
            let augmented = |augmentation, epoch| View::Augmented { augmentation, seed: 7, epoch };
            let crop =
                Augmentation::RandomResizedCrop { scale: [0.1, 1.0], ratio: [0.75, 4.0 / 3.0], from_file: false };
            for view in [View::Plain, augmented(Augmentation::PadCropFlip { pad: 4 }, 2), augmented(crop, 3)] {
                assert!(bytes(held, &plan, view) == bytes(left, &plan, view), "{resize:?} {view:?}");
            }
        }
    }
}

#[test]
fn an_image_follows_from_seed_epoch_and_index_whatever_the_batches() {
    let place = Place::with(&files(12));
    let set = open(&place, Storage::Stream, None).train;
    let augmentation = Augmentation::RandomResizedCrop { scale: [0.2, 1.0], ratio: [0.5, 2.0], from_file: true };
    let view = |seed, epoch| View::Augmented { augmentation, seed, epoch };
    let one_by_one: Vec<Vec<usize>> = (0..set.len()).map(|index| vec![index]).collect();
    let expected = bytes(&set, &one_by_one, view(1, 1));
    let all: Vec<usize> = (0..set.len()).collect();
    for size in [2, 7, set.len()] {
        let plan: Vec<Vec<usize>> = all.chunks(size).map(<[usize]>::to_vec).collect();
        assert!(bytes(&set, &plan, view(1, 1)) == expected, "{size}");
    }
    assert!(bytes(&set, &one_by_one, view(1, 2)) != expected);
    assert!(bytes(&set, &one_by_one, view(2, 1)) != expected);
    let len: usize = SHAPE.iter().product();
    let seventh = bytes(&set, &[vec![7, 3]], view(1, 1));
    assert!(seventh[..len] == expected[7 * len..8 * len] && seventh[len..] == expected[3 * len..4 * len]);
}

#[test]
fn a_crop_from_the_file_sees_what_the_centre_leaves_out() {
    // A wide image with a bright left edge, which is not in the centre that is cut out.
    let wide = png(&RgbImage::from_fn(96, 12, |x, _| Rgb([if x < 30 { 250 } else { 0 }; 3])));
    let names = ["train/a/0.png", "train/a/1.png", "val/a/0.png"];
    let place = Place::with(&names.map(|name| (name.to_owned(), wide.clone())));
    let set = open(&place, Storage::Stream, None).train;
    let seen = |from_file: bool| {
        let augmentation = Augmentation::RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], from_file };
        let epoch = |epoch| bytes(&set, &[vec![0]], View::Augmented { augmentation, seed: 1, epoch });
        (0..40).filter(|&number| epoch(number).iter().any(|&value| value > 200)).count()
    };
    assert_eq!(seen(false), 0);
    assert!((4..36).contains(&seen(true)), "{}", seen(true));
    let held = open(&place, Storage::Memory, None).train;
    let augmentation =
        Augmentation::RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], from_file: true };
    let refused = held.batches(vec![vec![0]], View::Augmented { augmentation, seed: 1, epoch: 0 }).next().unwrap();
    assert!(matches!(refused, Err(DataError::AugmentationParameter { parameter: "from_file", .. })));
}

#[test]
fn mirrored_and_scaled_crops_keep_flat_images_flat() {
    let flat = png(&RgbImage::from_pixel(37, 23, Rgb([70, 80, 90])));
    let names = ["train/a/0.png", "train/a/1.png", "val/a/0.png"];
    let place = Place::with(&names.map(|name| (name.to_owned(), flat.clone())));
    let set = open(&place, Storage::Stream, None).train;
    for epoch in 0..20 {
        let augmentation = Augmentation::RandomResizedCrop { scale: [0.01, 1.0], ratio: [0.3, 3.0], from_file: true };
        let pixels = bytes(&set, &[vec![0]], View::Augmented { augmentation, seed: 3, epoch });
        let planes: Vec<&[u8]> = pixels.chunks(12 * 16).collect();
        assert!([70, 80, 90].iter().zip(&planes).all(|(value, plane)| plane.iter().all(|pixel| pixel == value)));
    }
}

#[test]
fn the_index_is_what_the_digests_are_over() {
    let place = Place::with(&files(10));
    let left = open(&place, Storage::Stream, None);
    let file = &left.provenance.files[0];
    assert_eq!(file.name, "image files by path and size");
    let on_disk: u64 = files(10).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(file.bytes, on_disk);
    assert_ne!(left.train.digest(), open(&place, Storage::Memory, None).train.digest());
    assert_eq!(left.train.digest(), open(&place, Storage::Stream, None).train.digest());
    fs::write(place.tree().join("train/ant/99.png"), png(&RgbImage::new(4, 4))).unwrap();
    let longer = open(&place, Storage::Stream, None);
    assert_ne!(longer.train.digest(), left.train.digest());
    assert_ne!(longer.provenance.files[0].sha256, file.sha256);
}

#[test]
fn small_trees_are_held_and_archives_are_not_left_packed() {
    let place = Place::with(&files(10));
    let auto = open(&place, Storage::Auto, None);
    assert!(format!("{:?}", auto.train).starts_with("ImageSet"), "{:?}", auto.train);
    assert!(format!("{:?}", open(&place, Storage::Stream, None).train).starts_with("ImageFiles"));
    // 4096x4096 in three channels is 50 MB an image: a hundred are more than 4 GiB.
    let mut large = TreeOptions::new([3, 4096, 4096]);
    fs::create_dir_all(place.tree().join("test/ant")).unwrap();
    for number in 0..100 {
        fs::write(place.tree().join(format!("test/ant/{number}.png")), png(&RgbImage::new(1, 1))).unwrap();
    }
    let opened = open_tree(&place.tree(), &place.library(), &large).unwrap();
    assert!(format!("{:?}", opened.test).starts_with("ImageFiles(tree test: 100 of 3x4096x4096"), "{:?}", opened.test);
    large.storage = Storage::Memory;
    large.max_bytes = 4 << 30;
    let error = open_tree(&place.tree(), &place.library(), &large).unwrap_err().to_string();
    assert!(error.contains("files of a folder"), "{error}");
    let archive = place.write("tree.zip", &zip(&files(10)));
    let error = open_tree(&archive, &place.library(), &options(Storage::Stream, None)).unwrap_err();
    assert!(matches!(error, DataError::Tree(TreeError::ZipNotStreamed { .. })), "{error}");
    let error = open_tree(&place.tree(), &place.library(), &options(Storage::Auto, Some(15))).unwrap_err();
    assert!(matches!(error, DataError::Tree(TreeError::BadResize { resize: 15, least: 16, .. })), "{error}");
}

#[test]
fn the_first_bad_file_in_the_order_of_the_plan_is_named_and_ends_it() {
    let place = Place::with(&files(12));
    let set = open(&place, Storage::Stream, None).test;
    assert_eq!(set.len(), 6);
    let path = place.tree().join("val/ant/01.png");
    let good = fs::read(&path).unwrap();
    let plan = || vec![vec![5, 4], vec![2, 1], vec![0]];
    let outcome = || {
        let all: Vec<_> = set.batches(plan(), View::Plain).collect();
        assert_eq!(all.len(), 2, "nothing follows an error");
        assert!(all[0].is_ok());
        all.into_iter().nth(1).unwrap().unwrap_err()
    };
    let mut broken = good.clone();
    broken[20..40].fill(0);
    fs::write(&path, &broken).unwrap();
    let error = outcome().to_string();
    assert!(error.contains("val/ant/01.png") && error.contains("cannot be decoded"), "{error}");
    fs::write(&path, &good[..30]).unwrap();
    let error = outcome();
    assert!(matches!(&error, DataError::Tree(TreeError::Changed { found: 30, .. })), "{error}");
    fs::remove_file(&path).unwrap();
    let error = outcome();
    assert!(matches!(&error, DataError::Io { path: named, .. } if named.ends_with(Path::new("val/ant/01.png"))));
}
