//! Which device computes: `--device auto|cpu|ndarray|wgpu[:I]|vulkan[:I]|cuda[:I]`.
//!
//! Which backends exist is decided when the program is built (Cargo features); which of them is
//! used is decided here, when it runs.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
use burn::tensor::DeviceType;

use neokd_evaluate::Error;

use crate::{gpu_cache, self_test};

/// A device as a user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that is present: CUDA, then Vulkan, then WGPU, then the CPU; software drivers of
    /// graphics interfaces are passed over.
    #[default]
    Auto,
    /// The CPU, with Burn's Flex backend.
    Cpu,
    /// The CPU, with Burn's older NdArray backend.
    NdArray,
    /// A graphics device by whatever API wgpu picks, by index.
    Wgpu(usize),
    /// A Vulkan device, by index.
    Vulkan(usize),
    /// An NVIDIA GPU, by index.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Cpu => out.write_str("cpu"),
            Self::NdArray => out.write_str("ndarray"),
            Self::Wgpu(index) => write!(out, "wgpu:{index}"),
            Self::Vulkan(index) => write!(out, "vulkan:{index}"),
            Self::Cuda(index) => write!(out, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            None => (text, 0),
            Some((name, index)) => {
                (name, index.parse().map_err(|_| format!("device {text:?}: {index:?} is not a device number"))?)
            }
        };
        match (name, text.contains(':')) {
            ("auto", false) => Ok(Self::Auto),
            ("cpu", false) => Ok(Self::Cpu),
            ("ndarray", false) => Ok(Self::NdArray),
            ("wgpu", _) => Ok(Self::Wgpu(index)),
            ("vulkan", _) => Ok(Self::Vulkan(index)),
            ("cuda", _) => Ok(Self::Cuda(index)),
            _ => Err(format!("device {text:?} is none of auto, cpu, ndarray, wgpu[:I], vulkan[:I], cuda[:I]")),
        }
    }
}

/// One backend and what of it is present on this machine.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// Name of the Cargo feature and of the `--device` prefix.
    pub name: &'static str,
    /// Whether this binary has it.
    pub compiled: bool,
    /// The devices that it finds.
    pub devices: Vec<String>,
}

/// All backends, compiled in or not.
pub fn backends() -> Vec<BackendStatus> {
    let mut list = vec![
        BackendStatus { name: "flex", compiled: cfg!(feature = "flex"), devices: Vec::new() },
        BackendStatus { name: "ndarray", compiled: cfg!(feature = "ndarray"), devices: Vec::new() },
    ];
    for backend in &mut list {
        if backend.compiled {
            backend.devices = vec!["CPU".to_string()];
        }
    }
    for (name, compiled, kind) in [
        ("wgpu", cfg!(feature = "wgpu"), Gpu::Wgpu),
        ("vulkan", cfg!(feature = "vulkan"), Gpu::Vulkan),
        ("cuda", cfg!(feature = "cuda"), Gpu::Cuda),
    ] {
        list.push(BackendStatus { name, compiled, devices: names(&found(kind)) });
    }
    list
}

/// Opens a device and says which one it is. A GPU is tested first where this build has not used it before
/// ([`self_test::once`]).
///
/// # Errors
/// [`Error::WrongDevice`] if it computes wrong values; [`Error::Device`] names the Cargo feature if the backend is not
/// compiled in, and the driver or device if that is missing.
pub fn open(choice: DeviceChoice) -> Result<(Device, String), Error> {
    let (device, name) = open_untested(choice)?;
    let is_gpu = [Gpu::Wgpu, Gpu::Vulkan, Gpu::Cuda].iter().any(|kind| name.starts_with(kind.name()));
    if let (true, Ok((reference, _))) = (is_gpu, cpu()) {
        let cache = gpu_cache::folder().map(|folder| folder.join("self-test"));
        self_test::once(&name, &device, &reference, cache.as_deref(), &mut |line| {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "{line}");
            Ok(())
        })?;
    }
    Ok((device, name))
}

/// As [`open`], without the self-test.
///
/// # Errors
/// [`Error::Device`], as [`open`].
pub fn open_untested(choice: DeviceChoice) -> Result<(Device, String), Error> {
    match choice {
        DeviceChoice::Auto => auto(),
        DeviceChoice::Cpu => cpu(),
        DeviceChoice::NdArray => ndarray(),
        DeviceChoice::Wgpu(index) => gpu(Gpu::Wgpu, index, "a graphics driver (Vulkan, Metal or DirectX 12)"),
        DeviceChoice::Vulkan(index) => gpu(Gpu::Vulkan, index, "a Vulkan driver"),
        DeviceChoice::Cuda(index) => gpu(Gpu::Cuda, index, "the NVIDIA driver (libcuda)"),
    }
}

/// The devices of a training run.
#[derive(Clone, Debug)]
pub struct Devices {
    /// Where the run's state is.
    pub first: Device,
    /// Where copies of the network learn from further parts of each batch.
    pub replicas: Vec<Device>,
    /// All of them, as reports name them.
    pub names: String,
}

impl Devices {
    /// Opens them all; the same device may be named more than once.
    ///
    /// # Errors
    /// As [`open`]; [`Error::Device`] if there is none.
    pub fn open(choices: &[DeviceChoice]) -> Result<Self, Error> {
        let opened = choices.iter().map(|choice| open(*choice)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = opened.iter().map(|(_, name)| name.as_str()).collect();
        let names = names.join(" + ");
        let mut devices = opened.into_iter().map(|(device, _)| device);
        let first = devices.next().ok_or_else(|| Error::Device("--devices: name at least one".to_string()))?;
        Ok(Self { first, replicas: devices.collect(), names })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gpu {
    Wgpu,
    Vulkan,
    Cuda,
}

impl Gpu {
    fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    fn compiled(self) -> bool {
        match self {
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }
}

/// Devices of one kind; asking does not fail where a driver is missing.
#[allow(unused_variables, clippy::needless_return)]
fn found(kind: Gpu) -> Vec<Device> {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
    {
        let kind = match kind {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu => DeviceType::Wgpu,
            #[cfg(feature = "vulkan")]
            Gpu::Vulkan => DeviceType::Vulkan,
            #[cfg(feature = "cuda")]
            Gpu::Cuda => DeviceType::Cuda,
            #[allow(unreachable_patterns)]
            _ => return Vec::new(),
        };
        gpu_cache::keep_kernels();
        // Enumerating may load a broken driver, which panics inside it rather than report.
        return std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default();
    }
    #[cfg(not(any(feature = "wgpu", feature = "vulkan", feature = "cuda")))]
    return Vec::new();
}

fn names(devices: &[Device]) -> Vec<String> {
    devices.iter().map(describe).collect()
}

fn describe(device: &Device) -> String {
    format!("{device:?}")
}

/// A graphics driver that computes on the CPU (llvmpipe, SwiftShader): slower than Flex, there for tests.
fn is_software(device: &Device) -> bool {
    describe(device).contains("kind: Cpu")
}

fn auto() -> Result<(Device, String), Error> {
    for kind in [Gpu::Cuda, Gpu::Vulkan, Gpu::Wgpu] {
        if let Some((index, device)) = found(kind).into_iter().enumerate().find(|(_, device)| !is_software(device)) {
            let name = format!("{}:{index} ({})", kind.name(), describe(&device));
            return Ok((device, name));
        }
    }
    cpu().or_else(|_| ndarray())
}

fn gpu(kind: Gpu, index: usize, needs: &str) -> Result<(Device, String), Error> {
    let name = kind.name();
    if !kind.compiled() {
        return Err(not_compiled(name));
    }
    let devices = found(kind);
    let count = devices.len();
    match devices.into_iter().nth(index) {
        Some(device) => {
            let described = format!("{name}:{index} ({})", describe(&device));
            Ok((device, described))
        }
        None if count == 0 => Err(Error::Device(format!(
            "device {name}:{index}: {name} is compiled in, but no {name} device is present; it needs {needs}. \
             Install that, or use --device cpu; neokd devices shows what there is"
        ))),
        None => Err(Error::Device(format!(
            "device {name}:{index}: there are {count} {name} devices, numbered 0 to {}; neokd devices lists them",
            count - 1
        ))),
    }
}

fn not_compiled(name: &str) -> Error {
    Error::Device(format!(
        "device {name}: this neokd was built without the cargo feature `{name}`; build it with: \
         cargo build --release --features {name}"
    ))
}

#[cfg(feature = "flex")]
fn cpu() -> Result<(Device, String), Error> {
    Ok((Device::flex(), "cpu (flex)".to_string()))
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<(Device, String), Error> {
    Err(not_compiled("flex"))
}

#[cfg(feature = "ndarray")]
fn ndarray() -> Result<(Device, String), Error> {
    // Deprecated by Burn in favour of Flex; kept for comparison.
    #[allow(deprecated)]
    let device = Device::ndarray();
    Ok((device, "cpu (ndarray)".to_string()))
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<(Device, String), Error> {
    Err(not_compiled("ndarray"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["auto", "cpu", "ndarray", "wgpu:1", "vulkan:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().map(|choice| choice.to_string()), Ok(name.to_string()));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["gpu", "cuda:x", "cpu:1", ""] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_is_named_with_its_feature() {
        if cfg!(feature = "cuda") {
            return;
        }
        let error = open(DeviceChoice::Cuda(0)).map(|_| ()).expect_err("cuda is not compiled in");
        assert!(error.to_string().contains("--features cuda"), "{error}");
        assert_eq!(error.exit_code(), 7);
    }
}
