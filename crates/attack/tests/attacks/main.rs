//! Attacks on networks whose worst case is known, or whose gradient is masked.
#![allow(clippy::unwrap_used)]

mod masking;
mod metamorphic;
mod networks;
mod planted;
mod policies;
