//! Every Markdown file that a comment or a page names is there.

use super::Failure;
use super::tree::Tree;

/// Files that a run writes, or that others have.
const NOT_OURS: [&str; 1] = ["model-card.md"];

/// Checks every `NAME.md` in Rust, TOML and Markdown: by its path from the root or from the file, or by its name alone.
pub(crate) fn cited_documents(tree: &Tree) -> Vec<Failure> {
    let pages: Vec<&str> = tree.texts().map(|(path, _)| path).filter(|path| path.ends_with(".md")).collect();
    let mut failures = Vec::new();
    let reads = |path: &str| [".rs", ".toml", ".md"].iter().any(|end| path.ends_with(end));
    // The tests of these rules are about files that are nowhere.
    let readers = tree.texts().filter(|(path, _)| reads(path) && !path.starts_with("xtask/src/tidy"));
    for (path, text) in readers {
        for (number, line) in text.lines().enumerate() {
            // Of code only comments cite; a test may make files of its own.
            let line = match path.ends_with(".rs") {
                true => line.find("//").map_or("", |at| &line[at..]),
                false => line,
            };
            for name in names(line) {
                let last = name.rsplit('/').next().unwrap_or(name);
                let is_page = |page: &&str| page.rsplit('/').next() == Some(last) && page.ends_with(name);
                if !NOT_OURS.contains(&last) && !pages.iter().any(is_page) {
                    failures.push(Failure {
                        path: path.to_owned(),
                        line: number + 1,
                        rule: "cited-documents",
                        what: format!("`{name}` is not in the repository"),
                        cure: "name a file that is there, or write it",
                    });
                }
            }
        }
    }
    failures
}

/// The names that end in `.md` on a line; what comes after the name of a folder of one's own choosing is none.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_alphanumeric() || "./_-".contains(c);
    let words =
        line.split(move |c: char| !is_name(c)).map(|word| word.trim_end_matches('.').trim_start_matches(['.', '/']));
    words.filter(|word| word.len() > 3 && word.ends_with(".md") && !line.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn a_document_that_is_not_there_is_found_by_the_line_that_names_it() {
        let files = [
            ("docs/papers/method.md", ""),
            ("crates/a/src/lib.rs", "//! See docs/papers/method.md 2.1, method.md and\n// baselines.md."),
            ("docs/use.md", "as [method.md](papers/method.md) says, in `gone.md`\nand ../docs/papers/method.md"),
        ];
        assert_eq!(found(cited_documents, &files), ["crates/a/src/lib.rs:2", "docs/use.md:1"]);
    }
}
