//! The disjoint parts of the wrong classes that exits answer for, and the orthogonal labels made
//! from them (NEO-KD 3.2; docs/papers/neo-kd.md 2.2).

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::Draw;

/// Owner of an image's true class: every exit keeps it.
pub const TRUE_CLASS: i64 = -1;
/// Owner of a class that no exit keeps.
pub const NOBODY: i64 = -2;

/// When a new partition is drawn (docs/papers/neo-kd.md section 8, point 2). What the authors do was not readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redrawn {
    /// At every visit of an image, for each image on its own: the default. As an image is visited once
    /// an epoch, each sees what it would see under [`Epoch`](Self::Epoch), without sharing it.
    #[default]
    Visit,
    /// At every step, one order of the classes for the whole batch.
    Batch,
    /// At every epoch, one order of the classes for all images.
    Epoch,
    /// Never: one order of the classes for the whole run.
    Fixed,
}

/// What becomes of the wrong classes that do not divide evenly among the exits (point 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leftovers {
    /// No exit keeps them: `floor((classes - 1) / exits)` each, as the paper is remembered; the default.
    #[default]
    Nobody,
    /// One more to each of the first exits.
    FirstExits,
}

/// How the wrong classes are divided among the exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartitionConfig {
    /// When a new one is drawn: `visit`, `batch`, `epoch` or `fixed`.
    pub redrawn: Redrawn,
    /// What becomes of the rest: `nobody` or `first-exits`.
    pub leftovers: Leftovers,
}

/// Which exit owns each class of each image: `[batch, classes]`, values an exit, [`TRUE_CLASS`] or
/// [`NOBODY`].
#[derive(Clone, Debug)]
pub struct Partition(pub Tensor<2, Int>);

impl Partition {
    /// Draws a partition of each image's wrong classes: in random order, cut into one slice per exit.
    ///
    /// Where images share an order of the classes, each leaves out its own true class and cuts the
    /// rest, so that every exit still owns as many classes of every image.
    pub fn draw(config: PartitionConfig, draw: Draw<'_>, exits: usize, classes: usize, device: &Device) -> Self {
        let rows = draw.examples.iter().zip(draw.labels).flat_map(|(&example, &label)| {
            let order = match config.redrawn {
                Redrawn::Visit => shuffled((0..classes).filter(|&class| class != label), draw.epoch, example),
                Redrawn::Batch => shuffled(0..classes, draw.step, 0),
                Redrawn::Epoch => shuffled(0..classes, draw.epoch, 0),
                Redrawn::Fixed => shuffled(0..classes, draw.run, 0),
            };
            let wrong: Vec<usize> = order.into_iter().filter(|&class| class != label).collect();
            owners(&wrong, label, exits, config.leftovers)
        });
        let owners = TensorData::new(rows.collect::<Vec<i64>>(), [draw.examples.len(), classes]);
        Self(Tensor::from_data(owners, &device.clone().without_autodiff()))
    }
}

fn owners(wrong: &[usize], label: usize, exits: usize, leftovers: Leftovers) -> Vec<i64> {
    let mut owners = vec![NOBODY; wrong.len() + 1];
    owners[label] = TRUE_CLASS;
    let (share, rest) = (wrong.len() / exits, wrong.len() % exits);
    let mut left = wrong.iter();
    for exit in 0..exits {
        let more = usize::from(leftovers == Leftovers::FirstExits && exit < rest);
        for &class in left.by_ref().take(share + more) {
            owners[class] = exit as i64;
        }
    }
    owners
}

fn shuffled(classes: impl Iterator<Item = usize>, key: u64, stream: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(key);
    random.set_stream(stream);
    let mut order: Vec<usize> = classes.collect();
    shuffle(&mut order, &mut random);
    order
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

    fn draw<'a>(epoch: u64, examples: &'a [u64], labels: &'a [usize]) -> Draw<'a> {
        Draw { run: 100, epoch, step: 200 + epoch, examples, labels }
    }

    fn rows(config: PartitionConfig, draw: Draw<'_>, exits: usize, classes: usize) -> Vec<Vec<i64>> {
        let partition = Partition::draw(config, draw, exits, classes, &Device::flex());
        let flat: Vec<i64> = partition.0.into_data().convert::<i64>().try_into_vec().unwrap();
        flat.chunks(classes).map(<[i64]>::to_vec).collect()
    }

    fn drawn(seed: u64, examples: &[u64], labels: &[usize], exits: usize, classes: usize) -> Vec<Vec<i64>> {
        rows(PartitionConfig::default(), draw(seed, examples, labels), exits, classes)
    }

    fn kept(row: &[i64], owner: i64) -> usize {
        row.iter().filter(|class| **class == owner).count()
    }

    #[test]
    fn every_exit_owns_its_share_of_the_wrong_classes_and_nobody_the_rest() {
        for (exits, classes) in [(3, 10), (7, 100), (5, 200), (4, 3)] {
            let share = (classes - 1) / exits;
            for redrawn in [Redrawn::Visit, Redrawn::Batch, Redrawn::Epoch, Redrawn::Fixed] {
                let config = PartitionConfig { redrawn, leftovers: Leftovers::Nobody };
                for row in rows(config, draw(5, &[0, 1, 2, 3], &[0, 1, 2, 2]), exits, classes) {
                    assert_eq!(kept(&row, TRUE_CLASS), 1);
                    assert!((0..exits).all(|exit| kept(&row, exit as i64) == share));
                    assert_eq!(kept(&row, NOBODY), classes - 1 - share * exits);
                }
            }
        }
    }

    #[test]
    fn leftovers_go_to_the_first_exits_where_asked() {
        let config = PartitionConfig { redrawn: Redrawn::Visit, leftovers: Leftovers::FirstExits };
        // 199 wrong classes among 5 exits: 39 each, and one more to the first 4.
        for row in rows(config, draw(5, &[0, 1], &[3, 199]), 5, 200) {
            let owned: Vec<usize> = (0..5).map(|exit| kept(&row, exit)).collect();
            assert_eq!((owned, kept(&row, NOBODY)), (vec![40, 40, 40, 40, 39], 0));
        }
    }

    #[test]
    fn a_shared_order_is_redrawn_with_the_step_the_epoch_or_never() {
        let (examples, labels) = ([3, 4], [0, 0]);
        let base = Draw { run: 1, epoch: 2, step: 3, examples: &examples, labels: &labels };
        let at = |redrawn, draw| rows(PartitionConfig { redrawn, leftovers: Leftovers::Nobody }, draw, 3, 30);
        for redrawn in [Redrawn::Batch, Redrawn::Epoch, Redrawn::Fixed] {
            let both = at(redrawn, base);
            assert_eq!(both[0], both[1], "{redrawn:?}");
            assert_eq!(both == at(redrawn, Draw { step: 9, ..base }), redrawn != Redrawn::Batch);
            assert_eq!(both == at(redrawn, Draw { epoch: 9, ..base }), redrawn != Redrawn::Epoch);
            assert_eq!(both == at(redrawn, Draw { run: 9, ..base }), redrawn != Redrawn::Fixed);
        }
        let own = at(Redrawn::Visit, base);
        assert_ne!(own[0], own[1]);
        assert_ne!(own, at(Redrawn::Visit, Draw { epoch: 9, ..base }));
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
        let partition = Partition::draw(PartitionConfig::default(), draw(3, &[0, 1], &[2, 7]), 3, 10, &device);
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
