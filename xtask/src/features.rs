//! Type-checking the binary with each backend that the default build leaves out.

use std::env;
use std::path::{Path, PathBuf};

use crate::process;

/// Every backend feature of neokd beside the default one, quickest to check first.
pub(crate) const ALL: [&str; 4] = ["ndarray", "wgpu", "vulkan", "cuda"];

/// The features with these names, or all of them if there is no name.
///
/// # Errors
/// A message for the user if a name is not that of a backend feature.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static str>, String> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let known = |name: &String| {
        let found = ALL.into_iter().find(|feature| feature == name);
        found.ok_or_else(|| format!("no feature `{name}`; there are {}", ALL.join(", ")))
    };
    names.iter().map(known).collect()
}

/// Checks the features in order, up to the first failure; returns its exit code.
pub(crate) fn run(root: &Path, names: &[&str]) -> anyhow::Result<u8> {
    for name in names {
        let code = check(root, name)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Checks one feature in a build folder of its own, so that the release build stays as it is.
pub(crate) fn check(root: &Path, name: &str) -> anyhow::Result<u8> {
    let mut cargo = process::cargo(root);
    cargo
        .args(["check", "--package", "neokd"])
        .args(["--no-default-features", "--features"])
        .arg(format!("flex,{name}"))
        .arg("--target-dir")
        .arg(target_dir(root));
    if name == "cuda" {
        // tracel-llvm-bundler would fetch LLVM; a type-check does not link, and this switch skips it.
        cargo.env("DOCS_RS", "1");
    }
    process::timed(&format!("feature {name}"), &mut cargo)
}

fn target_dir(root: &Path) -> PathBuf {
    let base = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root.join(base).join("features")
}
