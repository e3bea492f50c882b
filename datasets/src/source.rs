//! From the files of a dataset, wherever they lie, to its digests and its two image sets.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::idx::{self, Kind};
use crate::manifest::{CifarFiles, Format, IdxFiles, KnownArchive, KnownDataset, KnownFile};
use crate::{DataError, FileDigest, ImageSet, TreeOptions, archive, cifar, embedded, sha256_hex, tree};

/// The bytes of one stored file, the name it has in the library, and what errors call it.
pub(crate) struct Source {
    pub(crate) label: String,
    pub(crate) store_as: String,
    pub(crate) bytes: Cow<'static, [u8]>,
}

/// The files of a dataset as they are stored.
pub(crate) enum Sources {
    /// Each on its own, in the manifest's order.
    Files(Vec<Source>),
    /// All of them in the archive of the manifest.
    Archive(Source),
}

impl Sources {
    pub(crate) fn all(&self) -> &[Source] {
        match self {
            Self::Files(files) => files,
            Self::Archive(archive) => std::slice::from_ref(archive),
        }
    }
}

/// The uncompressed files of a dataset, in the manifest's order.
pub(crate) struct Unpacked<'a> {
    pub(crate) files: Vec<FileDigest>,
    raw: Vec<Cow<'a, [u8]>>,
    labels: Vec<String>,
    /// They came in the archive of the manifest, whose digest is the known one.
    in_known_archive: bool,
}

/// The files compiled into the binary; none if the dataset is not embedded.
pub(crate) fn embedded(dataset: &KnownDataset) -> Option<Sources> {
    let files = embedded::files(dataset.name)?.iter().zip(dataset.format.files());
    let source = |(&bytes, file): (&&'static [u8], &KnownFile)| Source {
        label: format!("embedded {} ({})", dataset.name, file.name),
        store_as: file.name.to_owned(),
        bytes: Cow::Borrowed(bytes),
    };
    Some(Sources::Files(files.map(source).collect()))
}

/// The files of `dataset`, read whole: `path` is the folder that holds them or the archive, or the archive itself.
///
/// # Errors
/// Nothing at `path`, a file where only a folder will do, a folder that lacks a file.
pub(crate) fn read(dataset: &'static KnownDataset, path: &Path) -> Result<Sources, DataError> {
    let is_folder = path.metadata().map_err(DataError::io("open", path))?.is_dir();
    if let Format::TinyImageNet(file) = &dataset.format
        && !is_folder
    {
        let bytes = Cow::Owned(idx::read_file(path)?);
        let source = Source { label: path.display().to_string(), store_as: file.name.into(), bytes };
        return Ok(Sources::Files(vec![source]));
    }
    match dataset.format.archive() {
        None if !is_folder => Err(DataError::NotAFolder { folder: path.into() }),
        Some(archive) if !is_folder => read_archive(archive, path),
        Some(archive) if is_file(&path.join(archive.name))? => read_archive(archive, &path.join(archive.name)),
        archive => {
            let unpacked = archive.map(|archive| path.join(archive.folder)).filter(|folder| folder.is_dir());
            let folder = unpacked.as_deref().unwrap_or(path);
            let files = dataset.format.files().into_iter().map(|file| read_one(dataset, file, folder));
            Ok(Sources::Files(files.collect::<Result<_, _>>()?))
        }
    }
}

fn read_archive(archive: &KnownArchive, path: &Path) -> Result<Sources, DataError> {
    let bytes = Cow::Owned(idx::read_file(path)?);
    Ok(Sources::Archive(Source { label: path.display().to_string(), store_as: archive.name.into(), bytes }))
}

fn read_one(dataset: &'static KnownDataset, file: &'static KnownFile, folder: &Path) -> Result<Source, DataError> {
    let path = locate(&dataset.format, file, folder)?.ok_or_else(|| DataError::MissingFile {
        dataset: dataset.name,
        file: file.name,
        folder: folder.into(),
        looked_for: looked_for(&dataset.format, file),
        obtain: dataset.obtain,
    })?;
    let bytes = idx::read_file(&path)?;
    // Named by what the bytes are, not by what the source file was called.
    let gzipped = matches!(dataset.format, Format::Idx(_)) && idx::is_gzip(&bytes);
    let ending = if gzipped { ".gz" } else { "" };
    let store_as = format!("{}{ending}", file.name);
    Ok(Source { label: path.display().to_string(), store_as, bytes: Cow::Owned(bytes) })
}

/// Canonical names of the files that are not in the library folder `folder`, neither on their own nor in the archive.
pub(crate) fn missing(dataset: &'static KnownDataset, folder: &Path) -> Result<Vec<&'static str>, DataError> {
    if let Some(archive) = dataset.format.archive()
        && is_file(&folder.join(archive.name))?
    {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for file in dataset.format.files() {
        if locate(&dataset.format, file, folder)?.is_none() {
            missing.push(file.name);
        }
    }
    Ok(missing)
}

/// The path in `folder` of `file` under any of its spellings; the canonical name first, uncompressed before gzipped.
fn locate(format: &Format, file: &KnownFile, folder: &Path) -> Result<Option<PathBuf>, DataError> {
    for spelling in spellings(format, file) {
        let path = folder.join(spelling);
        if is_file(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_file(path: &Path) -> Result<bool, DataError> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(DataError::io("look at", path)(error)),
    }
}

fn spellings(format: &Format, file: &KnownFile) -> Vec<String> {
    let names = std::iter::once(&file.name).chain(file.other_names);
    match format {
        Format::Idx(_) => names.flat_map(|name| [(*name).to_owned(), format!("{name}.gz")]).collect(),
        Format::Cifar(_) | Format::TinyImageNet(_) => names.map(|name| (*name).to_owned()).collect(),
    }
}

fn looked_for(format: &Format, file: &KnownFile) -> String {
    let archive = format.archive().map(|archive| archive.name.to_owned());
    archive.into_iter().chain(spellings(format, file)).collect::<Vec<_>>().join(", ")
}

/// Uncompresses and hashes every file; what is not even well-formed is an error here.
pub(crate) fn unpack<'a>(dataset: &KnownDataset, sources: &'a Sources) -> Result<Unpacked<'a>, DataError> {
    let mut unpacked = Unpacked { files: Vec::new(), raw: Vec::new(), labels: Vec::new(), in_known_archive: false };
    match (&dataset.format, sources) {
        (Format::Idx(_), sources) => {
            let kinds = [Kind::Images, Kind::Labels, Kind::Images, Kind::Labels];
            for (source, kind) in sources.all().iter().zip(kinds) {
                unpacked.add(source.label.clone(), idx::unpack(kind, &source.bytes, &source.label)?);
            }
        }
        (Format::TinyImageNet(_), sources) => {
            sources.all().iter().for_each(|source| unpacked.add(source.label.clone(), Cow::Borrowed(&source.bytes)));
        }
        (Format::Cifar(_), Sources::Files(files)) => {
            files.iter().for_each(|source| unpacked.add(source.label.clone(), Cow::Borrowed(&source.bytes)));
        }
        (Format::Cifar(files), Sources::Archive(source)) => {
            let wanted: Vec<_> = dataset.format.files().iter().map(|file| (file.name, file.bytes)).collect();
            for (raw, (name, _)) in archive::untar_gz(&source.label, &source.bytes, &wanted)?.into_iter().zip(wanted) {
                unpacked.add(format!("{} ({name})", source.label), Cow::Owned(raw));
            }
            unpacked.in_known_archive = is_known(&files.archive, &source.bytes);
        }
    }
    for (found, known) in unpacked.files.iter_mut().zip(dataset.format.files()) {
        known.name.clone_into(&mut found.name);
    }
    Ok(unpacked)
}

fn is_known(archive: &KnownArchive, bytes: &[u8]) -> bool {
    bytes.len() as u64 == archive.bytes && sha256_hex(bytes) == archive.sha256
}

impl<'a> Unpacked<'a> {
    /// Hashes the next file; its name is filled in afterwards.
    fn add(&mut self, label: String, raw: Cow<'a, [u8]>) {
        self.files.push(FileDigest { name: String::new(), bytes: raw.len() as u64, sha256: sha256_hex(&raw) });
        self.labels.push(label);
        self.raw.push(raw);
    }

    /// Whether the data are those of the manifest: all in the known archive, or every file the known one.
    ///
    /// # Errors
    /// The first file that is not, by its size or its digest.
    pub(crate) fn check_known(&self, dataset: &KnownDataset) -> Result<(), DataError> {
        if self.in_known_archive {
            return Ok(());
        }
        for ((known, found), label) in dataset.format.files().into_iter().zip(&self.files).zip(&self.labels) {
            let file = label.clone();
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
                    file: label.clone(),
                    found: found.sha256.clone(),
                    expected: recorded.get(position).map_or("nothing".into(), |file| file.sha256.clone()),
                });
            }
        }
        Ok(())
    }

    /// All training images and the test images. What takes long to decode is taken from, or left in, the file `cache`.
    pub(crate) fn decode(
        &self,
        dataset: &'static KnownDataset,
        cache: Option<&Path>,
    ) -> Result<(ImageSet, ImageSet), DataError> {
        match &dataset.format {
            Format::Idx(IdxFiles { .. }) => Ok((
                self.decode_idx(dataset, 0, "train", dataset.train_images)?,
                self.decode_idx(dataset, 2, "test", dataset.test_images)?,
            )),
            Format::Cifar(files) => {
                let last = self.raw.len() - 1;
                Ok((
                    self.decode_cifar(dataset, files, 0..last, "train", dataset.train_images)?,
                    self.decode_cifar(dataset, files, last..last + 1, "test", dataset.test_images)?,
                ))
            }
            Format::TinyImageNet(_) => self.decode_tree(dataset, cache),
        }
    }

    /// The images of a zip archive.
    fn decode_tree(
        &self,
        dataset: &'static KnownDataset,
        cache: Option<&Path>,
    ) -> Result<(ImageSet, ImageSet), DataError> {
        let label = &self.labels[0];
        let mut listing = tree::zip_in_memory(label, &self.raw[0], &self.files[0].sha256)?;
        let decoded = tree::decode_cached(&mut listing, dataset.name, cache, &TreeOptions::new(dataset.shape))?;
        decoded.check_classes(label, dataset)?;
        for (set, expected) in [(&decoded.train, dataset.train_images), (&decoded.test, dataset.test_images)] {
            check_shape(dataset, label, set.shape(), set.len(), expected)?;
        }
        Ok((decoded.train, decoded.test))
    }

    /// The image file at `first` with the label file after it.
    fn decode_idx(
        &self,
        dataset: &KnownDataset,
        first: usize,
        part: &str,
        expected_images: usize,
    ) -> Result<ImageSet, DataError> {
        let files = [self.labels[first].as_str(), self.labels[first + 1].as_str()];
        let images = idx::parse_images(&self.raw[first], files[0])?;
        check_shape(dataset, files[0], [1, images.height, images.width], images.count, expected_images)?;
        let labels = idx::parse_labels(&self.raw[first + 1], dataset.classes(), files[1])?;
        idx::image_set(&format!("{} {part}", dataset.name), dataset.classes(), images, labels, files)
    }

    /// The records of `files`, one after the other.
    fn decode_cifar(
        &self,
        dataset: &KnownDataset,
        format: &CifarFiles,
        files: std::ops::Range<usize>,
        part: &str,
        expected_images: usize,
    ) -> Result<ImageSet, DataError> {
        let mut all = cifar::Records { pixels: Vec::new(), labels: Vec::new() };
        for position in files.clone() {
            let records = cifar::parse(format.kind, &self.raw[position], &self.labels[position])?;
            all.pixels.extend(records.pixels);
            all.labels.extend(records.labels);
        }
        check_shape(dataset, &self.labels[files.start], cifar::SHAPE, all.labels.len(), expected_images)?;
        ImageSet::new(&format!("{} {part}", dataset.name), cifar::SHAPE, dataset.classes(), all.pixels, all.labels)
    }
}

fn check_shape(
    dataset: &KnownDataset,
    file: &str,
    found: [usize; 3],
    found_images: usize,
    expected_images: usize,
) -> Result<(), DataError> {
    if found == dataset.shape && found_images == expected_images {
        return Ok(());
    }
    Err(DataError::ShapeMismatch { file: file.into(), found, found_images, expected: dataset.shape, expected_images })
}
