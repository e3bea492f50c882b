//! No two files of a crate import each other in a circle: a reader can take them one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::Failure;
use super::rust_code::{code_only, without_tests};
use super::tree::Tree;

/// Circles that may stay, by a file in each, with the reason; three at most.
const MAY_GO_IN_A_CIRCLE: [(&str, &str); 0] = [];

/// Checks every crate of the workspace.
pub(crate) fn circles(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    let manifests = tree.texts().filter_map(|(path, _)| path.strip_suffix("Cargo.toml"));
    for source in manifests.map(|folder| format!("{folder}src/")) {
        let files = tree.texts().filter(|(path, _)| path.starts_with(&source) && path.ends_with(".rs"));
        let sources = Sources::new(files.map(|(path, text)| (path.to_owned(), text.to_owned())).collect(), &source);
        for circle in sources.circles() {
            let may = MAY_GO_IN_A_CIRCLE.iter().any(|(file, _)| circle.iter().any(|path| path == file));
            if !may {
                failures.push(Failure {
                    path: circle[0].clone(),
                    line: 1,
                    rule: "circles",
                    what: format!("{} import each other in a circle", circle.join(", ")),
                    cure: "move what both need to a file of its own, or to the one that it belongs to",
                });
            }
        }
    }
    failures
}

/// The source files of a crate by their module path, such as `["search", "pgd"]`; the root has none.
struct Sources {
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    path: String,
    /// What it imports, as written.
    uses: Vec<Vec<String>>,
    /// What it hands on: a name, and where that is from.
    hands_on: Vec<(String, Vec<String>)>,
}

impl Sources {
    fn new(files: Vec<(String, String)>, source: &str) -> Self {
        let module = |(path, text): (String, String)| {
            let name = path[source.len()..].trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
            let parts = match name.as_str() {
                "lib" | "main" => Vec::new(),
                name => name.split('/').map(str::to_owned).collect(),
            };
            let code = without_tests(&code_only(&text));
            let (mut uses, mut hands_on) = (inline(&code), Vec::new());
            for (public, tree) in statements(&code) {
                for leaf in leaves(&tree) {
                    match public {
                        true => hands_on.push((leaf.last().cloned().unwrap_or_default(), leaf)),
                        false => uses.push(leaf),
                    }
                }
            }
            (parts, Module { path, uses, hands_on })
        };
        Self { modules: files.into_iter().map(module).collect() }
    }

    /// The module that a path written in module `from` leads to: the one that defines what it names, or the file itself.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let mut at = from.to_vec();
        let mut rest = path;
        match path.first().map(String::as_str)? {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                at.push(first.to_owned());
                if !self.modules.contains_key(&at) {
                    return None;
                }
                rest = &path[1..];
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        for (index, part) in rest.iter().enumerate() {
            let mut inner = at.clone();
            inner.push(part.clone());
            if self.modules.contains_key(&inner) {
                at = inner;
                continue;
            }
            let handed = self.modules.get(&at)?.hands_on.iter().find(|(name, _)| name == part);
            return match handed.filter(|_| depth < 8) {
                Some((_, target)) => {
                    let whole: Vec<String> = target.iter().chain(&rest[index + 1..]).cloned().collect();
                    self.resolve(&at, &whole, depth + 1)
                }
                None => Some(at),
            };
        }
        Some(at)
    }

    /// The files of each circle, by path.
    fn circles(&self) -> Vec<Vec<String>> {
        let edges = |(name, module): (&Vec<String>, &Module)| {
            let found = module.uses.iter().filter_map(|path| self.resolve(name, path, 0));
            (name.clone(), found.filter(|target| target != name).collect::<BTreeSet<_>>())
        };
        let edges: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = self.modules.iter().map(edges).collect();
        let reach: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
            edges.keys().map(|name| (name, reached(&edges, name))).collect();
        let mut circles = BTreeSet::new();
        for (name, found) in &reach {
            let with: Vec<String> = found
                .iter()
                .filter(|other| reach.get(*other).is_some_and(|back| back.contains(name)))
                .filter_map(|other| Some(self.modules.get(*other)?.path.clone()))
                .collect();
            if with.len() > 1 {
                circles.insert(with);
            }
        }
        circles.into_iter().collect()
    }
}

fn reached<'a>(
    edges: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    from: &Vec<String>,
) -> BTreeSet<&'a Vec<String>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Vec<String>> = edges.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(edges.get(next).into_iter().flatten());
        }
    }
    found
}

/// Every `use` of the code, whether it is public, and its tree.
fn statements(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("use ") {
        let line = &code[code[..start].rfind(['\n', ';', '}', '{']).map_or(0, |at| at + 1)..start];
        let before = line.trim();
        if before.is_empty() || before.starts_with("pub") {
            let tree = code[start + 4..].split(';').next().unwrap_or_default();
            found.push((!before.is_empty(), tree.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found
}

/// The paths of a `use` tree: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let parts = |path: &str| -> Vec<String> {
        path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty() && part != "*").collect()
    };
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![parts(path)];
    };
    let prefix = parts(&tree[..open]);
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = inner[from..at].trim();
                from = at + 1;
                if !item.is_empty() {
                    let whole = |leaf: Vec<String>| {
                        prefix.iter().cloned().chain(leaf.into_iter().filter(|part| part != "self"))
                    };
                    found.extend(leaves(item).into_iter().map(|leaf| whole(leaf).collect()));
                }
            }
            _ => {}
        }
    }
    found
}

/// Paths that begin with `crate` or `super` anywhere in the code, `use` left out.
fn inline(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["crate::", "super::"] {
        for (start, _) in code.match_indices(word) {
            let statement = &code[code[..start].rfind([';', '}']).map_or(0, |at| at + 1)..start];
            let before = code[..start].chars().next_back();
            let is_use = statement.trim_start().starts_with("use ") || statement.contains(" use ");
            if is_use || before.is_some_and(|c| c == ':' || c.is_alphanumeric() || c == '_' || c == '(') {
                continue;
            }
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = code[start..].chars().take_while(|&c| is_path(c)).collect();
            found.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn files_that_import_each_other_are_found_also_through_what_others_hand_on() {
        let manifest = ("crates/a/Cargo.toml", "");
        for files in [
            [
                ("crates/a/src/lib.rs", "mod b; mod c;"),
                ("crates/a/src/b.rs", "use crate::c::C;"),
                ("crates/a/src/c.rs", "use crate::b::B;"),
            ],
            [
                ("crates/a/src/lib.rs", "mod b; mod c; pub use c::C;"),
                ("crates/a/src/b.rs", "use crate::{C, x};"),
                ("crates/a/src/c.rs", "fn f(b: &crate::b::B) {}"),
            ],
            [
                ("crates/a/src/lib.rs", "mod b;"),
                ("crates/a/src/b.rs", "mod c;\nuse c::C;"),
                ("crates/a/src/b/c.rs", "use super::B;"),
            ],
        ] {
            let files: Vec<(&str, &str)> = std::iter::once(manifest).chain(files).collect();
            assert_eq!(found(circles, &files), ["crates/a/src/b.rs:1"], "{files:?}");
        }
    }

    #[test]
    fn files_that_lean_on_each_other_one_way_pass() {
        let files = [
            ("crates/a/Cargo.toml", ""),
            ("crates/a/src/lib.rs", "mod b; mod c; pub use b::B;"),
            ("crates/a/src/b.rs", "use crate::c::{C, D as E};\nuse std::fmt;"),
            ("crates/a/src/c.rs", "pub struct C;\n#[cfg(test)] mod tests { use crate::b::B; }\n// use crate::b::B;"),
        ];
        assert!(found(circles, &files).is_empty());
    }

    #[test]
    fn a_tree_of_imports_is_read_to_its_leaves() {
        let paths: Vec<String> = leaves("a::{self, b::{c, d as e}, f}").iter().map(|leaf| leaf.join("::")).collect();
        assert_eq!(paths, ["a", "a::b::c", "a::b::d", "a::f"]);
    }
}
