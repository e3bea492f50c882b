//! Random integers that are the same on every machine and in every version: ChaCha8 with an explicit key and stream.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// An independent generator for each pair of `seed` and `stream`.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    // The key is spelled out because `seed_from_u64` may expand a seed differently from one version to the next.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// A uniform integer below `bound`, which must not be 0: 32-bit draws at or above the largest multiple of `bound` are rejected.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    debug_assert!(bound > 0, "the callers' bounds are lengths of what they draw from");
    let range = 1_u64 << 32;
    let accepted = range - range % u64::from(bound);
    loop {
        let draw = rng.next_u32();
        if u64::from(draw) < accepted {
            return draw % bound;
        }
    }
}
