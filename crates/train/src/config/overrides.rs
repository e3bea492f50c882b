//! `--set key.path=value`: a typed change to a configuration.

use neokd_evaluate::Error;
use toml::{Table, Value};

/// Applies one `key.path=value` to a table.
///
/// The value is read as TOML (`3`, `0.1`, `true`, `[1, 2]`, `{ kind = "last" }`); what is no TOML is
/// a string, so quotes are not needed. Setting a section's `kind` to another value drops the
/// section's other keys, which belong to the old kind.
///
/// # Errors
/// [`Error::Config`] if there is no `=` or the path runs through something that is no section.
pub(super) fn apply(table: &mut Table, text: &str) -> Result<(), Error> {
    let Some((path, value)) = text.split_once('=') else {
        return Err(Error::Config(format!("--set {text}: expected key=value, for example --set training.epochs=3")));
    };
    let path = path.trim();
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty());
    let Some(last) = last else {
        return Err(Error::Config(format!("--set {text}: the key is empty; expected key=value")));
    };
    let mut section = table;
    for key in keys {
        let entry = section.entry(key).or_insert_with(|| Value::Table(Table::new()));
        section = entry
            .as_table_mut()
            .ok_or_else(|| Error::Config(format!("--set {text}: {key} is a value, not a section")))?;
    }
    let value = read(value.trim());
    if last == "kind" && section.get("kind").is_some_and(|kind| *kind != value) {
        section.clear();
    }
    section.insert(last.to_string(), value);
    Ok(())
}

fn read(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Table {
        let mut table: Table = "seed = 1\n[loss]\nkind = \"neo-kd\"\nalpha = 3.0".parse().expect("valid TOML");
        apply(&mut table, text).expect("valid override");
        table
    }

    #[test]
    fn values_are_typed_and_bare_words_are_strings() {
        assert_eq!(applied("seed=7")["seed"], Value::Integer(7));
        assert_eq!(applied("loss.alpha = 0.5")["loss"]["alpha"], Value::Float(0.5));
        assert_eq!(applied("loss.name=max-average")["loss"]["name"], Value::String("max-average".into()));
        assert_eq!(applied("loss.gamma=[1.0, 2.0]")["loss"]["gamma"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn another_kind_drops_the_keys_of_the_old_one() {
        assert!(applied("loss.kind=adversarial-training")["loss"].get("alpha").is_none());
        assert!(applied("loss.kind=neo-kd")["loss"].get("alpha").is_some());
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in ["seed", "=3", "seed.deeper=3"] {
            let mut table: Table = "seed = 1".parse().expect("valid TOML");
            assert!(apply(&mut table, text).is_err(), "{text}");
        }
    }
}
