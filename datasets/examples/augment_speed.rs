//! Prints how many images a second are augmented: `augment_speed [IMAGES]`, by default 50,000 of 3x32x32 as CIFAR has.

use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Instant;

use neokd_datasets::{Augmentation, augment_batch, synthetic};

const BATCH: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let images = std::env::args().nth(1).map_or(Ok(50_000), |text| text.parse())?;
    let set = synthetic(1, images, 1, 1, [3, 32, 32], 10)?.train;
    let cores = std::thread::available_parallelism()?;
    let order: Vec<usize> = (0..set.len()).collect();
    let resized = Augmentation::RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], from_file: false };
    let kinds = [
        ("none", Augmentation::None),
        ("pad-crop-flip", Augmentation::PadCropFlip { pad: 4 }),
        ("random-resized-crop", resized),
    ];
    let mut out = std::io::stdout();
    writeln!(out, "{images} images of 3x32x32, {cores} cores; best of 3 epochs, images a second")?;
    for (name, augmentation) in kinds {
        // A batch as in training; with more threads than one, also a whole epoch at a time, where starting them costs nothing.
        for (batch, threads) in [(BATCH, NonZeroUsize::MIN), (BATCH, cores), (images, cores)] {
            let mut best = f64::INFINITY;
            for epoch in 0..3 {
                let start = Instant::now();
                for indices in order.chunks(batch) {
                    std::hint::black_box(augment_batch(&set, indices, &augmentation, 1, epoch, threads));
                }
                best = best.min(start.elapsed().as_secs_f64());
            }
            writeln!(out, "{name:20} {threads} threads, batches of {batch:6}: {:>12.0}", images as f64 / best)?;
        }
    }
    Ok(())
}
