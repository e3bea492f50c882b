//! Numbers that the field writes as fractions: `8/255` in TOML and on the command line.

use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads `0.3`, `8` or `8/255`.
///
/// # Errors
/// A sentence that names the text.
pub fn parse(text: &str) -> Result<f64, String> {
    let number = |part: &str| {
        part.trim().parse::<f64>().map_err(|_| format!("{text:?} is neither a number nor a fraction like 8/255"))
    };
    match text.split_once('/') {
        None => number(text),
        Some((top, bottom)) => match number(bottom)? {
            0.0 => Err(format!("{text:?} divides by zero")),
            bottom => Ok(number(top)? / bottom),
        },
    }
}

/// Serde `with`: writes a plain number.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*value)
}

/// Serde `with`: reads a number or a fraction in a string.
///
/// # Errors
/// Those of the deserializer, and a string that [`parse`] refuses.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or a fraction such as \"8/255\"")]
    enum Either {
        Number(f64),
        Whole(i64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(value) => Ok(value),
        Either::Whole(value) => Ok(value as f64),
        Either::Text(text) => parse(&text).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn fractions_and_numbers_are_read_and_nonsense_is_named() {
        assert_eq!(parse("8/255"), Ok(8.0 / 255.0));
        assert_eq!(parse(" 0.3 "), Ok(0.3));
        assert!(parse("8/0").unwrap_err().contains("8/0"));
        assert!(parse("eight").unwrap_err().contains("eight"));
    }
}
