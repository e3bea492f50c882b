//! The rim of neokd.
