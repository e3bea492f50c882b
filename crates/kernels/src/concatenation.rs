//! Maps put behind each other along the channels, and taken apart again, an image a task.

use rayon::prelude::*;

/// Least number of values of one task: enough that starting it costs nothing beside its work.
const VALUES: usize = 1 << 14;

/// Images of which each is made of one image of every part.
///
/// # Shapes
/// - `parts`: each `[batch, values of its own]`, flattened
pub(crate) fn forward(batch: usize, parts: &[&[f32]]) -> Vec<f32> {
    let total = parts.iter().map(|part| part.len()).sum();
    let mut output = vec![0.0; total];
    if total == 0 {
        return output;
    }
    let images = output.par_chunks_exact_mut(total / batch);
    images.with_min_len(images_of_a_task(total / batch)).enumerate().for_each(|(index, mut rest)| {
        for part in parts {
            let length = part.len() / batch;
            let (target, behind) = rest.split_at_mut(length);
            target.copy_from_slice(&part[index * length..][..length]);
            rest = behind;
        }
    });
    output
}

/// The part of every image that begins at `start` and is `length` values long.
///
/// # Shapes
/// - `whole`: `[batch, values]`, flattened
pub(crate) fn backward(batch: usize, whole: &[f32], start: usize, length: usize) -> Vec<f32> {
    let mut part = vec![0.0; batch * length];
    if part.is_empty() {
        return part;
    }
    let images = part.par_chunks_exact_mut(length).zip(whole.par_chunks_exact(whole.len() / batch));
    images.with_min_len(images_of_a_task(length)).for_each(|(target, image)| {
        target.copy_from_slice(&image[start..][..length]);
    });
    part
}

/// Least number of images of a task.
fn images_of_a_task(length: usize) -> usize {
    VALUES.div_ceil(length)
}
