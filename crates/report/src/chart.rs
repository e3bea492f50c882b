//! Charts as SVG. They know numbers and names, not runs; all text is escaped here.
//!
//! Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers; dashes, marker
//! shapes and fills tell the same series apart without any colour. Colours are CSS variables, so a chart
//! follows the page, or the reader's system, from light to dark.

mod bars;
mod heat;
mod lines;
mod scale;
mod svg;

pub use bars::BarChart;
pub use heat::HeatMap;
pub use lines::{LineChart, Point, Series};
pub use scale::{Axis, number};
pub use svg::escape;

/// What makes a chart look as it does; a page that holds charts includes it once.
pub const CSS: &str = include_str!("chart/chart.css");

/// A chart as a file of its own: with its colours, a background and a margin.
pub fn standalone(svg: &str) -> String {
    const MARGIN: f64 = 14.0;
    let size = |(head, body): (&str, &str)| {
        let (_, rest) = head.split_once("viewBox=\"0 0 ")?;
        let (size, rest) = rest.split_once('"')?;
        let (width, height) = size.split_once(' ')?;
        let [width, height] = [width, height].map(|side| side.parse::<f64>().map(|side| side + 2.0 * MARGIN).ok());
        Some((width?, height?, format!("{rest}>"), body.to_string()))
    };
    let Some((width, height, rest, body)) = svg.split_once('>').and_then(size) else {
        return svg.to_string();
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"-{MARGIN} -{MARGIN} {width} {height}\"{rest}<style>{CSS}</style>\
         <rect class=\"paper\" x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\"/>{body}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_margin_and_its_own_colours() {
        let map = HeatMap { title: "t".into(), rows: "r".into(), columns: "c".into(), values: vec![vec![1.0]] };
        let file = standalone(&map.svg());
        assert!(file.contains("viewBox=\"-14 -14 468 ") && file.contains("--c0:"), "{file}");
        assert_eq!(file.matches("viewBox").count(), 1);
    }
}
