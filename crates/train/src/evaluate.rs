//! How accurate each exit is: on clean images and on attacked ones, the same adversarial image scored
//! at all exits (neo-kd.md 4.1).

use burn::tensor::{Device, Int, Tensor};
use neokd_attack::{Attack, Audit, Passes, Threat};
use neokd_datasets::ImageSet;
use neokd_model::{ExitLogits, Frozen, MultiExit};

use crate::interval::Share;
use crate::{Error, batches};

/// Accuracy of every exit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// On clean images, per exit.
    pub clean: Vec<Share>,
    /// Under each attack, in the order given.
    pub attacks: Vec<AttackScores>,
    /// Everything spent.
    pub passes: Passes,
}

/// Accuracy of every exit under one attack.
#[derive(Clone, Debug, PartialEq)]
pub struct AttackScores {
    /// Per exit.
    pub exits: Vec<Share>,
    /// Worst of all batches.
    pub audit: Audit,
    /// Spent on this attack.
    pub passes: Passes,
}

/// Scores the first `images` of a set; `done` hears the number of images finished, one attack on one
/// image counting once, the clean pass not.
///
/// # Errors
/// [`Error::Attack`] or [`Error::Device`].
#[allow(clippy::too_many_arguments)]
pub fn score<M: MultiExit>(
    model: &Frozen<M>,
    set: &ImageSet,
    images: usize,
    batch_size: usize,
    attacks: &[Attack],
    threat: &Threat,
    key: u64,
    device: &Device,
    done: &mut dyn FnMut(usize),
) -> Result<Scores, Error> {
    let images = images.min(set.len());
    let exits = model.exits();
    let mut clean = vec![0; exits];
    let mut attacked: Vec<Tally> = attacks.iter().map(|_| Tally::new(exits)).collect();
    let mut passes = Passes::default();
    let indices: Vec<usize> = (0..images).collect();
    for chunk in indices.chunks(batch_size) {
        let data = batches::collect(set, chunk, device);
        add(&mut clean, &correct(&model.forward(data.batch.pixels.clone()), &data.batch.labels)?);
        passes += Passes::forward(chunk.len());
        for (attack, tally) in attacks.iter().zip(&mut attacked) {
            let outcome = neokd_attack::run(model, &data.batch, attack, threat, key)?;
            add(&mut tally.correct, &correct(&outcome.logits, &data.batch.labels)?);
            tally.audit =
                Some(tally.audit.map_or(outcome.adversarial.audit, |so_far| so_far.merge(outcome.adversarial.audit)));
            tally.passes += outcome.adversarial.passes;
            done(chunk.len());
        }
    }
    let shares = |counts: &[u64]| counts.iter().map(|&count| Share::new(count, images as u64)).collect();
    let attacks: Vec<AttackScores> = attacked
        .iter()
        .map(|tally| AttackScores {
            exits: shares(&tally.correct),
            audit: tally.audit.unwrap_or_default(),
            passes: tally.passes,
        })
        .collect();
    let passes = attacks.iter().fold(passes, |sum, attack| sum + attack.passes);
    Ok(Scores { clean: shares(&clean), attacks, passes })
}

struct Tally {
    correct: Vec<u64>,
    audit: Option<Audit>,
    passes: Passes,
}

impl Tally {
    fn new(exits: usize) -> Self {
        Self { correct: vec![0; exits], audit: None, passes: Passes::default() }
    }
}

/// Number of images that each exit answers correctly.
fn correct(logits: &ExitLogits, labels: &Tensor<1, Int>) -> Result<Vec<u64>, Error> {
    let counts = logits.correct(labels).sum_dim(1).into_data().convert::<i64>();
    let counts: Vec<i64> =
        counts.try_into_vec().map_err(|error| Error::Device(format!("cannot read back from the device: {error:?}")))?;
    Ok(counts.into_iter().map(|count| count as u64).collect())
}

fn add(sums: &mut [u64], counts: &[u64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}
