//! Images that stay in their files: a list of them in memory, pixels when they are asked for.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use sha2::{Digest, Sha256};

use super::ahead::Ahead;
use super::decode;
use super::layout::{Layout, Sample};
use super::listing::{Listed, read_file};
use super::options::Frame;
use crate::augment::{self, Augmentation};
use crate::data_splits::DataSplits;
use crate::image_set::check;
use crate::images::{Batches, Images, Pixels, View};
use crate::provenance::hex;
use crate::split::TENTH;
use crate::{DataError, FileDigest, Provenance, SplitTable, TreeError, Trust};

const DIGEST_TAG: &str = "neokd-image-index-1\n";

/// Batches that are decoded while one is in use.
const BATCHES_AHEAD: usize = 2;

/// Images with labels in the files of a folder. Each is read, decoded and scaled whenever it is asked for, by all cores
/// and up to two batches ahead; the pixels are those that [`crate::load_tree`] would hold in memory.
#[derive(Clone)]
pub struct ImageFiles {
    name: String,
    classes: usize,
    labels: Vec<u16>,
    /// Position of each image in the tree's list.
    files: Vec<usize>,
    tree: Arc<Tree>,
}

/// What the parts of a tree have in common.
pub(super) struct Tree {
    pub(super) label: String,
    pub(super) folder: PathBuf,
    pub(super) files: Vec<Listed>,
    pub(super) frame: Frame,
}

impl ImageFiles {
    fn new(name: String, classes: usize, samples: &[Sample], tree: &Arc<Tree>) -> Result<Self, DataError> {
        let labels: Vec<u16> = samples.iter().map(|sample| sample.label).collect();
        let shape = tree.frame.shape;
        check(&name, shape, classes, labels.len() * shape.iter().product::<usize>(), &labels)?;
        let files = samples.iter().map(|sample| sample.file).collect();
        Ok(Self { name, classes, labels, files, tree: Arc::clone(tree) })
    }

    /// The images at `indices`, which come from a table that was made for this set.
    fn select(&self, indices: &[usize], name: String) -> Self {
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        let files = indices.iter().map(|&index| self.files[index]).collect();
        Self { name, classes: self.classes, labels, files, tree: Arc::clone(&self.tree) }
    }
}

/// The parts of a tree, its images left in their files.
pub(super) fn split(tree: Tree, layout: &Layout, name: &str) -> Result<DataSplits<ImageFiles>, DataError> {
    let provenance = Provenance {
        dataset: format!("tree {name}"),
        trust: Trust::Unverified,
        files: vec![index_digest(&tree, layout)],
    };
    let (tree, classes) = (Arc::new(tree), layout.class_names.len());
    let part = |part: &str, samples: &[Sample]| ImageFiles::new(format!("{name} {part}"), classes, samples, &tree);
    let (all, test) = (part("train", &layout.train)?, part("test", &layout.test)?);
    let (train, validation, split) = match layout.validation.is_empty() {
        false => (all, part("validation", &layout.validation)?, None),
        true => {
            let table = SplitTable::drawn(name, &all, TENTH)?;
            let (kept, held_out) = table.parts(all.len())?;
            let train_name = all.name.clone();
            let validation = all.select(&held_out, format!("{name} validation"));
            (all.select(&kept, train_name), validation, Some(table.record()))
        }
    };
    Ok(DataSplits { train, validation, test, class_names: layout.class_names.clone(), provenance, split })
}

/// Digest over path and size of every image, as the provenance of a streamed tree states it. The content of the files
/// does not enter: hashing it would take as long as an epoch.
fn index_digest(tree: &Tree, layout: &Layout) -> FileDigest {
    let mut positions: Vec<usize> =
        [&layout.train, &layout.validation, &layout.test].into_iter().flatten().map(|sample| sample.file).collect();
    positions.sort_unstable();
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    for position in positions {
        let file = &tree.files[position];
        hasher.update(format!("{}\0{}\n", file.path, file.bytes));
        bytes += file.bytes;
    }
    FileDigest { name: "image files by path and size".into(), bytes, sha256: hex(&hasher.finalize()) }
}

impl Tree {
    /// Image `index` of a part, which is in the file at `position`.
    fn image(&self, position: usize, index: usize, view: View) -> Result<Vec<u8>, DataError> {
        let file = &self.files[position];
        let bytes = read_file(&self.label, &self.folder, file)?;
        let at = |problem: decode::Problem| DataError::from(problem.at(self.label.clone(), file.path.clone()));
        if bytes.len() as u64 != file.bytes {
            let (tree, path, expected, found) = (self.label.clone(), file.path.clone(), file.bytes, bytes.len() as u64);
            return Err(TreeError::Changed { tree, file: path, expected, found }.into());
        }
        let frame = &self.frame;
        let plain = || {
            let mut pixels = vec![0; frame.shape.iter().product()];
            decode::decode_guarded(&bytes, frame, &mut pixels).map(|()| pixels).map_err(at)
        };
        match view {
            View::Plain | View::Augmented { augmentation: Augmentation::None, .. } => plain(),
            View::Augmented {
                augmentation: Augmentation::RandomResizedCrop { scale, ratio, from_file: true },
                seed,
                epoch,
            } => {
                let draw = |size| augment::draw(size, scale, ratio, seed, epoch, index);
                decode::crop_guarded(&bytes, frame.shape, draw).map_err(at)
            }
            View::Augmented { augmentation, seed, epoch } => {
                let image = plain()?;
                let mut pixels = vec![0; image.len()];
                augment::augment_into(&image, frame.shape, index, &augmentation, seed, epoch, &mut pixels);
                Ok(pixels)
            }
        }
    }
}

impl Images for ImageFiles {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> [usize; 3] {
        self.tree.frame.shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// SHA-256 over the index: `neokd-image-index-1` and a line feed; channels, height, width and the number of images,
    /// each as 8 bytes little-endian; for each image its path, a zero byte, its size in decimal digits, a line feed and
    /// its label as 2 bytes little-endian.
    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(DIGEST_TAG);
        for size in self.shape().into_iter().chain([self.len()]) {
            hasher.update((size as u64).to_le_bytes());
        }
        for (&file, label) in self.files.iter().zip(&self.labels) {
            let file = &self.tree.files[file];
            hasher.update(format!("{}\0{}\n", file.path, file.bytes));
            hasher.update(label.to_le_bytes());
        }
        hex(&hasher.finalize())
    }

    fn batches(&self, plan: Vec<Vec<usize>>, view: View) -> Batches<'_> {
        let largest = plan.iter().map(Vec::len).max().unwrap_or(0);
        let images: Vec<(usize, usize)> = plan.iter().flatten().map(|&index| (self.files[index], index)).collect();
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let tree = Arc::clone(&self.tree);
        let work = move |item: usize| {
            let (file, index): (usize, usize) = images[item];
            tree.image(file, index, view)
        };
        let count = plan.iter().map(Vec::len).sum();
        let mut ahead = Ahead::start(count, BATCHES_AHEAD * largest, threads, work);
        let len = self.shape().iter().product::<usize>();
        let mut failed = false;
        let batch = move |indices: Vec<usize>| {
            if failed {
                return None;
            }
            let mut bytes = Vec::with_capacity(indices.len() * len);
            for image in ahead.by_ref().take(indices.len()) {
                match image {
                    Ok(image) => bytes.extend(image),
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
            }
            Some(Ok(Pixels { indices, bytes }))
        };
        Box::new(plan.into_iter().map_while(batch))
    }
}

impl std::fmt::Debug for ImageFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [channels, height, width] = self.shape();
        let (name, len, classes) = (&self.name, self.len(), self.classes);
        write!(f, "ImageFiles({name}: {len} of {channels}x{height}x{width}, {classes} classes)")
    }
}
