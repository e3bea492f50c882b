//! Example images, inline: clean, what the attack added, attacked, and every exit's answer.

use std::fmt::Write as _;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use neokd_evaluate::examples::Examples;
use neokd_model::weights::HostTensor;

use crate::chart::escape;
use crate::report::pixel_units;

/// Images that are shown of a file that holds more.
const SHOWN: usize = 12;

/// The section with all images.
pub(super) fn section(examples: &Examples) -> String {
    let largest = examples.images.values.iter().zip(&examples.adversarial.values);
    let largest = largest.map(|(clean, attacked)| (attacked - clean).abs()).filter(|size| size.is_finite());
    // So that the largest change just reaches black or white.
    let gain = 0.5 / largest.fold(0.0_f32, f32::max).max(1e-3);
    let about = examples.about.as_ref().map_or(String::new(), |about| {
        let (norm, epsilon) = (format!("{:?}", about.norm).to_lowercase(), pixel_units(about.epsilon));
        format!(" The attack is {} with {norm} {epsilon}, the strongest of its evaluation.", about.objective)
    });
    let shown = examples.len().min(SHOWN);
    let cards: String = (0..shown).map(|image| card(examples, image, gain)).collect();
    format!(
        "<h2>Example images</h2>\n<p class=\"caption\">The first {shown} test images, not chosen.{} The difference is \
         magnified {gain:.1} times around grey. Answers are class numbers.</p>\n<div class=\"examples\">\n{cards}</div>\n",
        escape(&about)
    )
}

fn card(examples: &Examples, image: usize, gain: f32) -> String {
    let clean = pixels(&examples.images, image);
    let attacked = pixels(&examples.adversarial, image);
    let difference: Vec<f32> =
        clean.iter().zip(attacked).map(|(clean, attacked)| 0.5 + gain * (attacked - clean)).collect();
    let shape = &examples.images.shape;
    let picture = |name: &str, pixels: &[f32]| {
        let source = data_uri(pixels, [shape[1], shape[2], shape[3]]).unwrap_or_default();
        format!("<div><img alt=\"image {image}, {name}\" src=\"{source}\">{name}</div>")
    };
    let pictures =
        [picture("clean", clean), picture("difference", &difference), picture("attacked", attacked)].concat();
    let exits = examples.logits_clean.len();
    let head: String = (0..exits).map(|exit| format!("<th>exit {exit}</th>")).collect();
    let mut rows = String::new();
    for (name, logits) in [("clean", &examples.logits_clean), ("attacked", &examples.logits_adversarial)] {
        let cells: String = logits.iter().map(|logits| answer(examples, logits, image)).collect();
        let _ = write!(rows, "<tr><td>{name}</td>{cells}</tr>");
    }
    format!(
        "<div class=\"example\"><h3>image {image}, class {}</h3><div class=\"pictures\">{pictures}</div>\
         <div class=\"scroll\"><table><tr><th></th>{head}</tr>{rows}</table></div></div>\n",
        examples.labels[image]
    )
}

fn answer(examples: &Examples, logits: &HostTensor, image: usize) -> String {
    let (label, right) = examples.answer(logits, image);
    let (class, mark) = if right { ("right", '✓') } else { ("wrong", '✗') };
    format!("<td class=\"{class}\">{label} {mark}</td>")
}

fn pixels(tensor: &HostTensor, image: usize) -> &[f32] {
    let size: usize = tensor.shape[1..].iter().product();
    &tensor.values[image * size..(image + 1) * size]
}

/// A PNG of `[channels, height, width]` values in `[0, 1]`, as a URI that holds it.
fn data_uri(pixels: &[f32], [channels, height, width]: [usize; 3]) -> Option<String> {
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let plane = height * width;
    let byte = |place: usize| {
        let value = pixels[place % channels * plane + place / channels];
        // Not a number becomes black: `as` makes it zero.
        (value.clamp(0.0, 1.0) * 255.0).round() as u8
    };
    let interleaved: Vec<u8> = (0..channels * plane).map(byte).collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&interleaved, width as u32, height as u32, colour).ok()?;
    Some(format!("data:image/png;base64,{}", base64(&png)))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn planes_become_pixels() {
        // One red and one blue pixel, plane by plane.
        let uri = data_uri(&[1.0, 0.0, 0.0, 0.0, f32::NAN, 1.0], [3, 1, 2]).unwrap();
        let coded = uri.strip_prefix("data:image/png;base64,").unwrap();
        let bytes: Vec<u8> = decode(coded);
        let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(picture.into_raw(), [255, 0, 0, 0, 0, 255]);
    }

    fn decode(text: &str) -> Vec<u8> {
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bits: Vec<usize> = text.chars().filter_map(|letter| letters.find(letter)).collect();
        let bytes = bits.chunks(4).flat_map(|chunk| {
            let word = chunk.iter().fold(0, |word, value| word << 6 | value) << (6 * (4 - chunk.len()));
            (0..chunk.len() - 1).map(move |place| (word >> (16 - 8 * place) & 255) as u8)
        });
        bytes.collect()
    }
}
