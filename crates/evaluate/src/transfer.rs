//! How attacks on one exit carry over to the others (neo-kd.md section 4.3).

use burn::tensor::{Int, Tensor};
use neokd_model::ExitLogits;

use crate::Error;
use crate::interval::Share;

/// Counts, among images that all exits classify correctly, those that an attack makes each exit
/// misclassify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fooled {
    counts: Vec<u64>,
    agreed: u64,
}

impl Fooled {
    pub(crate) fn new(exits: usize) -> Self {
        Self { counts: vec![0; exits], agreed: 0 }
    }

    /// Adds a batch.
    ///
    /// # Shapes
    /// - `clean`: `[exits, batch]`, 1 where an exit is right about the clean image
    ///
    /// # Errors
    /// [`Error::Device`] if the counts cannot be read.
    pub(crate) fn add(
        &mut self,
        clean: &Tensor<2, Int>,
        attacked: &ExitLogits,
        labels: &Tensor<1, Int>,
    ) -> Result<(), Error> {
        let agreed = clean.clone().min_dim(0);
        let wrong = attacked.correct(labels).neg().add_scalar(1) * agreed.clone().expand(clean.dims());
        let counts = Tensor::cat(vec![wrong.sum_dim(1), agreed.sum_dim(1)], 0).into_data().convert::<i64>();
        let counts: Vec<i64> = counts.try_into_vec().map_err(|error| Error::unreadable(&error))?;
        for (sum, count) in self.counts.iter_mut().zip(&counts) {
            *sum += *count as u64;
        }
        self.agreed += counts.last().map_or(0, |count| *count as u64);
        Ok(())
    }

    /// Success of the attack at each exit.
    pub(crate) fn shares(&self) -> Vec<Share> {
        self.counts.iter().map(|&count| Share::new(count, self.agreed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn only_images_that_every_exit_knew_count() {
        let device = Device::flex();
        let labels = Tensor::<1, Int>::from_ints([0, 0, 1], &device);
        // The second exit did not know the second image.
        let clean = Tensor::<2, Int>::from_ints([[1, 1, 1], [1, 0, 1]], &device);
        let first = Tensor::<2>::from_floats([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], &device);
        let second = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], &device);
        let mut fooled = Fooled::new(2);
        fooled.add(&clean, &ExitLogits::all(vec![first, second]), &labels).unwrap();
        let found: Vec<(u64, u64)> = fooled.shares().iter().map(|share| (share.count, share.n)).collect();
        assert_eq!(found, [(1, 2), (1, 2)]);
    }
}
