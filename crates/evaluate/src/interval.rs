//! How sure an accuracy is.

use serde::{Deserialize, Serialize};

/// A share of images, with its 95 % interval (Wilson 1927), all in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Images that count.
    pub count: u64,
    /// Images looked at.
    pub n: u64,
    /// `count / n`.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// `count` of `n` images; zero of zero is 0 with the interval `[0, 1]`.
    pub fn new(count: u64, n: u64) -> Self {
        if n == 0 {
            return Self { count, n, value: 0.0, low: 0.0, high: 1.0 };
        }
        // The normal quantile of a two-sided 95 % interval.
        let (z, size) = (1.959_963_984_540_054_f64, n as f64);
        let value = count as f64 / size;
        let spread = 1.0 + z * z / size;
        let centre = (value + z * z / (2.0 * size)) / spread;
        let half = z * (value * (1.0 - value) / size + z * z / (4.0 * size * size)).sqrt() / spread;
        Self { count, n, value, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }

    /// In per cent, with the interval: `97.4 [97.1, 97.7]`.
    pub fn with_interval(&self) -> String {
        format!("{:.2} [{:.2}, {:.2}]", 100.0 * self.value, 100.0 * self.low, 100.0 * self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn the_interval_is_wilsons() {
        // 81 of 263: 0.2553 to 0.3662, Newcombe 1998, table I.
        let share = Share::new(81, 263);
        assert!((share.low - 0.2553).abs() < 5e-5 && (share.high - 0.3662).abs() < 5e-5, "{share:?}");
        let none = Share::new(0, 20);
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 5e-5, "{none:?}");
    }
}
