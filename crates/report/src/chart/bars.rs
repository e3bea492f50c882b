//! Bars side by side: how many images leave at each exit.

use super::scale::Axis;
use super::scale::Scale;
use super::svg::{Anchor, Svg, WIDTH, legend, shortened, width_of};

/// Groups of bars; the vertical axis is in per cent and begins at zero.
#[derive(Clone, Debug, PartialEq)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// What the groups are.
    pub x: String,
    /// What the bars measure, and in which unit.
    pub y: String,
    /// Name of each group.
    pub groups: Vec<String>,
    /// Name of each series, and its value in each group, in per cent.
    pub series: Vec<(String, Vec<f64>)>,
}

impl BarChart {
    /// The chart.
    pub fn svg(&self) -> String {
        const TOP: f64 = 52.0;
        const BOTTOM: f64 = 222.0;
        const RIGHT: f64 = WIDTH - 4.0;
        let mut svg = Svg::titled(&self.title);
        svg.text("unit", [0.0, 31.0], Anchor::Start, &self.y);
        let values = self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let scale = Scale::around(values.chain([0.0]), &Axis::percent(&self.y), 4);
        let left = scale.ticks().iter().map(|tick| width_of(&scale.label(*tick), 12.0)).fold(0.0, f64::max) + 10.0;
        let height = |value: f64| BOTTOM - (BOTTOM - TOP) * scale.place(value);
        for tick in scale.ticks() {
            svg.line("grid", [left, height(tick)], [RIGHT, height(tick)]);
            svg.text("tick", [left - 6.0, height(tick) + 4.0], Anchor::End, &scale.label(tick));
        }
        let group = (RIGHT - left) / self.groups.len().max(1) as f64;
        let bar = (group * 0.78 / self.series.len().max(1) as f64).min(46.0);
        for (index, name) in self.groups.iter().enumerate() {
            let middle = left + group * (index as f64 + 0.5);
            svg.text("tick", [middle, BOTTOM + 17.0], Anchor::Middle, name);
            let start = middle - bar * self.series.len() as f64 / 2.0;
            for (number, (series, values)) in self.series.iter().enumerate() {
                let value = values.get(index).copied().filter(|value| value.is_finite()).unwrap_or(0.0);
                let x = start + bar * number as f64;
                let class = format!("bar {}", look(number));
                let hint = format!("{series}, {} {name}: {value:.2} %", self.x);
                let size = [bar - 4.0, BOTTOM - height(value)];
                svg.rectangle(&class, [x + 2.0, height(value)], size, "", &hint);
                if bar >= 24.0 {
                    let label = format!("{value:.0}");
                    svg.text("tick", [x + bar / 2.0, height(value) - 5.0], Anchor::Middle, &label);
                }
            }
        }
        svg.line("axis", [left, BOTTOM], [RIGHT, BOTTOM]);
        svg.text("unit", [(left + RIGHT) / 2.0, BOTTOM + 35.0], Anchor::Middle, &self.x);
        let top = BOTTOM + 46.0;
        let names: Vec<String> = self.series.iter().map(|(name, _)| shortened(name, 48)).collect();
        let (places, below) = legend(&names, top);
        for ((number, name), [x, y]) in names.iter().enumerate().zip(places) {
            let class = format!("bar {}", look(number));
            svg.rectangle(&class, [x + 6.0, y - 10.0], [18.0, 10.0], "", name);
            svg.text("", [x + 34.0, y], Anchor::Start, name);
        }
        svg.finish(top + below, &format!("{}: {} by {}", self.title, self.y, self.x))
    }
}

/// Colour and fill of a series.
fn look(number: usize) -> String {
    format!("c{} f{}", number % 7, number % 4)
}

#[cfg(test)]
mod tests {
    use super::BarChart;

    #[test]
    fn a_bar_is_as_high_as_its_value() {
        let chart = BarChart {
            title: "t".to_string(),
            x: "exit".to_string(),
            y: "images in %".to_string(),
            groups: vec!["0".to_string(), "1".to_string()],
            series: vec![("clean".to_string(), vec![25.0, 100.0])],
        };
        let svg = chart.svg();
        assert!(svg.contains("height=\"170\"") && svg.contains("height=\"42.5\""), "{svg}");
    }
}
