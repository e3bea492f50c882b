//! Reading Rust source just well enough to tell code from prose and from tests.
//!
//! It is no parser: it finds comments, literals and the ends of items by their brackets.

/// The source with comments and the literals of strings and characters replaced by blanks. Lines stay
/// where they are.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let prose = prose_length(&chars[at..]);
        if prose == 0 {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..at + prose].iter().map(|&c| blank(c)));
            at += prose;
        }
    }
    code
}

/// The code, as from [`code_only`], with the items under `#[cfg(test)]` replaced by blanks.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    if code.contains("#![cfg(test)]") {
        return code.chars().map(blank).collect();
    }
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(start) = rest.find(MARK) {
        let item = start + MARK.len();
        let end = item + item_length(&rest[item..]);
        kept.push_str(&rest[..start]);
        kept.extend(rest[start..end].chars().map(blank));
        rest = &rest[end..];
    }
    kept + rest
}

/// Whether the text has the needle in it as whole words: `File::` is in `fs::File::open`, and not in
/// `TempFile::new`.
pub(crate) fn mentions(text: &str, needle: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let splits_a_word =
        |before: Option<char>, after: Option<char>| before.is_some_and(is_word) && after.is_some_and(is_word);
    text.match_indices(needle).any(|(start, _)| {
        let (head, tail) = (&text[..start], &text[start + needle.len()..]);
        !splits_a_word(head.chars().next_back(), needle.chars().next())
            && !splits_a_word(needle.chars().next_back(), tail.chars().next())
    })
}

fn blank(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

/// The length of the comment or literal that `rest` begins with; 0 if it begins with code.
fn prose_length(rest: &[char]) -> usize {
    match rest {
        ['/', '/', ..] => position(rest, 0, '\n'),
        ['/', '*', ..] => block_comment_length(rest),
        ['"', ..] => string_length(rest),
        ['r', '"' | '#', ..] => raw_string_length(rest),
        ['\'', '\\', _, ..] => position(rest, 3, '\'') + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
    .min(rest.len())
}

/// Where `wanted` first is at or after `from`; the end if nowhere.
fn position(rest: &[char], from: usize, wanted: char) -> usize {
    let tail = rest.iter().skip(from);
    tail.take_while(|&&c| c != wanted).count() + from
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// 0 if what looked like a raw string is a raw identifier.
fn raw_string_length(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    let open = hashes + 1;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let closes = |&at: &usize| rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    let close = (open + 1..rest.len()).find(closes);
    close.map_or(rest.len(), |at| at + 1 + hashes)
}

/// Up to the `;` or the closing `}` of the item that the code begins with.
fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return at,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(c, '}' | ';') {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_blanks() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x\\\"y\") g", "f(      ) g"),
            ("f(r#\"x\"y\"#) g", "f(        ) g"),
            ("f(br\"x\\\") g", "f(b     ) g"),
            ("let r#type = 1;", "let r#type = 1;"),
            ("m('\"', '\\'', '\\\\') g", "m(   ,     ,     ) g"),
            ("fn f<'a, 'b>(x: &'a u8)", "fn f<'a, 'b>(x: &'a u8)"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }

    #[test]
    fn unfinished_source_is_read_to_its_end() {
        for source in ["\"a\\", "/* a", "r#\"a", "'\\", "'", "r#", "'\\n"] {
            assert_eq!(code_only(source).len(), source.len(), "{source}");
        }
    }

    #[test]
    fn test_items_become_blanks_and_lines_stay() {
        let code = "a;\n#[cfg(test)]\nmod tests {\n  fn f() { b; }\n}\nc;\n#[cfg(test)] use d;\ne;";
        let kept = without_tests(code);
        let words: Vec<&str> = kept.split_whitespace().collect();
        assert_eq!(words, ["a;", "c;", "e;"]);
        assert_eq!(kept.lines().position(|line| line == "c;"), Some(5));
    }

    #[test]
    fn a_test_item_ends_at_its_own_bracket() {
        let code = "#[cfg(test)] #[allow(dead_code)] fn f(x: [u8; 3]) -> [u8; 3] { x } after";
        assert_eq!(without_tests(code).trim(), "after");
        assert_eq!(without_tests("#![cfg(test)] a").trim(), "");
    }

    #[test]
    fn a_needle_is_found_as_whole_words_only() {
        assert!(mentions("fs::File::open", "File::") && !mentions("TempFile::new", "File::"));
        assert!(mentions("(print!(", "print!") && !mentions("eprint!(", "print!"));
        assert!(mentions("std::fs;", "std::fs") && !mentions("std::fsx;", "std::fs"));
    }
}
