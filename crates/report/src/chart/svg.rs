//! Writing SVG: escaped text, rounded coordinates, and how wide a text will probably be.

use std::fmt::Write as _;

/// Width of every chart in its own units; a phone shows it at about 0.8, a desktop at up to 1.2.
pub(super) const WIDTH: f64 = 440.0;

/// Text that means itself in HTML, SVG and attribute values; control characters, which XML forbids, go.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}

/// A picture under construction.
pub(super) struct Svg {
    body: String,
}

impl Svg {
    /// An empty picture, with the title that every chart carries.
    pub(super) fn titled(title: &str) -> Self {
        let mut svg = Self { body: String::new() };
        svg.text("title", [0.0, 14.0], Anchor::Start, title);
        svg
    }

    /// Adds markup that is SVG already.
    pub(super) fn raw(&mut self, markup: &str) {
        self.body.push_str(markup);
    }

    pub(super) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = (coordinate(x), coordinate(y));
        let _ = write!(self.body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>", escape(text));
    }

    pub(super) fn line(&mut self, class: &str, from: [f64; 2], to: [f64; 2]) {
        let [x1, y1, x2, y2] = [from[0], from[1], to[0], to[1]].map(coordinate);
        let _ = write!(self.body, "<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>");
    }

    /// A rectangle that says `hint` when it is pointed at.
    pub(super) fn rectangle(&mut self, class: &str, corner: [f64; 2], size: [f64; 2], style: &str, hint: &str) {
        let [x, y, width, height] = [corner[0], corner[1], size[0], size[1]].map(coordinate);
        let hint = escape(hint);
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{style}>\
             <title>{hint}</title></rect>"
        );
    }

    /// The finished picture; `name` is what a screen reader says.
    pub(super) fn finish(self, height: f64, name: &str) -> String {
        let (width, height, name) = (coordinate(WIDTH), coordinate(height), escape(name));
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\">{}</svg>",
            self.body
        )
    }
}

#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A coordinate in tenths, which is finer than any screen shows, without trailing zeros.
pub(super) fn coordinate(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    // Minus zero would be written as it is.
    format!("{}", if tenths == 0.0 { 0.0 } else { tenths })
}

/// Probable width of a text of the given size, in the same units; fonts differ, so a little generous.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

/// The text, or its beginning if it is longer than so many characters.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    match text.chars().count() > characters {
        true => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_string(),
    }
}

/// Where the entries of a legend go, line by line: `[x, y]` of each, and the height of all.
pub(super) fn legend(names: &[String], top: f64) -> (Vec<[f64; 2]>, f64) {
    const SYMBOL: f64 = 34.0;
    const GAP: f64 = 16.0;
    const LINE: f64 = 19.0;
    let (mut x, mut y) = (0.0, top + 12.0);
    let mut places = Vec::new();
    for name in names {
        let width = SYMBOL + width_of(name, 13.0);
        if x > 0.0 && x + width > WIDTH {
            (x, y) = (0.0, y + LINE);
        }
        places.push([x, y]);
        x += width + GAP;
    }
    (places, y + 8.0 - top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_means_itself() {
        assert_eq!(escape("<b a='1'>&\"\u{7}"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([1.0, -0.01, 2.349].map(coordinate), ["1", "0", "2.3"]);
    }

    #[test]
    fn a_long_legend_goes_on_below() {
        let names: Vec<String> = (0..6).map(|index| format!("a rather long name {index}")).collect();
        let (places, height) = legend(&names, 100.0);
        assert!(places.windows(2).all(|pair| pair[1][1] > pair[0][1] || pair[1][0] > pair[0][0]));
        assert!(places.iter().all(|place| place[0] < WIDTH) && height > 40.0);
    }
}
