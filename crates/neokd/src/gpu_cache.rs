//! What is kept about GPUs between processes, in the user's cache folder: compiled and tuned kernels, passed self-tests.

use std::path::{Path, PathBuf};

/// The user's folder for what can be made again; none where the environment names none.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    folder.or_else(|| set("LOCALAPPDATA")).map(|folder| folder.join("neokd"))
}

/// Version of the NVIDIA driver, as it says itself; empty where there is none.
pub(crate) fn driver() -> String {
    std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default()
}

/// Models of the NVIDIA GPUs, in alphabetical order.
pub(crate) fn models() -> Vec<String> {
    let cards = Path::new("/proc/driver/nvidia/gpus").read_dir().into_iter().flatten().flatten();
    let texts = cards.filter_map(|card| std::fs::read_to_string(card.path().join("information")).ok());
    let named = |line: &str| line.strip_prefix("Model:").map(|model| model.trim().to_string());
    let model = |text: String| text.lines().find_map(named);
    let mut models: Vec<String> = texts.filter_map(model).collect();
    models.sort();
    models
}

/// Keeps compiled and tuned kernels in the user's cache folder, apart for each kind of GPU: the second process on a machine
/// starts at once. A `cubecl.toml` or `burn.toml` of the user's own and the variables `CUBECL_*` come first. To be called
/// before any GPU is used; later calls do nothing.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
pub(crate) fn keep_kernels() {
    use cubecl_runtime::config::cache::CacheConfig;
    use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    let is_default = matches!(config.environment.path, CacheConfig::Target);
    if let (true, Some(folder)) = (is_default, folder()) {
        config.environment.path = CacheConfig::Directory(folder.join("kernels"));
    }
    let models = models();
    if config.environment.name == "default" && !models.is_empty() {
        config.environment.name = slug(&models.join("+"));
    }
    CubeClRuntimeConfig::try_set(config);
}

/// As a name of a folder.
#[cfg(any(test, feature = "wgpu", feature = "vulkan", feature = "cuda"))]
fn slug(text: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_becomes_a_name_of_a_folder() {
        assert_eq!(slug("NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3");
    }
}
