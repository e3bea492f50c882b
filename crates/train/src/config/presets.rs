//! The configurations that are compiled in.

/// A configuration with a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What `--config` calls it.
    pub name: &'static str,
    /// One line for a listing.
    pub summary: &'static str,
    /// Its TOML, with comments that say where each value comes from.
    pub text: &'static str,
}

/// The configuration of this name, if it is compiled in.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All presets; the first is what `neokd train` runs.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "mnist-quick",
        summary: "MNIST, SmallCNN, NEO-KD: 1,120 steps, two to three minutes on two CPU cores",
        text: include_str!("../../configs/mnist-quick.toml"),
    },
    Preset {
        name: "mnist-half-hour",
        summary: "MNIST, SmallCNN, NEO-KD: three epochs with a 5-step attack, about half an hour on two CPU cores",
        text: include_str!("../../configs/mnist-half-hour.toml"),
    },
    Preset {
        name: "mnist",
        summary: "MNIST, SmallCNN, NEO-KD: the full recipe, 61 epochs, 40-step attacks",
        text: include_str!("../../configs/mnist.toml"),
    },
    Preset {
        name: "cifar10",
        summary: "CIFAR-10, MSDNet with three exits, NEO-KD; for a GPU",
        text: include_str!("../../configs/cifar10.toml"),
    },
    Preset {
        name: "cifar100-quick",
        summary: "CIFAR-100, MSDNet with seven exits, NEO-KD: one epoch, 1-step attack, 15 minutes on two cores",
        text: include_str!("../../configs/cifar100-quick.toml"),
    },
    Preset {
        name: "cifar100",
        summary: "CIFAR-100, MSDNet with seven exits, NEO-KD; for a GPU",
        text: include_str!("../../configs/cifar100.toml"),
    },
    Preset {
        name: "tiny-imagenet",
        summary: "Tiny-ImageNet, MSDNet with five exits, NEO-KD; for a GPU",
        text: include_str!("../../configs/tiny-imagenet.toml"),
    },
    Preset {
        name: "imagenet",
        summary: "ImageNet from a folder of images, MSDNet with five exits, NEO-KD; for a GPU",
        text: include_str!("../../configs/imagenet.toml"),
    },
];
