//! Rules for the repository as a whole: which files there are and how large they may be.

use super::Failure;
use super::tree::Tree;

const REQUIRED: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE-MIT", "LICENSE-APACHE"];

const README_LINES: usize = 80;

const MEBIBYTE: u64 = 1 << 20;

/// Folders with large files, with the reason.
const MAY_BE_LARGE: [(&str, &str); 2] = [
    ("datasets/mnist/", "the images that the tests train on"),
    ("tests/golden/small-cnn/", "the weights of the network that the golden attacks were made with"),
];

/// The files that a visitor looks for are there.
pub(crate) fn required_files(tree: &Tree) -> Vec<Failure> {
    let missing = REQUIRED.into_iter().filter(|path| !tree.has(path));
    let failure = |path: &str| Failure {
        path: path.to_owned(),
        line: 1,
        rule: "required-files",
        what: "there is no such file".to_owned(),
        cure: "write it",
    };
    missing.map(failure).collect()
}

/// Builds are of the versions that were tested: Cargo.lock is there and git does not ignore it.
pub(crate) fn cargo_lock(tree: &Tree) -> Vec<Failure> {
    if tree.has("Cargo.lock") {
        return Vec::new();
    }
    vec![Failure {
        path: "Cargo.lock".to_owned(),
        line: 1,
        rule: "cargo-lock",
        what: "it is missing or ignored".to_owned(),
        cure: "take it out of .gitignore and commit it",
    }]
}

/// The README is one screen and a half; the rest is in docs/.
pub(crate) fn readme_length(tree: &Tree) -> Vec<Failure> {
    let lines = tree.text("README.md").map_or(0, |text| text.lines().count());
    if lines <= README_LINES {
        return Vec::new();
    }
    vec![Failure {
        path: "README.md".to_owned(),
        line: README_LINES + 1,
        rule: "readme-length",
        what: format!("it has {lines} lines, more than {README_LINES}"),
        cure: "move detail to docs/",
    }]
}

/// A clone stays small.
pub(crate) fn file_size(tree: &Tree) -> Vec<Failure> {
    let may_be_large = |path: &str| {
        let mut folders = MAY_BE_LARGE.iter();
        folders.any(|(folder, _)| path.starts_with(folder))
    };
    let mut failures = Vec::new();
    for (path, bytes) in tree.sizes() {
        if bytes > MEBIBYTE && !may_be_large(path) {
            failures.push(Failure {
                path: path.to_owned(),
                line: 1,
                rule: "file-size",
                what: format!("{bytes} bytes, more than 1 MiB"),
                cure: "keep it out of the repository, or store less of it",
            });
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn each_required_file_is_missed() {
        let all = REQUIRED.map(|path| (path, "x\n"));
        assert!(found(required_files, &all).is_empty());
        assert_eq!(found(required_files, &all[1..]), ["README.md:1"]);
    }

    #[test]
    fn cargo_lock_is_missed() {
        assert!(found(cargo_lock, &[("Cargo.lock", "")]).is_empty());
        assert_eq!(found(cargo_lock, &[("sub/Cargo.lock", "")]), ["Cargo.lock:1"]);
    }

    #[test]
    fn the_readme_has_at_most_80_lines() {
        assert!(found(readme_length, &[("README.md", &"x\n".repeat(80))]).is_empty());
        let files = [("README.md", &*"x\n".repeat(81)), ("docs/README.md", &*"x\n".repeat(99))];
        assert_eq!(found(readme_length, &files), ["README.md:81"]);
    }

    #[test]
    fn large_files_are_found_outside_of_the_embedded_data() {
        let (fits, large) = ("x".repeat(1 << 20), "x".repeat((1 << 20) + 1));
        let files = [("a.txt", &*fits), ("datasets/mnist/x.gz", &*large)];
        assert!(found(file_size, &files).is_empty());
        assert_eq!(found(file_size, &[("datasets/x.gz", &large)]), ["datasets/x.gz:1"]);
    }
}
