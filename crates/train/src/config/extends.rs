//! `extends = "NAME|FILE"`: a configuration that says only in what it differs from another.

use toml::{Table, Value};

/// The key.
pub(super) const KEY: &str = "extends";

/// Puts `changes` over `base`: values are replaced, sections are merged key by key, and a section of another `kind` replaces
/// the whole section, whose other keys belong to the old kind.
pub(super) fn put_over(base: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => {
                let other_kind = new.get("kind").is_some_and(|kind| old.get("kind") != Some(kind));
                match other_kind {
                    true => *old = new,
                    false => put_over(old, new),
                }
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_merged_unless_they_are_of_another_kind() {
        let table = |text: &str| text.parse::<Table>().expect("valid TOML");
        let mut base = table("seed = 1\n[a]\nkind = \"x\"\nx = 1\n[b]\nkind = \"x\"\nx = 1\nlist = [1, 2]");
        put_over(&mut base, table("seed = 2\n[a]\ny = 2\n[b]\nkind = \"z\"\nz = 3\n[c]\nnew = true"));
        assert_eq!(base, table("seed = 2\n[a]\nkind = \"x\"\nx = 1\ny = 2\n[b]\nkind = \"z\"\nz = 3\n[c]\nnew = true"));
    }
}
