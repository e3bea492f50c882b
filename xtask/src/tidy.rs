//! `cargo xtask tidy`: a test of the repository itself.
//!
//! A rule is a function from the files of the repository, held in memory, to the failures that it
//! finds. A rule that may be broken somewhere for a good reason has a list of such places, each with
//! its reason, as a constant beside it.

mod architecture;
mod circles;
mod citations;
mod links;
mod repository;
mod rust_code;
mod sources;
mod text;
mod tree;

use std::fmt;
use std::path::Path;

use tree::Tree;

/// One place where one rule is broken. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
    cure: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, what, cure } = self;
        write!(f, "{path}:{line}: {rule}: {what}; {cure}")
    }
}

type Rule = fn(&Tree) -> Vec<Failure>;

const RULES: [Rule; 17] = [
    architecture::dependencies,
    architecture::no_input_output,
    architecture::no_global_random,
    circles::circles,
    citations::cited_documents,
    links::relative_links,
    repository::cargo_lock,
    repository::file_size,
    repository::readme_length,
    repository::required_files,
    sources::file_length,
    sources::leftovers,
    sources::line_length,
    sources::opening_doc,
    text::absolute_paths,
    text::registry_hosts,
    text::whitespace,
];

/// Applies every rule to the repository and prints all failures; returns the exit code.
///
/// # Errors
/// If the files of the repository cannot be read.
pub(crate) fn run(root: &Path) -> anyhow::Result<u8> {
    let tree = Tree::read(root)?;
    let mut failures: Vec<Failure> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    failures.sort();
    for failure in &failures {
        println!("{failure}");
    }
    println!("tidy: {} files, {} rules, {} failures", tree.len(), RULES.len(), failures.len());
    Ok(u8::from(!failures.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule finds, as `path:line`.
    pub(super) fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let failures = rule(&Tree::of(files));
        let place = |failure: &Failure| format!("{}:{}", failure.path, failure.line);
        failures.iter().map(place).collect()
    }

    #[test]
    fn a_failure_prints_as_place_rule_and_cure() {
        let failures = repository::readme_length(&Tree::of(&[("README.md", &"x\n".repeat(81))]));
        assert_eq!(
            failures[0].to_string(),
            "README.md:81: readme-length: it has 81 lines, more than 80; move detail to docs/"
        );
    }
}
