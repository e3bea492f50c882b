//! Yes or no, image by image, in a line of text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::interval::Share;

/// One truth value per image; as text a row of 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(pub Vec<bool>);

impl Bits {
    /// How many are true.
    pub fn count(&self) -> u64 {
        self.0.iter().filter(|bit| **bit).count() as u64
    }

    /// How many of them are true, as a share with its interval.
    pub fn share(&self) -> Share {
        Share::new(self.count(), self.0.len() as u64)
    }

    /// True where either is.
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| *one || *other).collect())
    }

    /// True only where both are.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| *one && *other).collect())
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|bit| if *bit { '1' } else { '0' }).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bit = |character| match character {
            '0' => Ok(false),
            '1' => Ok(true),
            other => Err(de::Error::custom(format!("{other:?} is neither 0 nor 1"))),
        };
        String::deserialize(deserializer)?.chars().map(bit).collect::<Result<_, _>>().map(Self)
    }
}

/// Numbers as the hexadecimal digits of their bits, which come back as they were.
pub(crate) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = values.iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(8).map(|digits| {
            let digits = std::str::from_utf8(digits).map_err(de::Error::custom)?;
            u32::from_str_radix(digits, 16).map(f32::from_bits).map_err(de::Error::custom)
        });
        digits.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Bits, hexadecimal};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        right: Bits,
        #[serde(with = "hexadecimal")]
        pixels: Vec<f32>,
    }

    #[test]
    fn what_is_written_comes_back_bit_for_bit() {
        let pixels = vec![0.1, -0.0, f32::MIN_POSITIVE, 1.0 / 3.0, f32::MAX];
        let line = Line { right: Bits(vec![true, false, false]), pixels };
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.contains("\"100\""), "{text}");
        let read: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(read, line);
        assert!(read.pixels[1].is_sign_negative());
        assert!(serde_json::from_str::<Line>(&text.replace("\"100\"", "\"120\"")).is_err());
    }
}
