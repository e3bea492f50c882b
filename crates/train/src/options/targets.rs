//! What a network is to answer where that is not simply the label: smoothed labels, mixed images.

use burn::tensor::{Device, Tensor, TensorData};

/// Target distributions of a batch on the host, one row of `classes` numbers per image.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    classes: usize,
    rows: Vec<f32>,
}

impl Targets {
    /// All on the label.
    pub fn one_hot(labels: &[usize], classes: usize) -> Self {
        let mut rows = vec![0.0; labels.len() * classes];
        for (row, label) in rows.chunks_mut(classes).zip(labels) {
            row[*label] = 1.0;
        }
        Self { classes, rows }
    }

    /// `(1 - share) * own + share * other`.
    pub fn mixed(mut self, other: &Self, share: f32) -> Self {
        for (own, other) in self.rows.iter_mut().zip(&other.rows) {
            *own = (1.0 - share) * *own + share * other;
        }
        self
    }

    /// Label smoothing (Szegedy et al. 2016): `(1 - epsilon) * target + epsilon / classes`.
    pub fn smoothed(mut self, epsilon: f64) -> Self {
        let (kept, spread) = ((1.0 - epsilon) as f32, (epsilon / self.classes as f64) as f32);
        self.rows.iter_mut().for_each(|value| *value = kept * *value + spread);
        self
    }

    /// The rows on a device.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    pub fn to_device(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.rows.clone(), [self.rows.len() / self.classes, self.classes]);
        Tensor::from_data(data, &device.clone().without_autodiff())
    }
}

#[cfg(test)]
mod tests {
    use super::Targets;

    #[test]
    fn mixing_and_smoothing_keep_rows_that_sum_to_one() {
        let mixed = Targets::one_hot(&[0, 2], 4).mixed(&Targets::one_hot(&[1, 2], 4), 0.25);
        assert_eq!(mixed.rows, [0.75, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let smoothed = mixed.smoothed(0.2);
        let expected = [0.65, 0.25, 0.05, 0.05, 0.05, 0.05, 0.85, 0.05];
        assert!(smoothed.rows.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
    }
}
