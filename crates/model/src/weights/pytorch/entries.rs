//! Where in a checkpoint the weights are: under which key, and behind which prefix of their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::weights::{KeyReport, WeightsError};

/// Names and shapes of tensors.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Keys under which training checkpoints keep the weights: which entry an error speaks of where none fits.
const STATE_DICT_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// What a tensor says about itself. Two that are equal are one.
pub(super) trait Described: PartialEq {
    fn shape(&self) -> &[usize];

    /// Whether it holds integers or truth values, which no network has.
    fn is_integer(&self) -> bool;
}

/// All tensors in one place of a file: below a dictionary, list or module of it, or in the whole of it.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// Keys from the root.
    pub(super) path: Vec<String>,
    /// By their names from there.
    pub(super) tensors: BTreeMap<String, T>,
}

impl<T: Described> Entry<T> {
    /// What the wanted names are behind: every prefix that has all of them, or the one that has most.
    fn prefixes(&self, wanted: &Shapes) -> Vec<&str> {
        let mut found: HashMap<&str, usize> = HashMap::new();
        for name in self.tensors.keys() {
            let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
            for start in starts.filter(|start| wanted.contains_key(&name[*start..])) {
                *found.entry(&name[..start]).or_default() += 1;
            }
        }
        let mut whole: Vec<&str> =
            found.iter().filter(|(_, names)| **names == wanted.len()).map(|(at, _)| *at).collect();
        whole.sort_unstable_by_key(|prefix| (prefix.len(), *prefix));
        match whole.is_empty() {
            true => vec![found.into_iter().max_by_key(|(at, names)| (*names, *at)).map_or("", |(prefix, _)| prefix)],
            false => whole,
        }
    }
}

/// An entry with a prefix, held against the names and shapes that are wanted.
#[derive(Debug)]
pub(super) struct Fit<'a, T> {
    pub(super) entry: &'a Entry<T>,
    /// What stands before every wanted name.
    pub(super) prefix: &'a str,
    pub(super) report: KeyReport,
}

impl<'a, T: Described> Fit<'a, T> {
    fn new(entry: &'a Entry<T>, prefix: &'a str, wanted: &Shapes) -> Self {
        let mut fit = Self { entry, prefix, report: KeyReport::default() };
        for (name, shape) in wanted {
            match fit.tensor(name) {
                None => fit.report.missing.push(name.clone()),
                Some(tensor) if tensor.shape() != shape => {
                    fit.report.misshapen.push(format!("{name} {:?} instead of {shape:?}", tensor.shape()));
                }
                Some(_) => {}
            }
        }
        let is_wanted = |name: &str| name.strip_prefix(prefix).is_some_and(|name| wanted.contains_key(name));
        let unknown = entry.tensors.iter().filter(|(name, tensor)| !tensor.is_integer() && !is_wanted(name));
        fit.report.unexpected = unknown.map(|(name, _)| fit.short(name).to_string()).collect();
        fit
    }

    /// Whether everything that is wanted is there, whatever else is.
    fn is_whole(&self) -> bool {
        self.report.missing.is_empty() && self.report.misshapen.is_empty()
    }

    /// The keys and the prefix, as `--key` takes them.
    fn key(&self) -> String {
        let prefix = self.prefix.trim_end_matches('.');
        let parts = self.entry.path.iter().map(String::as_str).chain((!prefix.is_empty()).then_some(prefix));
        parts.collect::<Vec<_>>().join(".")
    }

    fn is_named(&self, key: &str) -> bool {
        self.key() == key || self.entry.path.join(".") == key
    }

    /// A name of the file without the prefix, where it has it.
    pub(super) fn short<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }

    /// The tensor of a wanted name.
    pub(super) fn tensor(&self, name: &str) -> Option<&'a T> {
        self.entry.tensors.get(&format!("{}{name}", self.prefix))
    }

    /// Tensors that are not wanted, by their names in the file: those that are a wanted one once more, and the others.
    pub(super) fn unwanted(&self, wanted: &Shapes) -> (Vec<String>, Vec<String>) {
        let taken: Vec<&T> = wanted.keys().filter_map(|name| self.tensor(name)).collect();
        let is_wanted = |name: &str| name.strip_prefix(self.prefix).is_some_and(|name| wanted.contains_key(name));
        let unknown = self.entry.tensors.iter().filter(|(name, tensor)| !tensor.is_integer() && !is_wanted(name));
        let (again, others): (Vec<_>, Vec<_>) = unknown.partition(|(_, tensor)| taken.contains(tensor));
        let names =
            |found: Vec<(&String, &T)>| found.into_iter().map(|(name, _)| self.short(name).to_string()).collect();
        (names(again), names(others))
    }

    /// The entry for a list of entries.
    fn line(&self) -> String {
        let inside = || self.entry.tensors.iter().filter(|(name, _)| name.starts_with(self.prefix));
        let values = inside().map(|(_, tensor)| tensor.shape().iter().product::<usize>()).sum::<usize>();
        let key = Some(self.key()).filter(|key| !key.is_empty()).unwrap_or_else(|| "the file itself".to_string());
        format!("{key} ({} tensors, {values} values)", inside().count())
    }
}

/// The entry that has all that is wanted, or the one named by `key`.
///
/// # Errors
/// [`WeightsError::Entries`] if several have it and differ, [`WeightsError::Key`] if there is none of that name, and
/// [`WeightsError::Mismatch`] with what the closest entry lacks if none has it.
pub(super) fn choose<'a, T: Described>(
    entries: &'a [Entry<T>],
    wanted: &Shapes,
    key: Option<&str>,
) -> Result<Fit<'a, T>, WeightsError> {
    let prefixes = |entry: &'a Entry<T>| entry.prefixes(wanted).into_iter().map(move |prefix| (entry, prefix));
    let fits = entries.iter().flat_map(prefixes).map(|(entry, prefix)| Fit::new(entry, prefix, wanted));
    let mut fits: Vec<Fit<'a, T>> = fits.collect();
    if let Some(key) = key {
        if !fits.iter().any(|fit| fit.is_named(key)) {
            let entries = fits.iter().filter(|fit| fit.entry.path.len() <= 1).map(Fit::line).collect();
            return Err(WeightsError::Key { key: key.to_string(), entries });
        }
        fits.retain(|fit| fit.is_named(key));
    }
    // The same place may be an entry of its own and a prefix of what is around it: the entry comes first.
    fits.sort_by_key(|fit| std::cmp::Reverse(fit.entry.path.len()));
    let mut seen = BTreeSet::new();
    let mut whole: Vec<usize> = Vec::new();
    for (at, fit) in fits.iter().enumerate() {
        if fit.is_whole() && seen.insert(fit.key()) {
            whole.push(at);
        }
    }
    if let Some(exact) = whole.iter().find(|at| key == Some(&fits[**at].key())) {
        whole = vec![*exact];
    }
    whole.sort_by_key(|at| (!is_usual(&fits[*at]), fits[*at].key().len()));
    let same = |one: usize, other: usize| wanted.keys().all(|name| fits[one].tensor(name) == fits[other].tensor(name));
    match whole.as_slice() {
        [] => Err(WeightsError::Mismatch(closest(fits))),
        [first, others @ ..] if others.iter().all(|other| same(*first, *other)) => Ok(fits.swap_remove(*first)),
        several => Err(WeightsError::Entries(several.iter().map(|at| fits[*at].line()).collect())),
    }
}

fn is_usual<T>(fit: &Fit<'_, T>) -> bool {
    matches!(fit.entry.path.as_slice(), [key] if STATE_DICT_KEYS.contains(&key.as_str()))
}

/// What the entry lacks that has most of what is wanted.
fn closest<T: Described>(fits: Vec<Fit<'_, T>>) -> KeyReport {
    let lacks = |fit: &Fit<'_, T>| (fit.report.missing.len(), fit.report.misshapen.len());
    let closest = fits.into_iter().min_by_key(|fit| (lacks(fit), !is_usual(fit), fit.report.unexpected.len()));
    closest.map(|fit| fit.report).unwrap_or_default()
}
