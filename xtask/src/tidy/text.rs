//! Rules for every text file: clean whitespace, and nothing that holds on one machine only.

use super::Failure;
use super::tree::Tree;

/// Folders whose data files are as they are on purpose, with the reason.
const RAW_DATA: [(&str, &str); 1] = [("/hostile/", "files made to abuse the readers of files")];

/// Hosts of package registries, in parts, so that this file does not break the rule. The name of the
/// registry's index in Cargo.lock is a GitHub address and passes.
const REGISTRY_HOSTS: [&str; 7] = [
    concat!("//crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("deb.deb", "ian.org"),
];

/// In parts, as above.
const MACHINE_FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// No tabs, no blanks at the end of a line, no carriage returns, a newline at the end.
pub(crate) fn whitespace(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| !is_raw_data(path)) {
        let mut fail = |line, what: &str, cure| {
            failures.push(Failure { path: path.to_owned(), line, rule: "whitespace", what: what.to_owned(), cure });
        };
        if let Some(at) = text.find('\r') {
            let line = text[..at].matches('\n').count() + 1;
            fail(line, "carriage return", "end lines with a newline only");
        }
        for (number, line) in text.lines().enumerate() {
            if line.contains('\t') {
                fail(number + 1, "tab", "indent with blanks");
            }
            if line.ends_with([' ', '\t']) {
                fail(number + 1, "blank at the end of the line", "remove it");
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            fail(text.lines().count(), "no newline at the end", "add one");
        }
    }
    failures
}

fn is_raw_data(path: &str) -> bool {
    !path.ends_with(".rs") && RAW_DATA.iter().any(|(folder, _)| path.contains(folder))
}

/// Where packages come from is the business of the machine's settings.
pub(crate) fn registry_hosts(tree: &Tree) -> Vec<Failure> {
    let found = |line: &str| {
        let mut hosts = REGISTRY_HOSTS.into_iter();
        hosts.find(|host| line.contains(host))
    };
    let cure = "name the package, not the host it comes from";
    banned(tree, "registry-hosts", found, cure)
}

/// A path of one machine is wrong on the next.
pub(crate) fn absolute_paths(tree: &Tree) -> Vec<Failure> {
    let found = |line: &str| {
        let mut folders = MACHINE_FOLDERS.into_iter();
        folders.find(|folder| has_absolute(line, folder))
    };
    let cure = "write it relative to the repository, or as a placeholder";
    banned(tree, "absolute-paths", found, cure)
}

/// Whether the folder is there as the start of a path and not as a part of a longer one.
fn has_absolute(line: &str, folder: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || "_-.~})*>".contains(c);
    line.match_indices(folder).any(|(at, _)| !line[..at].chars().next_back().is_some_and(continues))
}

fn banned(
    tree: &Tree,
    rule: &'static str,
    found: impl Fn(&str) -> Option<&'static str>,
    cure: &'static str,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, text) in tree.texts() {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = found(line) {
                failures.push(Failure {
                    path: path.to_owned(),
                    line: number + 1,
                    rule,
                    what: format!("`{word}`"),
                    cure,
                });
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn clean_text_passes() {
        let files = [("a.md", "one\n\n  two\n"), ("empty", ""), ("tests/hostile/a.toml", "\t \r\n")];
        assert!(found(whitespace, &files).is_empty());
    }

    #[test]
    fn each_kind_of_bad_whitespace_is_found() {
        for text in ["a\nb\tc\n", "a\nb \n", "a\nb\r\n", "a\nb"] {
            assert_eq!(found(whitespace, &[("a.md", text)]), ["a.md:2"], "{text:?}");
        }
        assert_eq!(found(whitespace, &[("tests/hostile/a.rs", "a")]).len(), 1);
    }

    #[test]
    fn registry_hosts_are_found() {
        for host in REGISTRY_HOSTS {
            let text = format!("see\nhttps:{host}/x\n");
            assert_eq!(found(registry_hosts, &[("a.md", &text)]), ["a.md:2"], "{host}");
        }
    }

    #[test]
    fn the_index_in_the_lock_file_passes() {
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        let files = [("Cargo.lock", lock), ("a.md", "on crates.io\n")];
        assert!(found(registry_hosts, &files).is_empty());
    }

    #[test]
    fn machine_paths_are_found_where_they_start() {
        for folder in MACHINE_FOLDERS {
            for before in ["", "\"", "cd ", "file://", "PATH=", "a:"] {
                let text = format!("\n{before}{folder}x\n");
                assert_eq!(found(absolute_paths, &[("a", &text)]), ["a:2"], "{text}");
            }
            for before in ["frame", "~", "$DIR", "${DIR}", ".", "<root>"] {
                let text = format!("{before}{folder}x\n");
                assert!(found(absolute_paths, &[("a", &text)]).is_empty(), "{text}");
            }
        }
    }
}
