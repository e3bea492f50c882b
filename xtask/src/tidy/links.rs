//! Relative links in Markdown point at files of the repository.

use super::Failure;
use super::tree::Tree;

/// Checks `[text](path)`, `![alt](path)` and `[name]: path` outside of code.
pub(crate) fn relative_links(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    let pages = tree.texts().filter(|(path, _)| path.ends_with(".md"));
    for (path, text) in pages {
        for (line, target) in links(text) {
            let reached = resolved(path, &target);
            if reached.is_none_or(|reached| !reached.is_empty() && !tree.has(&reached)) {
                failures.push(Failure {
                    path: path.to_owned(),
                    line,
                    rule: "relative-links",
                    what: format!("`{target}` leads nowhere"),
                    cure: "correct the path, or drop the link",
                });
            }
        }
    }
    failures
}

/// Line and path of every link to a file, without its `#fragment`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_fence = !in_fence;
        } else if !in_fence {
            let line = without_code(line);
            let paths = targets(&line).into_iter().filter_map(file_path);
            found.extend(paths.map(|path| (number + 1, path)));
        }
    }
    found
}

/// The line without its `code spans`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1);
    let mut found: Vec<&str> = inline.filter_map(|rest| rest.split(')').next()).collect();
    let is_footnote = line.starts_with("[^");
    if let Some((_, target)) = line.split_once("]: ")
        && line.starts_with('[')
        && !is_footnote
    {
        found.push(target);
    }
    found
}

/// The path in a link's target; `None` if it leads to the web, to a heading or to a Rust item.
fn file_path(target: &str) -> Option<String> {
    let target = target.trim();
    let path = match target.strip_prefix('<') {
        Some(rest) => rest.split('>').next(),
        None => target.split_whitespace().next(),
    }?;
    let path = path.split(['#', '?']).next()?.replace("%20", " ");
    let leaves = path.contains("://") || path.starts_with("mailto:") || path.contains("::");
    (!leaves && !path.is_empty()).then_some(path)
}

/// Where the target leads from the page, relative to the root; `None` if out of the repository.
fn resolved(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => page.split('/').collect(),
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    fn found_in_book(text: &str) -> Vec<String> {
        let files = [("README.md", ""), ("docs/use.md", ""), ("docs/book/a.md", text)];
        found(relative_links, &files)
    }

    #[test]
    fn links_to_files_folders_and_the_web_pass() {
        for text in [
            "[a](../use.md) and ![b](../../README.md \"title\")",
            "[a](../use.md#part), [b](#part), [c](<../use.md>)",
            "[folder](../../docs), [root](../..), [draft]()",
            "[web](https://example.org/x), [mail](mailto:a@example.org)",
            "[Rust](crate::Frozen)",
            "[a]: ../use.md",
            "[^1]: a note",
            "`[a](gone.md)`",
            "```\n[a](gone.md)\n```",
        ] {
            assert!(found_in_book(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for text in [
            "\n[a](use.md)",
            "\n[`a`](../gone.md#part)",
            "\n[a](../use.md) [b](../../../README.md)",
            "\n[a]: gone.md",
            "\n![a](gone.png)",
        ] {
            assert_eq!(found_in_book(text), ["docs/book/a.md:2"], "{text}");
        }
    }
}
