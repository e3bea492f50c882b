//! How many training images are held out for validation.

use serde::Serialize;

/// Images of each class that the committed tables hold out.
pub const PER_CLASS: HeldOut = HeldOut::PerClass(500);

/// The share of each class that is held out where nothing else is laid down.
pub const TENTH: HeldOut = HeldOut::Percent(10);

/// How many images of each class are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeldOut {
    /// So many of every class.
    PerClass(u32),
    /// So many in a hundred of each class, rounded down, but at least one.
    Percent(u32),
}

impl HeldOut {
    pub(crate) fn count(self, members: usize) -> usize {
        match self {
            Self::PerClass(count) => count as usize,
            Self::Percent(percent) => (members as u128 * u128::from(percent) / 100).max(1) as usize,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().map(Self::Percent),
            None => text.parse().ok().map(Self::PerClass),
        }
    }
}

impl std::fmt::Display for HeldOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PerClass(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Where a known dataset's table comes from.
#[derive(Debug)]
pub(crate) enum SplitRule {
    /// File name and content of a committed table.
    Committed(&'static str, &'static str),
    /// Drawn from the labels with [`SEED`](crate::split::SEED).
    Drawn(HeldOut),
}
