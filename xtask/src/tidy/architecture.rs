//! The architecture invariants that a reader of the sources could break without noticing.

use super::Failure;
use super::rust_code::{code_only, mentions, without_tests};
use super::tree::Tree;

/// What a crate must not depend on. Development dependencies are free.
struct Boundary {
    manifest: &'static str,
    /// Beginnings of package names.
    forbidden: &'static [&'static str],
    allowed: &'static [&'static str],
    because: &'static str,
}

const BOUNDARIES: [Boundary; 8] = [
    Boundary {
        manifest: "crates/model/Cargo.toml",
        forbidden: &["neokd"],
        allowed: &["neokd-kernels"],
        because: "a network knows no attack, no loss and no data",
    },
    Boundary {
        manifest: "crates/attack/Cargo.toml",
        forbidden: &["neokd"],
        allowed: &["neokd-model"],
        because: "an attack knows networks and nothing else of the workspace",
    },
    Boundary {
        manifest: "crates/distill/Cargo.toml",
        forbidden: &["neokd"],
        allowed: &[],
        because: "a training loss sees logits and knows no network",
    },
    Boundary {
        manifest: "datasets/Cargo.toml",
        forbidden: &["neokd", "burn"],
        allowed: &[],
        because: "data are bytes and labels, not tensors",
    },
    Boundary {
        manifest: "crates/kernels/Cargo.toml",
        forbidden: &["neokd"],
        allowed: &[],
        because: "a kernel knows tensors and nothing of the workspace",
    },
    Boundary {
        manifest: "crates/evaluate/Cargo.toml",
        forbidden: &["neokd", "clap", "indicatif"],
        allowed: &["neokd-model", "neokd-attack", "neokd-datasets"],
        because: "an evaluation knows no training, no report and no command line",
    },
    Boundary {
        manifest: "crates/train/Cargo.toml",
        forbidden: &["neokd-report", "neokd-tests", "clap", "indicatif"],
        allowed: &[],
        because: "training knows no report and no command line",
    },
    Boundary {
        manifest: "crates/report/Cargo.toml",
        forbidden: &["neokd-kernels", "neokd-distill", "burn", "clap", "indicatif"],
        allowed: &[],
        because: "a report draws what it reads and computes no tensor",
    },
];

/// The crates that leave all input and output to the crates above them.
const PURE: [&str; 4] = ["crates/kernels/src/", "crates/model/src/", "crates/attack/src/", "crates/distill/src/"];

const FILES: [&str; 3] = ["std::fs", "fs::", "File::"];
const PRINTING: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];

/// Sources of the pure crates that may open files, with the reason.
const MAY_OPEN_FILES: [(&str, &str); 1] =
    [("crates/model/src/weights.rs", "reads and writes weights at the path that the caller gives")];

const GLOBAL_RANDOM: [&str; 7] =
    ["Tensor::random", ">::random(", "random_like(", "Distribution::", "thread_rng", "rand::rng(", "rand::random"];

/// Sources that may use the global random generator, with the reason.
const MAY_USE_GLOBAL_RANDOM: [(&str, &str); 0] = [];

/// Each crate depends only on what ARCHITECTURE.md lets it see.
pub(crate) fn dependencies(tree: &Tree) -> Vec<Failure> {
    BOUNDARIES.iter().flat_map(|boundary| crossings(tree, boundary)).collect()
}

fn crossings(tree: &Tree, boundary: &Boundary) -> Vec<Failure> {
    let failure = |line, what| Failure {
        path: boundary.manifest.to_owned(),
        line,
        rule: "dependencies",
        what,
        cure: "drop the dependency, or move the code to a crate that may have it",
    };
    let Some(manifest) = tree.text(boundary.manifest) else {
        return vec![Failure {
            cure: "if the crate moved, name its new place in xtask/src/tidy/architecture.rs",
            ..failure(1, "there is no such manifest".to_owned())
        }];
    };
    let crosses = |package: &str| {
        boundary.forbidden.iter().any(|name| package.starts_with(name)) && !boundary.allowed.contains(&package)
    };
    let found = packages(manifest).into_iter();
    found
        .filter(|(_, package)| crosses(package))
        .map(|(line, package)| failure(line, format!("{package}: {}", boundary.because)))
        .collect()
}

/// Line and name of every package under a `[dependencies]` or `[build-dependencies]` table, also of
/// one target, also one written as a table of its own, also renamed.
fn packages(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            let parts: Vec<&str> = table.split('.').collect();
            let is_list = |part: &&str| matches!(*part, "dependencies" | "build-dependencies");
            let list = parts.iter().position(is_list);
            in_dependencies = list.is_some();
            if let Some(package) = list.and_then(|list| parts.get(list + 1)) {
                found.push((number + 1, unquoted(package)));
            }
        } else if in_dependencies && !line.is_empty() {
            let key = line.split(['=', '.']).next().unwrap_or_default();
            found.push((number + 1, unquoted(key)));
            if let Some((_, value)) = line.split_once("package")
                && let Some(name) = value.split('"').nth(1)
            {
                found.push((number + 1, name.to_owned()));
            }
        }
    }
    found
}

fn unquoted(key: &str) -> String {
    key.trim().trim_matches('"').to_owned()
}

/// Kernels, model, attack and distill open no file and print nothing, outside of their tests.
pub(crate) fn no_input_output(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, source) in tree.rust().filter(|(path, _)| is_in(path, &PURE)) {
        let may_open = MAY_OPEN_FILES.iter().any(|&(allowed, _)| allowed == path);
        let files = if may_open { &[][..] } else { &FILES[..] };
        let needles: Vec<&str> = files.iter().chain(&PRINTING).copied().collect();
        let code = without_tests(&code_only(source));
        failures.extend(uses(&code, &needles).map(|(line, needle)| Failure {
            path: path.to_owned(),
            line,
            rule: "no-input-output",
            what: format!("`{needle}` in a crate that does no input or output"),
            cure: "return the value and let the crate above read, write or print it",
        }));
    }
    failures
}

/// No crate draws from the global random generator, not even in tests: what a random number is must
/// follow from its key alone.
pub(crate) fn no_global_random(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, source) in tree.rust() {
        let allowed = MAY_USE_GLOBAL_RANDOM.iter().any(|&(file, _)| file == path);
        if allowed || !is_in(path, &["crates/", "datasets/"]) {
            continue;
        }
        let code = code_only(source);
        failures.extend(uses(&code, &GLOBAL_RANDOM).map(|(line, needle)| Failure {
            path: path.to_owned(),
            line,
            rule: "no-global-random",
            what: format!("`{needle}` draws from the global random generator"),
            cure: "draw from a generator that is keyed by seed, purpose and example",
        }));
    }
    failures
}

fn is_in(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// The lines that mention a needle, with the first needle on each.
fn uses<'a>(code: &'a str, needles: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
    code.lines().enumerate().filter_map(|(number, line)| {
        let needle = needles.iter().find(|needle| mentions(line, needle))?;
        Some((number + 1, *needle))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    /// The manifests, one of them with the given text.
    fn manifests<'a>(path: &str, text: &'a str) -> Vec<(&'static str, &'a str)> {
        let of = |boundary: &Boundary| {
            let given = boundary.manifest == path;
            (boundary.manifest, if given { text } else { "" })
        };
        BOUNDARIES.iter().map(of).collect()
    }

    #[test]
    fn allowed_dependencies_pass() {
        for (path, text) in [
            ("crates/model/Cargo.toml", "[dependencies]\nburn = \"1\"\nneokd-kernels.workspace = true\n"),
            (
                "crates/attack/Cargo.toml",
                "[dependencies]\nneokd-model.workspace = true # not neokd-train\n[features]\na = [\"neokd-model/a\"]\n",
            ),
            ("crates/distill/Cargo.toml", "[dev-dependencies]\nneokd-model.workspace = true\n"),
            ("datasets/Cargo.toml", "[package]\nname = \"neokd-datasets\"\n"),
        ] {
            assert!(found(dependencies, &manifests(path, text)).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_forbidden_dependency_is_found_however_it_is_written() {
        for (path, text) in [
            ("crates/model/Cargo.toml", "[dependencies]\nneokd-attack.workspace = true\n"),
            ("crates/kernels/Cargo.toml", "[dependencies]\nneokd-model.workspace = true\n"),
            ("crates/attack/Cargo.toml", "[dependencies]\nneokd-distill = { path = \"x\" }\n"),
            ("crates/distill/Cargo.toml", "[dependencies]\nm = { package = \"neokd-model\" }\n"),
            ("crates/distill/Cargo.toml", "\n[dependencies.neokd-model]\npath = \"../model\"\n"),
            ("datasets/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nburn-store = \"1\"\n"),
            ("datasets/Cargo.toml", "[build-dependencies]\n\"burn\" = \"1\"\n"),
        ] {
            let place = format!("{path}:2");
            assert_eq!(found(dependencies, &manifests(path, text)), [place], "{text}");
        }
    }

    #[test]
    fn a_crate_that_moved_does_not_escape() {
        let rest = &manifests("", "")[1..];
        assert_eq!(found(dependencies, rest), ["crates/model/Cargo.toml:1"]);
    }

    #[test]
    fn pure_crates_may_talk_in_tests_and_in_prose() {
        let source = "//! Never `println!`.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(found(no_input_output, &[("crates/model/src/a.rs", source)]).is_empty());
        let weights = "use std::fs::File;\nfn f() { File::open(p) }\n";
        assert!(found(no_input_output, &[("crates/model/src/weights.rs", weights)]).is_empty());
        assert!(found(no_input_output, &[("crates/train/src/a.rs", weights)]).is_empty());
    }

    #[test]
    fn pure_crates_neither_open_nor_print() {
        let source = "use std::fs;\nfn f() {\n    println!();\n    File::open(p)\n}\n";
        assert_eq!(
            found(no_input_output, &[("crates/attack/src/a.rs", source)]),
            ["a.rs:1", "a.rs:3", "a.rs:4"].map(|place| format!("crates/attack/src/{place}"))
        );
        let weights = [("crates/model/src/weights.rs", "fn f() { eprintln!() }\n")];
        assert_eq!(found(no_input_output, &weights), ["crates/model/src/weights.rs:1"]);
    }

    #[test]
    fn the_global_random_generator_is_found_in_crates_and_their_tests() {
        let source = "#[cfg(test)]\nmod tests { fn f() { Tensor::<2>::random([1], d) } }\n";
        assert_eq!(found(no_global_random, &[("crates/train/src/a.rs", source)]), ["crates/train/src/a.rs:2"]);
        for line in ["x.random_like(d)", "Distribution::Default", "rand::rng()"] {
            assert_eq!(found(no_global_random, &[("crates/a/b.rs", line)]).len(), 1, "{line}");
        }
    }

    #[test]
    fn keyed_random_numbers_pass() {
        let source = "//! Not `Tensor::random`.\nuse crate::random;\nlet x = random::uniform(&key);\n";
        assert!(found(no_global_random, &[("crates/attack/src/a.rs", source)]).is_empty());
    }
}
