//! Prints how many images a second are made ready for training:
//!
//! ```text
//! augment_speed [--images N] [--tree FOLDER] [--side N]
//! ```
//!
//! from memory, generated images of CIFAR's size and CIFAR-100 itself where the library folder (`$NEOKD_DATA`, else the
//! user's) has it; and from files, a generated tree of JPEG and one of PNG, or the tree that is given, decoded to
//! `--side` (224). `--images` bounds the images of an epoch from memory (50,000). Best of three epochs each; for figures
//! that others can compare with, let nothing else run.

use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::{Rgb, RgbImage};
use neokd_datasets::{
    Augmentation, ImageSet, Images, Storage, TreeOptions, View, augment_batch, default_data_dir, open_tree, synthetic,
};

const BATCH: usize = 128;
const EPOCHS: u64 = 3;

/// Images of a generated tree, and their size: about that of ImageNet's.
const GENERATED: u32 = 512;
const GENERATED_SIZE: (u32, u32) = (500, 375);

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Args {
    images: usize,
    tree: Option<PathBuf>,
    side: usize,
}

fn main() -> Outcome<()> {
    let args = parse()?;
    let mut out = std::io::stdout();
    let cores = std::thread::available_parallelism()?;
    writeln!(out, "{cores} cores, best of {EPOCHS} epochs, images a second")?;
    from_memory("generated", &synthetic(1, args.images, 1, 1, [3, 32, 32], 10)?.train, cores, &mut out)?;
    match default_data_dir().map(|library| neokd_datasets::load("cifar100", &library)) {
        Some(Ok(splits)) => from_memory("cifar100", &splits.train.head(args.images)?, cores, &mut out)?,
        Some(Err(error)) => writeln!(out, "\ncifar100: passed over, {error}")?,
        None => writeln!(out, "\ncifar100: passed over, no library folder is known; set NEOKD_DATA")?,
    }
    match &args.tree {
        Some(tree) => from_files(&tree.display().to_string(), tree, args.side, &mut out)?,
        None => {
            for ending in ["jpg", "png"] {
                let folder = tempfile::tempdir()?;
                generate(folder.path(), ending)?;
                let (width, height) = GENERATED_SIZE;
                let name = format!("{GENERATED} generated {ending} files of {width}x{height}");
                from_files(&name, folder.path(), args.side, &mut out)?;
            }
        }
    }
    Ok(())
}

fn parse() -> Outcome<Args> {
    let mut args = Args { images: 50_000, tree: None, side: 224 };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().ok_or_else(|| format!("{flag}: a value is missing"))?;
        match flag.as_str() {
            "--images" => args.images = value.parse()?,
            "--tree" => args.tree = Some(value.into()),
            "--side" => args.side = value.parse()?,
            _ => return Err(format!("{flag}: unknown; there are --images, --tree and --side").into()),
        }
    }
    Ok(args)
}

fn resized(from_file: bool) -> Augmentation {
    Augmentation::RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], from_file }
}

/// Augmentation alone: the images are decoded already.
fn from_memory(name: &str, set: &ImageSet, cores: NonZeroUsize, out: &mut dyn Write) -> Outcome<()> {
    let [channels, height, width] = set.shape();
    writeln!(out, "\n{name}: {} images of {channels}x{height}x{width} from memory", set.len())?;
    let order: Vec<usize> = (0..set.len()).collect();
    let kinds = [
        ("none", Augmentation::None),
        ("pad-crop-flip", Augmentation::PadCropFlip { pad: 4 }),
        ("random-resized-crop", resized(false)),
    ];
    for (kind, augmentation) in kinds {
        // A batch as in training; with more threads than one, also a whole epoch at a time, where starting them costs
        // nothing.
        for (batch, threads) in [(BATCH, NonZeroUsize::MIN), (BATCH, cores), (set.len(), cores)] {
            let speed = best(set.len(), |epoch| {
                for indices in order.chunks(batch) {
                    std::hint::black_box(augment_batch(set, indices, &augmentation, 1, epoch, threads));
                }
                Ok(())
            })?;
            writeln!(out, "  {kind:28} {threads} threads, batches of {batch:6} {speed:>12.0}")?;
        }
    }
    Ok(())
}

/// Reading, decoding, scaling and augmentation, on all cores, as training does it.
fn from_files(name: &str, tree: &Path, side: usize, out: &mut dyn Write) -> Outcome<()> {
    let mut options = TreeOptions::new([3, side, side]);
    options.storage = Storage::Stream;
    options.resize = Some(side * 256 / 224);
    let listed = Instant::now();
    let set = open_tree(tree, Path::new(""), &options)?.train;
    let seconds = listed.elapsed().as_secs_f64();
    writeln!(out, "\n{name}: {} images to 3x{side}x{side} from files, listed in {seconds:.2} s", set.len())?;
    let all: Vec<usize> = (0..set.len()).collect();
    let plan: Vec<Vec<usize>> = all.chunks(BATCH).map(<[usize]>::to_vec).collect();
    let kinds = [
        ("resize and centre crop", None),
        ("pad-crop-flip", Some(Augmentation::PadCropFlip { pad: 4 })),
        ("random-resized-crop", Some(resized(false))),
        ("random-resized-crop from file", Some(resized(true))),
    ];
    for (kind, augmentation) in kinds {
        let speed = best(set.len(), |epoch| {
            let view =
                augmentation.map_or(View::Plain, |augmentation| View::Augmented { augmentation, seed: 1, epoch });
            for batch in set.batches(plan.clone(), view) {
                std::hint::black_box(batch?);
            }
            Ok(())
        })?;
        writeln!(out, "  {kind:30} batches of {BATCH} {speed:>12.0}")?;
    }
    Ok(())
}

/// Images a second of the fastest epoch.
fn best(images: usize, mut epoch: impl FnMut(u64) -> Outcome<()>) -> Outcome<f64> {
    let mut seconds = f64::INFINITY;
    for number in 0..EPOCHS {
        let start = Instant::now();
        epoch(number)?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(images as f64 / seconds)
}

/// A tree of images with edges, gradients and a little noise, so that files get about as large as photographs do.
fn generate(folder: &Path, ending: &str) -> Outcome<()> {
    let (width, height) = GENERATED_SIZE;
    for number in 0..GENERATED + 2 {
        let mut state = number + 1;
        let image = RgbImage::from_fn(width, height, |x, y| {
            // A linear congruential generator: the noise need not be good.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as u8;
            let inside = (x * x + y * y + 97 * number) % 90_000 < 40_000;
            let base = if inside { 40 } else { 150 };
            Rgb([base + (x / 8) as u8 + noise, base + (y / 6) as u8 + noise, base + noise])
        });
        let part = if number < GENERATED { "train" } else { "val" };
        let place = folder.join(part).join(["even", "odd"][number as usize % 2]);
        std::fs::create_dir_all(&place)?;
        image.save(place.join(format!("{number:04}.{ending}")))?;
    }
    Ok(())
}
