//! The files of the repository, in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Left out when git cannot list the files.
const NOT_OURS: [&str; 3] = [".git", "target", "runs"];

/// Paths relative to the root, with `/` between the parts, and what lies there.
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
}

struct File {
    bytes: u64,
    /// `None` for what is not text: not UTF-8, or with a NUL in it.
    text: Option<String>,
}

impl Tree {
    /// Reads what git tracks and what it would track; all but build outputs if git cannot tell.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let paths = match git_paths(root) {
            Some(paths) => paths,
            None => walked_paths(root, "")?,
        };
        let mut files = BTreeMap::new();
        for path in paths {
            let place = root.join(&path);
            // A file that git still tracks may be deleted, and a link is judged where it points.
            if !fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file()) {
                continue;
            }
            let bytes = fs::read(&place).with_context(|| format!("cannot read {path}"))?;
            files.insert(path, File::new(bytes));
        }
        Ok(Self { files })
    }

    /// A tree of texts, for the tests of rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| (path.to_owned(), File::new(text.into()));
        Self { files: files.iter().map(file).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is a file or a folder at the path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let inside = self.files.range(folder.clone()..).next();
        self.files.contains_key(path) || inside.is_some_and(|(path, _)| path.starts_with(&folder))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text.as_deref()
    }

    /// Path and length in bytes of every file.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        let files = self.files.iter();
        files.map(|(path, file)| (path.as_str(), file.bytes))
    }

    /// Path and content of every text file.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter();
        files.filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)))
    }

    /// Path and content of every Rust source.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }
}

impl File {
    fn new(content: Vec<u8>) -> Self {
        Self { bytes: content.len() as u64, text: String::from_utf8(content).ok().filter(|text| !text.contains('\0')) }
    }
}

/// Tracked files and those that are new but not ignored. `None` without git or outside a clone.
fn git_paths(root: &Path) -> Option<Vec<String>> {
    let output =
        Command::new("git").args(["ls-files", "-z", "-co", "--exclude-standard"]).current_dir(root).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let listing = String::from_utf8(output.stdout).ok()?;
    let paths = listing.split_terminator('\0').map(str::to_owned);
    Some(paths.collect())
}

/// All files below `folder`, which is empty or ends in `/`.
fn walked_paths(root: &Path, folder: &str) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("cannot list {folder:?}"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}{name}");
        if !entry.file_type()?.is_dir() {
            paths.push(path);
        } else if !NOT_OURS.contains(&name.as_str()) {
            paths.extend(walked_paths(root, &format!("{path}/"))?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_found_and_prefixes_are_not() {
        let tree = Tree::of(&[("docs/book/intro.md", ""), ("docs.md", "")]);
        assert!(tree.has("docs.md") && tree.has("docs") && tree.has("docs/book"));
        assert!(!tree.has("doc") && !tree.has("docs/boo") && !tree.has("intro.md"));
    }

    #[test]
    fn only_text_counts_as_text() {
        assert!(File::new(b"caf\xc3\xa9".to_vec()).text.is_some());
        assert!(File::new(b"caf\xe9".to_vec()).text.is_none());
        assert!(File::new(b"a\0b".to_vec()).text.is_none());
    }
}
