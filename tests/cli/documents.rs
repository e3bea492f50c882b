//! Every command that the README and the documents show is one that the program takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{neokd, stderr};

const PROGRAM: [&str; 2] = ["neokd ", "cargo run --release -- "];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    [root.join("README.md")].into_iter().chain(pages).collect()
}

/// The commands of a page: lines of code blocks, those that a backslash parts joined, and code spans that have a flag.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut in_fence = false;
    for line in joined.lines() {
        in_fence ^= line.trim_start().starts_with("```");
        if in_fence || line.starts_with("    ") {
            found.push(line.split(" # ").next().unwrap_or_default().to_string());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).filter(|span| span.contains(" --")).map(str::to_string));
        }
    }
    let arguments = |line: String| {
        let after = |start: &&str| line.trim().strip_prefix(*start).map(str::to_string);
        PROGRAM.iter().find_map(after)
    };
    found.into_iter().filter_map(arguments).collect()
}

#[test]
fn every_command_of_the_documents_parses() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).unwrap()) {
            // `...` says that there may be more of the same, a number in capitals that one is to be put there.
            let words = command.split_whitespace().map(|word| word.trim_end_matches("...").replace('"', ""));
            let words =
                words.map(|word| if word == "N" { "1".to_string() } else { word }).filter(|word| !word.is_empty());
            // Help comes after the rest is read, and ends the program before anything is done.
            let output = neokd().args(words).arg("--help").output().unwrap();
            seen += 1;
            if !output.status.success() {
                let why = stderr(&output).lines().next().unwrap_or_default().to_string();
                wrong.push(format!("{}: neokd {command}: {why}", page.file_name().unwrap().display()));
            }
        }
    }
    assert!(seen > 30, "{seen}");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn commands_are_found_and_a_wrong_one_is_noticed() {
    let text =
        "`neokd train --config mnist` and `neokd`\n\n    neokd attack --weights W \\\n        --epsilon 0.3  # note\n";
    let found: Vec<String> =
        commands(text).iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found, ["train --config mnist", "attack --weights W --epsilon 0.3"]);
    assert!(!neokd().args(["train", "--confg", "mnist", "--help"]).output().unwrap().status.success());
}
