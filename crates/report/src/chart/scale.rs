//! From values to places on an axis: a range that ends at round numbers, and the numbers themselves.

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What, and in which unit.
    pub label: String,
    /// Values that it never shows anything beyond.
    pub limits: [f64; 2],
    /// It shows at least so much, so that chance does not look like a trend.
    pub least: f64,
}

impl Axis {
    /// An axis of percentages.
    pub fn percent(label: &str) -> Self {
        Self { label: label.to_string(), limits: [0.0, 100.0], least: 10.0 }
    }

    /// An axis that begins at zero or above.
    pub fn positive(label: &str) -> Self {
        Self { label: label.to_string(), limits: [0.0, f64::INFINITY], least: 0.0 }
    }
}

/// An axis from `low` to `high`, with a line every `step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Scale {
    /// The smallest range between round numbers that holds all values and is as long as the axis asks for, never
    /// leaving its limits; about `lines` steps.
    pub(super) fn around(values: impl Iterator<Item = f64>, axis: &Axis, lines: usize) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let limits = axis.limits;
        // A flat line gets some room on any axis.
        let flat = if high - low < 1e-9 * high.abs().max(1e-9) { high.abs().max(1.0) * 0.1 } else { 0.0 };
        let room = (axis.least - (high - low)).max(flat) / 2.0;
        let (low, high) = if room > 0.0 { (low - room, high + room) } else { (low, high) };
        let (low, high) = (low.max(limits[0]), high.min(limits[1]));
        let step = round_step((high - low).max(1e-12) / lines as f64);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self { low: low.max(limits[0]), high: high.min(limits[1]), step }
    }

    /// Where a value lies, from 0 at the low end to 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low).max(1e-12)).clamp(0.0, 1.0)
    }

    /// The round numbers of the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last.min(first + 50)).map(|count| count as f64 * self.step).collect()
    }

    /// A tick as it is written on this axis.
    pub(super) fn label(&self, tick: f64) -> String {
        if self.high.abs().max(self.low.abs()) >= 1e6 {
            return number(tick);
        }
        let decimals = (0..6).find(|&decimals| {
            let scaled = self.step * 10f64.powi(decimals);
            (scaled - scaled.round()).abs() < 1e-6
        });
        let decimals = decimals.unwrap_or(6) as usize;
        let label = format!("{tick:.decimals$}");
        if label.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_string() } else { label }
    }
}

/// The nearest of 1, 2, 2.5, 5 and 10 times a power of ten that is not smaller.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    round.unwrap_or(10.0) * power
}

/// A number with at most four significant digits; thousands and more as `12k`, `3.4M`, `5.6G`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e4, "k")] {
        if size >= unit {
            let unit = if name == "k" { 1e3 } else { unit };
            return format!("{}{name}", trimmed(value / unit, 2));
        }
    }
    let decimals =
        if size >= 100.0 || size == 0.0 { 1 } else { (3 - size.log10().floor() as i32).clamp(0, 8) as usize };
    trimmed(value, decimals)
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_round_numbers_and_within_its_limits() {
        let scale = Scale::around([46.4, 97.8].into_iter(), &Axis::percent(""), 5);
        assert_eq!((scale.low, scale.high), (40.0, 100.0));
        assert_eq!(scale.ticks(), [40.0, 60.0, 80.0, 100.0]);
        assert_eq!(scale.label(60.0), "60");
        let fine = Scale::around([0.0, 8.0 / 255.0].into_iter(), &Axis::positive(""), 4);
        assert_eq!(fine.ticks().iter().map(|tick| fine.label(*tick)).collect::<Vec<_>>()[..2], ["0", "0.01"]);
    }

    #[test]
    fn no_value_and_one_value_make_an_axis_too() {
        for values in [vec![], vec![f64::NAN], vec![0.0], vec![100.0, 100.0]] {
            for axis in [Axis::percent(""), Axis::positive("")] {
                let scale = Scale::around(values.clone().into_iter(), &axis, 5);
                assert!(scale.high > scale.low && scale.ticks().len() > 1, "{values:?}: {scale:?}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.03137, 12.5, 560.0, 12_500.0, 8_603_476.0, 2.5e9];
        assert_eq!(numbers.map(number), ["0", "0.03137", "12.5", "560", "12.5k", "8.6M", "2.5G"]);
    }
}
