//! From the paths of a tree to its classes and to which image belongs to which part.

use std::collections::{BTreeSet, HashMap};

use super::listing::{Listing, WNIDS};
use crate::{DataError, TreeError};

const ANNOTATIONS: &str = "val/val_annotations.txt";

/// Text files of a tree are at most this long, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// Labels have 16 bits.
const MAX_CLASSES: usize = 1 << 16;

const IN_CLASS: &str = "PART/CLASS/IMAGE";

/// An image file and its class.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    /// Position in the listing.
    pub(super) file: usize,
    pub(super) label: u16,
}

/// The classes of a tree and the images of its parts.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) class_names: Vec<String>,
    pub(super) train: Vec<Sample>,
    /// Empty where validation images are to be drawn from the training images.
    pub(super) validation: Vec<Sample>,
    pub(super) test: Vec<Sample>,
}

/// Finds out which layout the tree has, and reads its text files.
pub(super) fn find(listing: &mut Listing<'_>) -> Result<Layout, DataError> {
    let position = |path: &str| listing.files.iter().position(|file| file.path == path);
    let layout = match (position(WNIDS), position(ANNOTATIONS)) {
        (Some(wnids), Some(annotations)) => tiny_imagenet(listing, wnids, annotations)?,
        _ => class_folders(listing)?,
    };
    let tree = || listing.label.clone();
    if layout.train.is_empty() {
        return Err(TreeError::NoTrain { tree: tree() }.into());
    }
    if layout.test.is_empty() {
        return Err(TreeError::NoTest { tree: tree() }.into());
    }
    let mut has_image = vec![false; layout.class_names.len()];
    layout.train.iter().for_each(|sample| has_image[usize::from(sample.label)] = true);
    match has_image.iter().position(|has| !has) {
        Some(class) => Err(TreeError::EmptyClass { tree: tree(), class: layout.class_names[class].clone() }.into()),
        None => Ok(layout),
    }
}

/// `PART/CLASS/IMAGE`.
fn class_folders(listing: &Listing<'_>) -> Result<Layout, DataError> {
    let tree = || listing.label.clone();
    let mut found: HashMap<&str, Vec<(usize, &str)>> = HashMap::new();
    let mut unlabelled: Vec<(&str, &str)> = Vec::new();
    let mut classes: BTreeSet<&str> = listing.empty.iter().filter_map(|path| path.strip_prefix("train/")).collect();
    for (position, file) in listing.files.iter().enumerate() {
        let path = file.path.as_str();
        match path.split('/').collect::<Vec<_>>()[..] {
            [part, class, name] => {
                if !is_image(name) {
                    return Err(TreeError::NotAnImage { tree: tree(), file: path.to_owned() }.into());
                }
                found.entry(part).or_default().push((position, class));
                if part == "train" {
                    classes.insert(class);
                }
            }
            [part, _] => unlabelled.push((part, path)),
            [_] => {}
            _ => return Err(TreeError::Misplaced { tree: tree(), file: path.to_owned(), expected: IN_CLASS }.into()),
        }
    }
    // A part of which all images lie about has no labels; one of which some do was not meant that way.
    if let Some((_, path)) = unlabelled.iter().find(|(part, _)| *part == "train" || found.contains_key(part)) {
        return Err(TreeError::Misplaced { tree: tree(), file: (*path).to_owned(), expected: IN_CLASS }.into());
    }
    if !found.contains_key("train") {
        return Err(TreeError::NoTrain { tree: tree() }.into());
    }
    let classes: Vec<&str> = classes.into_iter().collect();
    let labels = Labels::new(listing, &classes)?;
    let mut samples = |part: &str| -> Result<Vec<Sample>, DataError> {
        let members = found.remove(part).unwrap_or_default().into_iter();
        members
            .map(|(file, class)| Ok(Sample { file, label: labels.of(class, || listing.files[file].path.clone())? }))
            .collect()
    };
    let (train, mut validation, mut test) = (samples("train")?, samples("val")?, samples("test")?);
    if test.is_empty() {
        std::mem::swap(&mut validation, &mut test);
    }
    let class_names = classes.into_iter().map(str::to_owned).collect();
    Ok(Layout { class_names, train, validation, test })
}

/// Tiny-ImageNet as published.
fn tiny_imagenet(listing: &mut Listing<'_>, wnids: usize, annotations: usize) -> Result<Layout, DataError> {
    let wnids = text(listing, wnids)?;
    let annotations = text(listing, annotations)?;
    let classes = read_wnids(listing, &wnids)?;
    let labels = Labels::new(listing, &classes)?;
    let tree = || listing.label.clone();

    let mut layout = Layout::default();
    let mut validation_images: HashMap<&str, usize> = HashMap::new();
    for (position, file) in listing.files.iter().enumerate() {
        let path = file.path.as_str();
        match path.split('/').collect::<Vec<_>>()[..] {
            ["train", class, "images", name] | ["train", class, name] if is_image(name) => {
                layout.train.push(Sample { file: position, label: labels.of(class, || path.to_owned())? });
            }
            ["train", _, boxes] if boxes.ends_with("_boxes.txt") => {}
            ["val", "images", name] if is_image(name) => drop(validation_images.insert(name, position)),
            ["test", ..] | [WNIDS] => {}
            _ if path == ANNOTATIONS => {}
            _ => {
                let expected = "train/WNID/images/IMAGE or val/images/IMAGE";
                return Err(TreeError::Misplaced { tree: tree(), file: path.to_owned(), expected }.into());
            }
        }
    }
    for (line, number) in annotations.lines().zip(1..) {
        let mut fields = line.split('\t');
        let (Some(image), Some(class)) = (fields.next(), fields.next()) else {
            let expected = "an image, a tab and its WordNet identifier";
            let (file, found) = (ANNOTATIONS, line.chars().take(60).collect());
            return Err(TreeError::Line { tree: tree(), file, line: number, found, expected }.into());
        };
        let label = labels.of(class, || format!("{ANNOTATIONS}, line {number}"))?;
        match validation_images.remove(image) {
            Some(file) => layout.test.push(Sample { file, label }),
            None => {
                let item = image.chars().take(60).collect::<String>();
                let twice = annotations.lines().take(number - 1).any(|line| line.split('\t').next() == Some(image));
                return Err(match twice {
                    true => TreeError::ListedTwice { tree: tree(), file: ANNOTATIONS, line: number, item },
                    false => TreeError::ListedNotThere { tree: tree(), file: ANNOTATIONS, item },
                }
                .into());
            }
        }
    }
    if let Some(item) = validation_images.into_keys().min() {
        let item = format!("val/images/{item}");
        return Err(TreeError::NotListed { tree: tree(), file: ANNOTATIONS, item }.into());
    }
    layout.test.sort_by_key(|sample| sample.file);
    layout.class_names = classes.into_iter().map(str::to_owned).collect();
    Ok(layout)
}

/// The classes in rising order.
fn read_wnids<'a>(listing: &Listing<'_>, text: &'a str) -> Result<Vec<&'a str>, DataError> {
    let tree = || listing.label.clone();
    let mut classes = BTreeSet::new();
    for (wnid, line) in text.lines().zip(1..) {
        if wnid.is_empty() || wnid.chars().any(|c| !c.is_ascii_alphanumeric()) {
            let found = wnid.chars().take(60).collect();
            let expected = "a WordNet identifier such as n01443537";
            return Err(TreeError::Line { tree: tree(), file: WNIDS, line, found, expected }.into());
        }
        if !classes.insert(wnid) {
            let item = wnid.chars().take(60).collect();
            return Err(TreeError::ListedTwice { tree: tree(), file: WNIDS, line, item }.into());
        }
    }
    Ok(classes.into_iter().collect())
}

fn text(listing: &mut Listing<'_>, file: usize) -> Result<String, DataError> {
    let bytes = listing.read(file)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= MAX_TEXT);
    text.ok_or_else(|| {
        let (tree, file) = (listing.label.clone(), listing.files[file].path.clone());
        TreeError::NotText { tree, file, limit: MAX_TEXT }.into()
    })
}

fn is_image(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// Numbers of the classes by their names.
struct Labels<'a> {
    tree: String,
    by_name: HashMap<&'a str, u16>,
}

impl<'a> Labels<'a> {
    fn new(listing: &Listing<'_>, classes: &[&'a str]) -> Result<Self, DataError> {
        if classes.len() > MAX_CLASSES {
            return Err(DataError::TooManyClasses { name: listing.label.clone(), classes: classes.len() });
        }
        let by_name = classes.iter().copied().zip(0..=u16::MAX).collect();
        Ok(Self { tree: listing.label.clone(), by_name })
    }

    fn of(&self, class: &str, file: impl FnOnce() -> String) -> Result<u16, TreeError> {
        self.by_name.get(class).copied().ok_or_else(|| TreeError::UnknownClass {
            tree: self.tree.clone(),
            file: file(),
            class: class.chars().take(60).collect(),
            classes: self.by_name.len(),
        })
    }
}
