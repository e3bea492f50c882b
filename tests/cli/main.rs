//! The command as its users meet it: what it prints, what it writes, and how it fails.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod attack;
mod cases;
mod command;
mod comparison;
mod deployment;
mod documents;
mod evaluation;
mod failures;
mod interruptions;
mod reports;
mod schema;
mod streaming;
mod usage;
