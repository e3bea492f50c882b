//! Lines over an axis of numbers: curves of training, of budgets, of attack strength.

use std::fmt::Write as _;

use super::scale::{Axis, Scale, number};
use super::svg::{Anchor, Svg, WIDTH, coordinate, escape, legend, shortened, width_of};

/// Colours, dashes and marker shapes, each in its own cycle, so that no two of the first 84 series look alike.
const COLOURS: usize = 7;
const DASHES: usize = 4;
/// Outlines of the markers, around the origin.
const MARKERS: [&str; 6] = [
    "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
    "m-3.3-3.3h6.6v6.6h-6.6z",
    "m0-4.2l4.2 7.2h-8.4z",
    "m0-4.8l4.8 4.8l-4.8 4.8l-4.8-4.8z",
    "m0 4.2l4.2-7.2h-8.4z",
    "m-1.3-4.2h2.6v2.9h2.9v2.6h-2.9v2.9h-2.6v-2.9h-2.9v-2.6h2.9z",
];
/// More points than this get a marker only here and there.
const CROWDED: usize = 24;

/// A place on a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// Ends of its interval on the vertical axis, drawn as a whisker.
    pub interval: Option<[f64; 2]>,
}

/// Points that belong together; the line joins them in the order given.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
    /// Which colour, dash and marker; what appears on several charts keeps its own.
    pub look: usize,
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// Where values go on the paper.
struct Frame {
    x: Scale,
    y: Scale,
    left: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    const RIGHT: f64 = WIDTH - 12.0;

    fn of(chart: &LineChart) -> Self {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let with_intervals = points().flat_map(|point| {
            let [low, high] = point.interval.unwrap_or([point.y; 2]);
            [low, point.y, high]
        });
        let x = Scale::around(points().map(|point| point.x), &chart.x, 5);
        let y = Scale::around(with_intervals, &chart.y, 5);
        let widest = y.ticks().iter().map(|tick| width_of(&y.label(*tick), 12.0)).fold(0.0, f64::max);
        Self { x, y, left: widest + 10.0, top: 48.0, bottom: 246.0 }
    }

    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let width = Self::RIGHT - self.left;
        [self.left + width * self.x.place(x), self.bottom - (self.bottom - self.top) * self.y.place(y)]
    }

    fn draw(&self, chart: &LineChart, svg: &mut Svg) {
        svg.text("unit", [0.0, 31.0], Anchor::Start, &chart.y.label);
        for tick in self.y.ticks() {
            let [_, y] = self.place(self.x.low, tick);
            svg.line("grid", [self.left, y], [Self::RIGHT, y]);
            svg.text("tick", [self.left - 6.0, y + 4.0], Anchor::End, &self.y.label(tick));
        }
        for tick in self.x.ticks() {
            let [x, _] = self.place(tick, self.y.low);
            svg.line("axis", [x, self.bottom], [x, self.bottom + 4.0]);
            svg.text("tick", [x, self.bottom + 17.0], Anchor::Middle, &self.x.label(tick));
        }
        svg.line("axis", [self.left, self.bottom], [Self::RIGHT, self.bottom]);
        svg.text("unit", [(self.left + Self::RIGHT) / 2.0, self.bottom + 35.0], Anchor::Middle, &chart.x.label);
    }
}

impl LineChart {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// The chart.
    pub fn svg(&self) -> String {
        let mut svg = Svg::titled(&self.title);
        let frame = Frame::of(self);
        frame.draw(self, &mut svg);
        for series in &self.series {
            svg.raw(&draw_series(series, &frame));
        }
        let top = frame.bottom + 46.0;
        let names: Vec<String> = self.series.iter().map(|series| shortened(&series.name, 48)).collect();
        let (places, height) = legend(&names, top);
        for ((series, name), [x, y]) in self.series.iter().zip(&names).zip(places) {
            svg.raw(&sample(series.look, [x, y - 4.0]));
            svg.text("", [x + 34.0, y], Anchor::Start, name);
        }
        svg.finish(top + height, &format!("{}: {} against {}", self.title, self.y.label, self.x.label))
    }
}

fn classes(look: usize) -> (String, String) {
    (format!("c{}", look % COLOURS), format!("d{}", look % DASHES))
}

/// A piece of a series' line with its marker, for the legend.
fn sample(look: usize, [x, y]: [f64; 2]) -> String {
    let (colour, dash) = classes(look);
    let ([x1, x2, middle], y) = ([x, x + 26.0, x + 13.0].map(coordinate), coordinate(y));
    let marker = MARKERS[look % MARKERS.len()];
    format!(
        "<g class=\"{colour}\"><path class=\"line {dash}\" d=\"M{x1} {y}H{x2}\"/>\
         <path class=\"mark\" d=\"M{middle} {y}{marker}\"/></g>"
    )
}

fn draw_series(series: &Series, frame: &Frame) -> String {
    let (colour, dash) = classes(series.look);
    let points: Vec<&Point> = series.points.iter().filter(|point| point.x.is_finite() && point.y.is_finite()).collect();
    let (mut line, mut whiskers, mut markers) = (String::new(), String::new(), String::new());
    let every = if points.len() > CROWDED { points.len() / 8 } else { 1 };
    for (number, point) in points.iter().enumerate() {
        let [x, y] = frame.place(point.x, point.y).map(coordinate);
        let _ = write!(line, "{}{x} {y}", if number == 0 { 'M' } else { 'L' });
        if let Some([low, high]) = point.interval {
            let [[_, low], [_, high]] = [low, high].map(|end| frame.place(point.x, end).map(coordinate));
            let _ = write!(whiskers, "M{x} {low}V{high}");
        }
        if number % every == every / 2 {
            let marker = MARKERS[series.look % MARKERS.len()];
            let hint = escape(&describe(series, point));
            let _ = write!(markers, "<path class=\"mark\" d=\"M{x} {y}{marker}\"><title>{hint}</title></path>");
        }
    }
    let whiskers = match whiskers.is_empty() {
        true => whiskers,
        false => format!("<path class=\"whisker\" d=\"{whiskers}\"/>"),
    };
    format!("<g class=\"{colour}\">{whiskers}<path class=\"line {dash}\" d=\"{line}\"/>{markers}</g>")
}

fn describe(series: &Series, point: &Point) -> String {
    let interval =
        point.interval.map(|[low, high]| format!(" [{}, {}]", number(low), number(high))).unwrap_or_default();
    format!("{}: {}{interval} at {}", series.name, number(point.y), number(point.x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>) -> LineChart {
        LineChart {
            title: "a < b".to_string(),
            x: Axis::positive("step"),
            y: Axis::percent("accuracy in %"),
            series: vec![Series { name: "x & y".to_string(), points, look: 0 }],
        }
    }

    #[test]
    fn every_point_is_where_its_numbers_say() {
        let at = |x, y| Point { x, y, interval: None };
        let chart = chart(vec![at(0.0, 0.0), at(10.0, 100.0)]);
        let frame = Frame::of(&chart);
        let [left, bottom] = [frame.left, frame.bottom].map(coordinate);
        let [right, top] = [Frame::RIGHT, frame.top].map(coordinate);
        assert!(chart.svg().contains(&format!("d=\"M{left} {bottom}L{right} {top}\"")), "{}", chart.svg());
    }

    #[test]
    fn names_are_escaped_and_nothing_is_not_a_number() {
        let strange = [f64::NAN, f64::INFINITY, 5.0].map(|y| Point { x: 1.0, y, interval: Some([y, y]) });
        for points in [Vec::new(), strange.to_vec()] {
            let svg = chart(points).svg();
            assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
