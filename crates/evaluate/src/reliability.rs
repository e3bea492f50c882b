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

impl Calibration {
    /// Of an exit's confidence in its answer to each image, and whether the answer is right; zero without any image.
    pub fn of(confidence: &[f32], right: &[bool]) -> Self {
        let (mut correct, mut sure) = ([0_u64; BINS], [0.0; BINS]);
        for (confidence, right) in confidence.iter().zip(right) {
            let confidence = f64::from(*confidence);
            // Bin m holds the confidences in (m / BINS, (m + 1) / BINS].
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            correct[bin] += u64::from(*right);
            sure[bin] += confidence;
        }
        let n = confidence.len().max(1) as f64;
        let gaps = correct.iter().zip(&sure).map(|(right, sure)| (*right as f64 - sure).abs());
        Self { error: gaps.sum::<f64>() / n, confidence: sure.iter().sum::<f64>() / n }
    }
}

#[cfg(test)]
mod tests {
    use super::Calibration;

    #[test]
    fn the_error_is_the_gap_between_being_sure_and_being_right() {
        assert_eq!(Calibration::of(&[], &[]).error, 0.0);
        // Three times sure by 0.9, right twice; once sure by 0.6, and right.
        let found = Calibration::of(&[0.9, 0.9, 0.9, 0.6], &[true, false, true, true]);
        assert!((found.error - (0.7 + 0.4) / 4.0).abs() < 1e-6, "{found:?}");
        assert!((found.confidence - 3.3 / 4.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn who_is_sure_and_right_is_calibrated() {
        assert_eq!(Calibration::of(&[1.0, 1.0], &[true, true]).error, 0.0);
    }
}
