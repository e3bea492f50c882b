//! A matrix as shades with numbers.

use super::svg::{Anchor, Svg, WIDTH};

/// A matrix of shares.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// What it shows.
    pub title: String,
    /// What the rows are.
    pub rows: String,
    /// What the columns are.
    pub columns: String,
    /// The numbers, row by row, in per cent.
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// The chart.
    pub fn svg(&self) -> String {
        const LEFT: f64 = 28.0;
        const TOP: f64 = 66.0;
        let mut svg = Svg::titled(&self.title);
        let columns = self.values.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let cell = ((WIDTH - LEFT) / columns as f64).min(72.0);
        let tall = cell.min(40.0);
        svg.text("unit", [0.0, 31.0], Anchor::Start, &format!("down: {}; across: {}", self.rows, self.columns));
        for column in 0..columns {
            let middle = LEFT + cell * (column as f64 + 0.5);
            svg.text("tick", [middle, TOP - 8.0], Anchor::Middle, &column.to_string());
        }
        for (row, values) in self.values.iter().enumerate() {
            let y = TOP + tall * row as f64;
            svg.text("tick", [LEFT - 10.0, y + tall / 2.0 + 4.0], Anchor::End, &row.to_string());
            for (column, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let x = LEFT + cell * column as f64;
                let shade = (value / 100.0).clamp(0.0, 1.0);
                let style = format!(" fill-opacity=\"{:.2}\"", 0.05 + 0.95 * shade);
                let hint = format!("{} {row}, {} {column}: {value:.2} %", self.rows, self.columns);
                svg.rectangle("cell", [x, y], [cell, tall], &style, &hint);
                let class = if shade > 0.62 { "over" } else { "" };
                let digits = if cell < 34.0 { 0 } else { 1 };
                let middle = [x + cell / 2.0, y + tall / 2.0 + 4.0];
                svg.text(class, middle, Anchor::Middle, &format!("{value:.digits$}"));
            }
        }
        svg.finish(TOP + tall * self.values.len() as f64 + 6.0, &self.title)
    }
}

#[cfg(test)]
mod tests {
    use super::HeatMap;

    #[test]
    fn every_number_is_written_and_what_is_none_is_left_out() {
        let map = HeatMap {
            title: "t".to_string(),
            rows: "attacked exit".to_string(),
            columns: "answering exit".to_string(),
            values: vec![vec![12.5, 99.0], vec![f64::NAN, 3.0]],
        };
        let svg = map.svg();
        assert!(["12.5", "99.0", "3.0"].iter().all(|number| svg.contains(number)) && !svg.contains("NaN"));
        assert_eq!(svg.matches("class=\"cell\"").count(), 3);
    }
}
