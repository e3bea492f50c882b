//! A small generated dataset that a network can learn: for smoke tests, and for unit tests of everything above the data.
//!
//! Each class is a picture of three soft discs; an image is its class's picture, shifted by up to an eighth of its size and
//! with noise on every pixel. Only integers are used, so a seed gives the same bytes on every machine.

use rand_chacha::ChaCha8Rng;

use crate::data_splits::DataSplits;
use crate::random::{below, stream};
use crate::{DataError, ImageSet, Provenance, Trust};

const DISCS: usize = 3;
const NOISE: u32 = 24;

/// Most bytes of pixels in one part (256 MiB): the generator is for small sets.
const MAX_PIXELS: u64 = 1 << 28;

/// Streams of the generator: the templates on their own, then one range of streams for each part.
const TEMPLATE_STREAM: u64 = 0;
const PART_SHIFT: u32 = 32;

/// Three sets drawn from one distribution, balanced over the classes (label = index modulo `classes`).
///
/// The same arguments give the same bytes everywhere. An image depends only on `seed`, `shape`, `classes`, its part and its
/// index: asking for more images leaves the first ones as they were.
///
/// # Shapes
/// `shape` is channels, height, width; at least 8x8 gives classes that differ clearly.
///
/// # Errors
/// A size of 0, more than 65,536 classes, or more than 256 MiB of pixels in one part.
pub fn synthetic(
    seed: u64,
    n_train: usize,
    n_validation: usize,
    n_test: usize,
    shape: [usize; 3],
    classes: usize,
) -> Result<DataSplits, DataError> {
    let [channels, height, width] = shape;
    check_classes(classes)?;
    for n in [n_train, n_validation, n_test, classes] {
        check_size(n, shape)?;
    }
    let templates: Vec<Template> = {
        let mut rng = stream(seed, TEMPLATE_STREAM);
        (0..classes).map(|_| Template::draw(&mut rng, shape)).collect()
    };
    let part = |name: &str, number: u64, n: usize| {
        let mut pixels = Vec::with_capacity(n * channels * height * width);
        for index in 0..n {
            let mut rng = stream(seed, (number << PART_SHIFT) + index as u64);
            templates[index % classes].render(&mut rng, shape, &mut pixels);
        }
        let labels = (0..n).map(|index| (index % classes) as u16).collect();
        ImageSet::new(&format!("synthetic {name}"), shape, classes, pixels, labels)
    };
    Ok(DataSplits {
        train: part("train", 1, n_train)?,
        validation: part("validation", 2, n_validation)?,
        test: part("test", 3, n_test)?,
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        provenance: Provenance {
            dataset: format!(
                "synthetic (seed {seed}, {n_train}+{n_validation}+{n_test} images, \
                 {channels}x{height}x{width}, {classes} classes)"
            ),
            trust: Trust::Generated,
            files: Vec::new(),
        },
        split: None,
    })
}

/// Refuses what [`ImageSet::new`] would, before a template is drawn for every class.
fn check_classes(classes: usize) -> Result<(), DataError> {
    if classes > usize::from(u16::MAX) + 1 {
        return Err(DataError::TooManyClasses { name: "synthetic data".into(), classes });
    }
    Ok(())
}

fn check_size(n: usize, shape: [usize; 3]) -> Result<(), DataError> {
    let claimed = shape.into_iter().fold(n as u64, |product, size| product.saturating_mul(size as u64));
    if claimed == 0 {
        let what = "a number of images, the number of classes or a side";
        return Err(DataError::EmptySet { name: "synthetic data".into(), what });
    }
    if claimed > MAX_PIXELS {
        return Err(DataError::TooMuchToGenerate { claimed, limit: MAX_PIXELS });
    }
    Ok(())
}

/// A disc that is brightest in its middle. Positions are in pixels.
struct Disc {
    row: i64,
    column: i64,
    /// Brightness in the middle, for each channel.
    peaks: Vec<i64>,
}

/// What all images of a class have in common.
struct Template {
    discs: Vec<Disc>,
}

impl Template {
    fn draw(rng: &mut ChaCha8Rng, [channels, height, width]: [usize; 3]) -> Self {
        let mut disc = || Disc {
            row: i64::from(below(rng, height as u32)),
            column: i64::from(below(rng, width as u32)),
            peaks: (0..channels).map(|_| 96 + i64::from(below(rng, 160))).collect(),
        };
        Self { discs: (0..DISCS).map(|_| disc()).collect() }
    }

    /// Appends one image of the class, `[channels, height, width]` flattened.
    fn render(&self, rng: &mut ChaCha8Rng, [channels, height, width]: [usize; 3], pixels: &mut Vec<u8>) {
        let (down, right) = (shift(rng, height), shift(rng, width));
        let radius = (height.min(width) as i64 / 4).max(1);
        let reach = radius * radius;
        for channel in 0..channels {
            for row in 0..height as i64 {
                for column in 0..width as i64 {
                    let light = |disc: &Disc| {
                        let (dy, dx) = (row - disc.row - down, column - disc.column - right);
                        disc.peaks[channel] * (reach - dy * dy - dx * dx).max(0) / reach
                    };
                    let value = self.discs.iter().map(light).sum::<i64>() + noise(rng);
                    pixels.push(value.clamp(0, 255) as u8);
                }
            }
        }
    }
}

/// A uniform shift of at most an eighth of `size`, in pixels.
fn shift(rng: &mut ChaCha8Rng, size: usize) -> i64 {
    let most = size as u32 / 8;
    i64::from(below(rng, 2 * most + 1)) - i64::from(most)
}

/// Triangular noise of standard deviation NOISE * 0.41, between -NOISE and NOISE.
fn noise(rng: &mut ChaCha8Rng) -> i64 {
    let draw = |rng: &mut ChaCha8Rng| i64::from(below(rng, NOISE + 1));
    draw(rng) - draw(rng)
}
