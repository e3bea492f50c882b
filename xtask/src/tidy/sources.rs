//! Rules for Rust sources: how they open, how long they get, what must not stay in them.

use super::Failure;
use super::rust_code::mentions;
use super::tree::Tree;

const LINE_CHARS: usize = 130;
const FILE_LINES: usize = 800;

/// Between these two comments lines may be long: for tables of strings.
const TABLE_BEGINS: &str = "// tidy: table";
const TABLE_ENDS: &str = "// tidy: end";

/// In parts, so that this file does not break the rule.
const LEFTOVERS: [&str; 5] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// A source opens with what it is for.
pub(crate) fn opening_doc(tree: &Tree) -> Vec<Failure> {
    let silent = tree.rust().filter(|(_, text)| !text.starts_with("//!"));
    let failure = |(path, _): (&str, &str)| Failure {
        path: path.to_owned(),
        line: 1,
        rule: "opening-doc",
        what: "the file does not open with `//!`".to_owned(),
        cure: "say in its first line what it is for",
    };
    silent.map(failure).collect()
}

/// A line fits on a screen.
pub(crate) fn line_length(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, text) in tree.rust() {
        let mut in_table = false;
        for (number, line) in text.lines().enumerate() {
            match line.trim() {
                TABLE_BEGINS => in_table = true,
                TABLE_ENDS => in_table = false,
                _ => {}
            }
            let chars = line.chars().count();
            if chars > LINE_CHARS && !in_table {
                failures.push(Failure {
                    path: path.to_owned(),
                    line: number + 1,
                    rule: "line-length",
                    what: format!("{chars} characters, more than {LINE_CHARS}"),
                    cure: "break the line, or put a table between `// tidy: table` and `// tidy: end`",
                });
            }
        }
    }
    failures
}

/// A file is read in one sitting.
pub(crate) fn file_length(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, text) in tree.rust() {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            failures.push(Failure {
                path: path.to_owned(),
                line: lines,
                rule: "file-length",
                what: format!("it has {lines} lines, more than {FILE_LINES}"),
                cure: "split it where its ideas part",
            });
        }
    }
    failures
}

/// What is unfinished goes to a branch or an issue, not into the sources.
pub(crate) fn leftovers(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, text) in tree.rust() {
        for (number, line) in text.lines().enumerate() {
            for left in LEFTOVERS.into_iter().filter(|left| mentions(line, left)) {
                failures.push(Failure {
                    path: path.to_owned(),
                    line: number + 1,
                    rule: "leftovers",
                    what: format!("`{left}`"),
                    cure: "finish it or take it out",
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
    fn a_source_must_open_with_a_doc() {
        assert!(found(opening_doc, &[("a.rs", "//! What.\n"), ("b.md", "")]).is_empty());
        for text in ["", "// What.\n", "\n//! Late.\n", "use a;\n//! Late.\n"] {
            assert_eq!(found(opening_doc, &[("a.rs", text)]), ["a.rs:1"], "{text:?}");
        }
    }

    #[test]
    fn a_line_has_at_most_130_characters() {
        let (fits, long) = ("é".repeat(130), "e".repeat(131));
        assert!(found(line_length, &[("a.rs", &fits), ("b.md", &long)]).is_empty());
        let text = format!("\n{long}\n");
        assert_eq!(found(line_length, &[("a.rs", &text)]), ["a.rs:2"]);
    }

    #[test]
    fn only_a_marked_table_may_be_wide() {
        let long = "e".repeat(131);
        let text = format!("{TABLE_BEGINS}\n{long}\n    {TABLE_ENDS}\n{long}\n");
        assert_eq!(found(line_length, &[("a.rs", &text)]), ["a.rs:4"]);
    }

    #[test]
    fn a_file_has_at_most_800_lines() {
        assert!(found(file_length, &[("a.rs", &"x\n".repeat(800))]).is_empty());
        assert_eq!(found(file_length, &[("a.rs", &"x\n".repeat(801))]), ["a.rs:801"]);
    }

    #[test]
    fn leftovers_are_found_in_code_and_in_comments() {
        for left in LEFTOVERS {
            let text = format!("//! What.\nf(); // {left}\n");
            assert_eq!(found(leftovers, &[("a.rs", &text)]), ["a.rs:2"], "{left}");
            let inside = format!("my_{left}");
            assert!(found(leftovers, &[("a.rs", &inside)]).is_empty(), "{inside}");
        }
    }
}
