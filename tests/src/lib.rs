//! Tests across the crates of neokd; see the folders beside this one. Nothing to link here.
