//! A part of an evaluation, on one of several machines.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of several parts: every `of`-th batch, from the one numbered `index`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// All parts of as many as this is one of.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (0..self.of).map(move |index| Self { index, ..self })
    }

    /// How many parts there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// Its first batch, counted from 0.
    pub fn first(self) -> usize {
        self.index
    }

    /// Whether a batch belongs to it.
    pub fn has(&self, batch: usize) -> bool {
        batch % self.of == self.index
    }
}

/// `I/N`, counted from 1.
impl std::fmt::Display for Shard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.index + 1, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { index: number - 1, of }),
            _ => Err(format!("shard {text:?} is not I/N with I from 1 to N, for example 2/4")),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_one_and_deal_every_batch_to_one_of_them() {
        for text in ["0/4", "5/4", "2", "a/b", "1/0", "-1/2", ""] {
            assert!(text.parse::<Shard>().unwrap_err().contains("I from 1 to N"), "{text}");
        }
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].iter().map(|text| text.parse().unwrap()).collect();
        for batch in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(batch)).count(), 1, "batch {batch}");
        }
        assert_eq!(shards[1].to_string(), "2/3");
    }
}
