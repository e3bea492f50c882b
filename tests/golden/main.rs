//! Values from independent implementations: every case below `$NEOKD_GOLDEN` (default: this folder).
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod accuracies;
mod cases;
mod losses;
mod networks;
mod values;
