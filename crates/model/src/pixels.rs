//! Pixels are in `[0, 1]` everywhere outside a network; normalisation is the network's first layer.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How a network shifts and scales pixels before its first convolution.
///
/// Keeping this inside the network keeps epsilon in pixel units for every attack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Pixels as they are.
    #[default]
    None,
    /// Mean and standard deviation of MNIST's training images.
    Mnist,
    /// Of Fashion-MNIST's.
    FashionMnist,
    /// Of CIFAR-10's, as in the public MSDNet code.
    Cifar10,
    /// Of CIFAR-100's, as in the public MSDNet code.
    Cifar100,
    /// Of ImageNet's, the values that are customary in the field.
    Imagenet,
    /// Explicit values, one per channel.
    Custom {
        /// Mean of each channel.
        mean: Vec<f32>,
        /// Standard deviation of each channel, not zero.
        std: Vec<f32>,
    },
}

impl Normalization {
    /// Mean and standard deviation per channel; `None` where pixels stay as they are.
    pub fn mean_and_std(&self) -> Option<(Vec<f32>, Vec<f32>)> {
        let (mean, std): (&[f32], &[f32]) = match self {
            Self::None => return None,
            Self::Mnist => (&[0.1307], &[0.3081]),
            Self::FashionMnist => (&[0.2860], &[0.3530]),
            Self::Cifar10 => (&[0.4914, 0.4824, 0.4467], &[0.2471, 0.2435, 0.2616]),
            Self::Cifar100 => (&[0.5071, 0.4867, 0.4408], &[0.2675, 0.2565, 0.2761]),
            Self::Imagenet => (&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
            Self::Custom { mean, std } => (mean, std),
        };
        Some((mean.to_vec(), std.to_vec()))
    }

    /// Why these values cannot serve `channels` channels, if so.
    pub fn problem(&self, channels: usize) -> Option<String> {
        let (mean, std) = self.mean_and_std()?;
        if mean.len() != channels || std.len() != channels {
            return Some(format!(
                "normalization has {} means and {} deviations, but images have {channels} channels",
                mean.len(),
                std.len()
            ));
        }
        let bad = std.iter().find(|value| !value.is_finite() || **value <= 0.0)?;
        Some(format!("normalization deviation {bad} is not positive"))
    }

    /// Applies `(pixels - mean) / std` per channel.
    ///
    /// # Shapes
    /// - input and output: `[batch, channels, height, width]`
    pub fn apply(&self, pixels: Tensor<4>) -> Tensor<4> {
        let Some((mean, std)) = self.mean_and_std() else {
            return pixels;
        };
        let channels = mean.len();
        let device = pixels.device().without_autodiff();
        let per_channel =
            |values: Vec<f32>| Tensor::<4>::from_data(TensorData::new(values, [1, channels, 1, 1]), &device);
        (pixels - per_channel(mean)) / per_channel(std)
    }
}
