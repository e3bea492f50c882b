//! Properties of networks, attacks and losses on small random cases.
#![allow(clippy::unwrap_used, clippy::print_stderr)]
