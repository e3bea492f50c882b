//! Images to look at: the test images of a data set or of a tree of image files, or a safetensors or NumPy file.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use neokd_datasets::{FloatImages, Images, TensorImages, TreeOptions};

use crate::Error;
use crate::batches::Batches;

/// Images with labels.
#[derive(Debug)]
pub enum Source<'a> {
    /// Of 8 bits a pixel, in memory or in their files.
    Set(Box<dyn Images + 'a>),
    /// Any numbers from 0 to 1.
    Floats(FloatImages),
}

/// A batch of images on the device, with their labels on the host.
pub type Looked = (Tensor<4>, Vec<usize>);

impl Source<'_> {
    /// Opens `name_or_path`: a file that ends in `.safetensors` with `images` (f32 in `[0, 1]` or u8, NCHW) and
    /// `labels`; one that ends in `.npz`, or in `.npy` with its labels beside it, as [`neokd_datasets::numpy`] says;
    /// the name of a data set, below the folder that `library` gives, whose test images are taken; or a folder or zip
    /// archive with a folder of images per class, likewise, its images scaled to `shape`.
    ///
    /// # Errors
    /// [`Error::Data`] names the file or set; [`Error::Config`] if there is none of that name, or if its images are not
    /// of `shape`.
    pub fn open(
        name_or_path: &str,
        library: impl FnOnce() -> Result<PathBuf, Error>,
        shape: [usize; 3],
        classes: usize,
    ) -> Result<Self, Error> {
        let source = match name_or_path {
            file if file.ends_with(".safetensors") => {
                neokd_datasets::load_safetensors(Path::new(file), classes)?.0.into()
            }
            file if file.ends_with(".npz") || file.ends_with(".npy") => {
                neokd_datasets::load_numpy(Path::new(file), shape, classes)?.into()
            }
            tree if is_tree(tree) => {
                Self::Set(neokd_datasets::open_tree(Path::new(tree), &library()?, &TreeOptions::new(shape))?.test)
            }
            name => {
                let known = neokd_datasets::find(name).map_err(|error| {
                    Error::Config(format!(
                        "--data: {error}, or a folder, .safetensors, .npz or .npy file; nothing is at that path"
                    ))
                })?;
                let folder = if known.is_embedded() { PathBuf::new() } else { library()? };
                Self::Set(Box::new(neokd_datasets::load(name, &folder)?.test))
            }
        };
        match source.shape() == shape {
            true => Ok(source),
            false => Err(Error::Config(format!(
                "--data {name_or_path}: images are {:?}, the network takes {shape:?}",
                source.shape()
            ))),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Set(set) => set.name(),
            Self::Floats(set) => set.name(),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Set(set) => set.classes(),
            Self::Floats(set) => set.classes(),
        }
    }

    /// The same, if it has as many classes as the network that looks at it.
    ///
    /// # Errors
    /// [`Error::Config`] if it has not.
    pub fn of_classes(self, classes: usize) -> Result<Self, Error> {
        match self.classes() == classes {
            true => Ok(self),
            false => Err(Error::Config(format!(
                "--data {}: has {} classes, the network knows {classes}; give the data set that it was trained for",
                self.name(),
                self.classes()
            ))),
        }
    }

    /// SHA-256 that tells the images and their labels from others.
    pub fn digest(&self) -> String {
        match self {
            Self::Set(set) => set.digest(),
            Self::Floats(set) => {
                let pixels = set.pixels().iter().flat_map(|pixel| pixel.to_le_bytes());
                let labels = set.labels().iter().flat_map(|label| label.to_le_bytes());
                neokd_datasets::sha256_hex(&pixels.chain(labels).collect::<Vec<u8>>())
            }
        }
    }

    /// How many images are meant by `wanted`, of which 0 means all.
    pub fn count(&self, wanted: usize) -> usize {
        let all = match self {
            Self::Set(set) => set.len(),
            Self::Floats(set) => set.len(),
        };
        if wanted == 0 { all } else { wanted.min(all) }
    }

    /// The first `count` images in batches.
    ///
    /// # Shapes
    /// - pixels: `[batch_size, channels, height, width]`, the last batch perhaps smaller, values in `[0, 1]`
    ///
    /// # Errors
    /// Each batch: [`Error::Data`] if an image cannot be read.
    pub fn batches<'a>(
        &'a self,
        count: usize,
        batch_size: usize,
        device: &'a Device,
    ) -> Box<dyn Iterator<Item = Result<Looked, Error>> + 'a> {
        let batch_size = batch_size.max(1);
        match self {
            Self::Set(set) => {
                let batches = Batches::in_order(set, count, batch_size, device);
                Box::new(batches.map(|batch| batch.map(|batch| (batch.batch.pixels, batch.labels))))
            }
            Self::Floats(set) => {
                let starts = (0..count).step_by(batch_size);
                Box::new(starts.map(move |start| Ok(floats(set, start, (start + batch_size).min(count), device))))
            }
        }
    }

    fn shape(&self) -> [usize; 3] {
        match self {
            Self::Set(set) => set.shape(),
            Self::Floats(set) => set.shape(),
        }
    }
}

impl<'a> From<&'a dyn Images> for Source<'a> {
    fn from(images: &'a dyn Images) -> Self {
        Self::Set(Box::new(images))
    }
}

impl From<TensorImages> for Source<'_> {
    fn from(images: TensorImages) -> Self {
        match images {
            TensorImages::Bytes(set) => Self::Set(Box::new(set)),
            TensorImages::Floats(set) => Self::Floats(set),
        }
    }
}

/// Whether it is a tree of images by its looks, and not the name of a data set; `./mnist` is a folder in any case.
pub fn is_tree(name_or_path: &str) -> bool {
    let path = Path::new(name_or_path);
    let is_known = neokd_datasets::find(name_or_path).is_ok();
    !is_known && (path.is_dir() || path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zip")))
}

fn floats(set: &FloatImages, start: usize, end: usize, device: &Device) -> Looked {
    let [channels, height, width] = set.shape();
    let size = channels * height * width;
    let values = set.pixels()[start * size..end * size].to_vec();
    let labels = set.labels()[start..end].iter().map(|label| usize::from(*label)).collect();
    (Tensor::from_data(TensorData::new(values, [end - start, channels, height, width]), device), labels)
}
