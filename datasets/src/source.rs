//! From the files of a dataset, wherever they lie, to its digests and its two image sets.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::idx::{self, Kind};
use crate::manifest::{Format, IdxFiles, KnownDataset, KnownFile};
use crate::{DataError, FileDigest, ImageSet, embedded, sha256_hex};

/// The bytes of one file as stored, and what errors call it.
pub(crate) struct Source {
    pub(crate) label: String,
    pub(crate) bytes: Cow<'static, [u8]>,
}

/// The uncompressed files of a dataset, in the manifest's order.
pub(crate) struct Unpacked<'a> {
    pub(crate) files: Vec<FileDigest>,
    raw: Vec<Cow<'a, [u8]>>,
    labels: Vec<&'a str>,
}

/// The files compiled into the binary; none if the dataset is not embedded.
pub(crate) fn embedded(dataset: &KnownDataset) -> Option<Vec<Source>> {
    let files = embedded::files(dataset)?.iter().zip(dataset.format.files());
    let source = |(&bytes, file): (&&'static [u8], &KnownFile)| Source {
        label: format!("embedded {} ({})", dataset.name, file.name),
        bytes: Cow::Borrowed(bytes),
    };
    Some(files.map(source).collect())
}

/// The files of `dataset` that lie in `folder`, read whole.
pub(crate) fn read(dataset: &'static KnownDataset, folder: &Path) -> Result<Vec<Source>, DataError> {
    dataset.format.files().into_iter().map(|file| read_one(dataset, file, folder)).collect()
}

fn read_one(dataset: &'static KnownDataset, file: &'static KnownFile, folder: &Path) -> Result<Source, DataError> {
    let path = locate(file, folder)?.ok_or_else(|| DataError::MissingFile {
        dataset: dataset.name,
        file: file.name,
        folder: folder.into(),
        looked_for: spellings(file).join(", "),
        obtain: dataset.obtain,
    })?;
    Ok(Source { label: path.display().to_string(), bytes: Cow::Owned(idx::read_file(&path)?) })
}

/// The path in `folder` of `file` under any of its spellings; the canonical name first, uncompressed before gzipped.
pub(crate) fn locate(file: &KnownFile, folder: &Path) -> Result<Option<PathBuf>, DataError> {
    for spelling in spellings(file) {
        let path = folder.join(spelling);
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => return Ok(Some(path)),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(DataError::io("look at", path)(error)),
        }
    }
    Ok(None)
}

fn spellings(file: &KnownFile) -> Vec<String> {
    let names = std::iter::once(&file.name).chain(file.other_names);
    names.flat_map(|name| [(*name).to_owned(), format!("{name}.gz")]).collect()
}

/// Uncompresses and hashes every file; what is not even well-formed is an error here.
pub(crate) fn unpack<'a>(dataset: &KnownDataset, sources: &'a [Source]) -> Result<Unpacked<'a>, DataError> {
    let mut unpacked = Unpacked { files: Vec::new(), raw: Vec::new(), labels: Vec::new() };
    for ((file, kind), source) in dataset.format.files().into_iter().zip(kinds(&dataset.format)).zip(sources) {
        let raw = idx::unpack(kind, &source.bytes, &source.label)?;
        let (bytes, sha256) = (raw.len() as u64, sha256_hex(&raw));
        unpacked.files.push(FileDigest { name: file.name.into(), bytes, sha256 });
        unpacked.raw.push(raw);
        unpacked.labels.push(&source.label);
    }
    Ok(unpacked)
}

fn kinds(format: &Format) -> [Kind; 4] {
    match format {
        Format::Idx(_) => [Kind::Images, Kind::Labels, Kind::Images, Kind::Labels],
    }
}

impl Unpacked<'_> {
    /// Whether every file is the one in the manifest.
    ///
    /// # Errors
    /// The first file that is not, by its size or its digest.
    pub(crate) fn check_known(&self, dataset: &KnownDataset) -> Result<(), DataError> {
        for ((known, found), label) in dataset.format.files().into_iter().zip(&self.files).zip(&self.labels) {
            let file = (*label).to_owned();
            if found.bytes != known.bytes {
                return Err(DataError::SizeMismatch { file, found: found.bytes, expected: known.bytes });
            }
            if found.sha256 != known.sha256 {
                let expected = known.sha256.to_owned();
                return Err(DataError::DigestMismatch { file, found: found.sha256.clone(), expected });
            }
        }
        Ok(())
    }

    /// Whether every file is the one in `recorded`.
    ///
    /// # Errors
    /// The first file that is not.
    pub(crate) fn check_recorded(&self, recorded: &[FileDigest]) -> Result<(), DataError> {
        for (position, (found, label)) in self.files.iter().zip(&self.labels).enumerate() {
            if recorded.get(position) != Some(found) {
                return Err(DataError::ChangedSinceImport {
                    file: (*label).to_owned(),
                    found: found.sha256.clone(),
                    expected: recorded.get(position).map_or("nothing".into(), |file| file.sha256.clone()),
                });
            }
        }
        Ok(())
    }

    /// All training images and the test images.
    pub(crate) fn decode(&self, dataset: &KnownDataset) -> Result<(ImageSet, ImageSet), DataError> {
        match &dataset.format {
            Format::Idx(IdxFiles { .. }) => Ok((
                self.decode_idx(dataset, 0, "train", dataset.train_images)?,
                self.decode_idx(dataset, 2, "test", dataset.test_images)?,
            )),
        }
    }

    /// The image file at `first` with the label file after it.
    fn decode_idx(
        &self,
        dataset: &KnownDataset,
        first: usize,
        part: &str,
        expected_images: usize,
    ) -> Result<ImageSet, DataError> {
        let files = [self.labels[first], self.labels[first + 1]];
        let images = idx::parse_images(&self.raw[first], files[0])?;
        let shape = [1, images.height, images.width];
        if shape != dataset.shape || images.count != expected_images {
            return Err(DataError::ShapeMismatch {
                file: files[0].into(),
                found: shape,
                found_images: images.count,
                expected: dataset.shape,
                expected_images,
            });
        }
        let labels = idx::parse_labels(&self.raw[first + 1], dataset.classes(), files[1])?;
        idx::image_set(&format!("{} {part}", dataset.name), dataset.classes(), images, labels, files)
    }
}
