//! What an exit's confidence is worth: whether it is right as often as it is sure.

use serde::{Deserialize, Serialize};

/// Bins of confidence, of equal width.
pub const BINS: usize = 15;

/// How well an exit is calibrated on some images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error over [`BINS`] bins, in `[0, 1]`: the mean over the images of the distance between
    /// accuracy and mean confidence in the image's bin (Guo et al. 2017, equation 3).
    pub error: f64,
    /// Mean confidence: the largest probability of an image.
    pub confidence: f64,
}

/// Counts what an exit says, bin by bin.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    images: [u64; BINS],
    right: [u64; BINS],
    confidence: [f64; BINS],
}

impl Reliability {
    /// Adds a batch: `[images * classes]` probabilities, and the images' labels.
    pub fn add(&mut self, probabilities: &[f32], labels: &[usize]) {
        let classes = probabilities.len() / labels.len().max(1);
        for (row, label) in probabilities.chunks(classes.max(1)).zip(labels) {
            let answer = (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            let confidence = f64::from(row[answer]);
            // Bin m holds the confidences in (m / BINS, (m + 1) / BINS].
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            self.images[bin] += 1;
            self.right[bin] += u64::from(answer == *label);
            self.confidence[bin] += confidence;
        }
    }

    /// Of everything added; zero without any image.
    pub fn finish(&self) -> Calibration {
        let n = self.images.iter().sum::<u64>().max(1) as f64;
        let gaps = self.right.iter().zip(&self.confidence).map(|(right, sure)| (*right as f64 - sure).abs());
        Calibration { error: gaps.sum::<f64>() / n, confidence: self.confidence.iter().sum::<f64>() / n }
    }
}

#[cfg(test)]
mod tests {
    use super::Reliability;

    #[test]
    fn the_error_is_the_gap_between_being_sure_and_being_right() {
        let mut exit = Reliability::default();
        assert_eq!(exit.finish().error, 0.0);
        // Three times sure by 0.9, right twice; once sure by 0.6, and right. In batches of any size.
        exit.add(&[0.9, 0.1, 0.1, 0.9], &[0, 0]);
        exit.add(&[0.9, 0.1, 0.4, 0.6], &[0, 1]);
        let found = exit.finish();
        assert!((found.error - (0.7 + 0.4) / 4.0).abs() < 1e-6, "{found:?}");
        assert!((found.confidence - 3.3 / 4.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn who_is_sure_and_right_is_calibrated() {
        let mut exit = Reliability::default();
        exit.add(&[1.0, 0.0, 0.0, 1.0], &[0, 1]);
        assert_eq!(exit.finish().error, 0.0);
    }
}
