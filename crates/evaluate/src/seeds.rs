//! One seed, many independent keys: who draws random numbers, and from where.

use sha2::{Digest, Sha256};

/// What a key is for; each purpose draws numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights,
    /// Order of the training images, per epoch.
    Order,
    /// Augmentation of the training images; the epoch enters there.
    Augmentation,
    /// Dropout masks, per step.
    Dropout,
    /// The training attack's random starts, per epoch.
    TrainingAttack,
    /// Dropout masks of a training attack in training mode, per step.
    AttackDropout,
    /// The partition of the wrong classes in NEO-KD, per epoch.
    Partition,
    /// The same where it is shared by a batch, per step.
    BatchPartition,
    /// The same where it is drawn once.
    FixedPartition,
    /// Boxes and partners of CutMix, per step.
    Cutmix,
    /// Attacks on held-out images during training, per kind of look: every look of a kind draws alike.
    Validation,
    /// Attacks on test images.
    Evaluation,
}

/// The key for one purpose and one epoch or step: the first 8 bytes of SHA-256 over all three.
///
/// Everything random in a run is a function of such keys and of example indices, so a run can go on
/// from any step without a generator's state being stored.
pub fn key(seed: u64, purpose: Purpose, counter: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(format!("neokd/{purpose:?}").as_bytes());
    hash.update(seed.to_le_bytes());
    hash.update(counter.to_le_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_seeds_and_counters_give_different_keys() {
        let base = key(1, Purpose::Order, 0);
        assert_eq!(base, key(1, Purpose::Order, 0));
        assert_ne!(base, key(2, Purpose::Order, 0));
        assert_ne!(base, key(1, Purpose::Dropout, 0));
        assert_ne!(base, key(1, Purpose::Order, 1));
    }
}
