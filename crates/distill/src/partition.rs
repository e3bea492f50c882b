//! The disjoint parts of the wrong classes that exits answer for, and the orthogonal labels made
//! from them (NEO-KD 3.2; neo-kd.md 2.2).

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Draw;

/// Owner of an image's true class: every exit keeps it.
pub const TRUE_CLASS: i64 = -1;
/// Owner of a class that no exit keeps.
pub const NOBODY: i64 = -2;

/// Which exit owns each class of each image: `[batch, classes]`, values an exit, [`TRUE_CLASS`] or
/// [`NOBODY`].
#[derive(Clone, Debug)]
pub struct Partition(pub Tensor<2, Int>);

impl Partition {
    /// Draws a partition per image: the wrong classes in random order, cut into one slice of
    /// `floor((classes - 1) / exits)` per exit; the rest belongs to nobody.
    ///
    /// Redrawn at every visit of an image, as the caller's `draw.seed` changes with the epoch. How
    /// often the authors redraw was not readable (neo-kd.md section 8, point 2).
    pub fn per_visit(draw: Draw<'_>, exits: usize, classes: usize, device: &Device) -> Self {
        let rows = draw.examples.iter().zip(draw.labels).flat_map(|(&example, &label)| {
            let mut random = ChaCha8Rng::seed_from_u64(draw.seed);
            random.set_stream(example);
            owners(label, exits, classes, &mut random)
        });
        let owners = TensorData::new(rows.collect::<Vec<i64>>(), [draw.examples.len(), classes]);
        Self(Tensor::from_data(owners, &device.clone().without_autodiff()))
    }
}

fn owners(label: usize, exits: usize, classes: usize, random: &mut impl Rng) -> Vec<i64> {
    let mut wrong: Vec<usize> = (0..classes).filter(|&class| class != label).collect();
    shuffle(&mut wrong, random);
    let mut owners = vec![NOBODY; classes];
    owners[label] = TRUE_CLASS;
    let share = wrong.len() / exits;
    if share > 0 {
        for (exit, slice) in wrong.chunks_exact(share).take(exits).enumerate() {
            for &class in slice {
                owners[class] = exit as i64;
            }
        }
    }
    owners
}

/// Fisher and Yates. The bias of the multiply-shift draw is below 2^-50 for any number of classes.
fn shuffle(items: &mut [usize], random: &mut impl Rng) {
    for end in (1..items.len()).rev() {
        let pick = (u128::from(random.next_u64()) * (end as u128 + 1)) >> 64;
        items.swap(end, pick as usize);
    }
}

/// The orthogonal label of one exit: the clean probabilities of the true class and of the exit's
/// own classes, zero elsewhere, scaled to sum to one.
///
/// # Shapes
/// - `probabilities` and output: `[batch, classes]`
pub fn orthogonal_labels(probabilities: &Tensor<2>, partition: &Partition, exit: usize) -> Tensor<2> {
    let owner = &partition.0;
    let kept = owner.clone().equal_scalar(exit as i64).bool_or(owner.clone().equal_scalar(TRUE_CLASS));
    let sparse = probabilities.clone().mask_fill(kept.bool_not(), 0.0);
    // A true class and own classes that all round to zero would divide by zero.
    let sum = sparse.clone().sum_dim(1).clamp_min(f64::from(f32::MIN_POSITIVE));
    sparse / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, examples: &[u64], labels: &[usize], exits: usize, classes: usize) -> Vec<Vec<i64>> {
        let draw = Draw { seed, examples, labels };
        let flat: Vec<i64> = Partition::per_visit(draw, exits, classes, &Device::flex())
            .0
            .into_data()
            .convert::<i64>()
            .try_into_vec()
            .unwrap();
        flat.chunks(classes).map(<[i64]>::to_vec).collect()
    }

    #[test]
    fn every_exit_owns_its_share_of_the_wrong_classes_and_nobody_the_rest() {
        for (exits, classes) in [(3, 10), (7, 100), (5, 200), (4, 3)] {
            let share = (classes - 1) / exits;
            for row in drawn(5, &[0, 1, 2, 3], &[0, 1, 2, 2], exits, classes) {
                let owned = |owner: i64| row.iter().filter(|class| **class == owner).count();
                assert_eq!(owned(TRUE_CLASS), 1);
                assert!((0..exits).all(|exit| owned(exit as i64) == share));
                assert_eq!(owned(NOBODY), classes - 1 - share * exits);
            }
        }
    }

    #[test]
    fn a_partition_depends_on_seed_and_example_but_not_on_the_batch() {
        let alone = drawn(5, &[9], &[4], 3, 10);
        let together = drawn(5, &[2, 9], &[0, 4], 3, 10);
        assert_eq!(alone[0], together[1]);
        assert_ne!(alone, drawn(6, &[9], &[4], 3, 10));
        assert_ne!(alone, drawn(5, &[8], &[4], 3, 10));
    }

    #[test]
    fn every_wrong_class_is_owned_by_every_exit_equally_often() {
        let examples: Vec<u64> = (0..3000).collect();
        let rows = drawn(1, &examples, &vec![0; 3000], 3, 10);
        for class in 1..10 {
            for exit in 0..3 {
                let count = rows.iter().filter(|row| row[class] == exit).count();
                // 1000 expected, standard deviation 26.
                assert!((850..1150).contains(&count), "class {class} exit {exit}: {count}");
            }
        }
    }

    #[test]
    fn orthogonal_labels_sum_to_one_and_meet_only_in_the_true_class() {
        let device = Device::flex();
        let draw = Draw { seed: 3, examples: &[0, 1], labels: &[2, 7] };
        let partition = Partition::per_visit(draw, 3, 10, &device);
        let uniform = Tensor::<2>::full([2, 10], 0.1, &device);
        let labels: Vec<Tensor<2>> = (0..3).map(|exit| orthogonal_labels(&uniform, &partition, exit)).collect();
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            let product: Vec<f32> =
                (labels[first].clone() * labels[second].clone()).into_data().try_into_vec().unwrap();
            let shared: Vec<usize> = (0..20).filter(|&at| product[at] != 0.0).collect();
            assert_eq!(shared, [2, 17]);
        }
        for label in labels {
            let sums: Vec<f32> = label.sum_dim(1).into_data().try_into_vec().unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6));
        }
    }
}
