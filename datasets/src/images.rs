//! What every set of images can do, wherever its pixels are: in memory ([`ImageSet`]) or in files that are read when
//! they are needed ([`crate::ImageFiles`]).

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::thread;

use crate::augment::{Augmentation, augment_batch};
use crate::{DataError, ImageSet};

/// How images are seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// At the size of the set and otherwise as they are: for evaluation.
    Plain,
    /// As training sees them in one epoch. An image's bytes follow from these three and its index.
    Augmented {
        /// What is done to them.
        augmentation: Augmentation,
        /// Seed of what is random in it.
        seed: u64,
        /// The epoch, from 0.
        epoch: u64,
    },
}

/// Some images of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Which images they are.
    pub indices: Vec<usize>,
    /// `[images, channels, height, width]` flattened, values 0 to 255.
    pub bytes: Vec<u8>,
}

/// Batches of images, one after the other; it ends after the first error.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Pixels, DataError>> + 'a>;

/// Images of one shape with a label each, at least one.
#[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
pub trait Images: Debug + Send + Sync {
    /// What the set is called in messages and reports.
    fn name(&self) -> &str;

    /// Channels, height, width.
    fn shape(&self) -> [usize; 3];

    /// Number of classes; labels are smaller.
    fn classes(&self) -> usize;

    /// All labels.
    fn labels(&self) -> &[u16];

    /// SHA-256 that tells the set from others: over the pixels and labels of an [`ImageSet`], over the index of
    /// [`crate::ImageFiles`].
    fn digest(&self) -> String;

    /// The images of each batch of `plan`, in that order. What takes long is done ahead of its use; dropping the
    /// iterator stops that.
    ///
    /// # Panics
    /// Like a slice, if an index is not below [`Self::len`].
    fn batches(&self, plan: Vec<Vec<usize>>, view: View) -> Batches<'_>;

    /// Number of images.
    fn len(&self) -> usize {
        self.labels().len()
    }
}

impl Images for ImageSet {
    fn name(&self) -> &str {
        self.name()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn labels(&self) -> &[u16] {
        self.labels()
    }

    fn digest(&self) -> String {
        self.digest()
    }

    fn batches(&self, plan: Vec<Vec<usize>>, view: View) -> Batches<'_> {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let seen = move |indices: Vec<usize>| {
            let bytes = match view {
                View::Plain => indices.iter().flat_map(|&index| self.image(index)).copied().collect(),
                View::Augmented { augmentation, seed, epoch } => {
                    augment_batch(self, &indices, &augmentation, seed, epoch, threads)
                }
            };
            Ok(Pixels { indices, bytes })
        };
        match view {
            View::Augmented { augmentation, .. } if augmentation.needs_files() => {
                let (parameter, value) = ("from_file", "true".to_owned());
                let expected = format!("false, because {} holds decoded images and not their files", self.name());
                Box::new(std::iter::once(Err(DataError::AugmentationParameter { parameter, value, expected })))
            }
            _ => Box::new(plan.into_iter().map(seen)),
        }
    }
}

/// Whoever points to a set is as good as the set: a box, a reference.
impl<P> Images for P
where
    P: Deref<Target: Images> + Debug + Send + Sync,
{
    fn name(&self) -> &str {
        (**self).name()
    }

    fn shape(&self) -> [usize; 3] {
        (**self).shape()
    }

    fn classes(&self) -> usize {
        (**self).classes()
    }

    fn labels(&self) -> &[u16] {
        (**self).labels()
    }

    fn digest(&self) -> String {
        (**self).digest()
    }

    fn batches(&self, plan: Vec<Vec<usize>>, view: View) -> Batches<'_> {
        (**self).batches(plan, view)
    }
}
