//! What came out and how it was made: one JSON for a run, and the tables, charts and pages made of it.
//!
//! ```text
//! report       the JSON, written and read by the same types
//! run          a run directory gathered         history      its metrics     gather   runs in folders
//! comparison, compare   runs side by side, methods over seeds
//! figures, chart        which charts there are, and how numbers become SVG
//! html, markdown, csv, tensorboard, card, listing, table   the ways out
//! ```
//!
//! **Invariant:** draws and computes no tensor. A page asks for no network, and all text on it is escaped.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod card;
pub mod chart;
pub mod compare;
pub mod comparison;
pub mod csv;
pub mod figures;
pub mod gather;
pub mod history;
pub mod html;
pub mod listing;
pub mod markdown;
pub mod report;
pub mod run;
mod table;
pub mod tensorboard;

pub use table::render;
