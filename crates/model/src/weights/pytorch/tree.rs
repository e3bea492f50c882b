//! The object that a pickle describes, as places with tensors and the rest.

use std::collections::BTreeMap;

use super::entries::Entry;
use super::pickle::{Object, Pickle, Value, View};
use super::refusal::Refusal;

/// What PyTorch keeps in a state dict about itself.
const STATE_DICT_METADATA: &str = "_metadata";

/// How deep dictionaries, lists and modules are looked into.
const DEPTH: usize = 50;

/// Most bytes of names: one dictionary may be referred to many times, and each time its tensors have other names.
const MOST_NAME_BYTES: usize = 1 << 27;

/// Longest name of a tensor, in bytes.
const LONGEST_NAME: usize = 1 << 10;

/// Every place with tensors, those further from the root first.
///
/// # Errors
/// An object that is too tangled, as only an attack makes it.
pub(super) fn entries<'a>(pickle: &Pickle<'a>) -> Result<Vec<Entry<View<'a>>>, Refusal> {
    let state = vec![State::New; pickle.objects.len()];
    let mut walk = Walk { pickle, state, path: Vec::new(), entries: Vec::new(), name_bytes: 0 };
    walk.visit(pickle.root)?;
    Ok(walk.entries)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Being looked into: what refers to it from inside goes round in circles.
    Open,
    /// Holds no tensor.
    Barren,
}

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    state: Vec<State>,
    path: Vec<String>,
    entries: Vec<Entry<View<'a>>>,
    name_bytes: usize,
}

impl<'a> Walk<'_, 'a> {
    /// The tensors below a value, by their names from there.
    fn visit(&mut self, value: Value<'a>) -> Result<BTreeMap<String, View<'a>>, Refusal> {
        let mut tensors = BTreeMap::new();
        let Value::Object(number) = value else { return Ok(tensors) };
        if self.state[number] != State::New || self.path.len() > DEPTH {
            return Ok(tensors);
        }
        if let Object::Tensor(view) = &self.pickle.objects[number] {
            tensors.insert(String::new(), view.clone());
            return Ok(tensors);
        }
        self.state[number] = State::Open;
        for (key, child) in children(&self.pickle.objects[number]) {
            self.path.push(key.clone());
            for (name, view) in self.visit(child)? {
                let name = if name.is_empty() { key.clone() } else { format!("{key}.{name}") };
                self.name_bytes += name.len() + size_of::<View<'_>>();
                if name.len() > LONGEST_NAME || self.name_bytes > MOST_NAME_BYTES {
                    return Err(Refusal::Damaged("its tensors have too many or too long names".to_string()));
                }
                tensors.insert(name, view);
            }
            self.path.pop();
        }
        self.state[number] = if tensors.is_empty() { State::Barren } else { State::New };
        if !tensors.is_empty() {
            self.entries.push(Entry { path: self.path.clone(), tensors: tensors.clone() });
        }
        Ok(tensors)
    }
}

/// What is in an object, by keys; texts and integers are keys.
fn children<'a>(object: &Object<'a>) -> Vec<(String, Value<'a>)> {
    match object {
        Object::Dictionary(entries) | Object::Module(entries) => {
            entries.iter().filter_map(|(key, value)| Some((key_of(*key)?, *value))).collect()
        }
        Object::Sequence(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), *item)).collect(),
        _ => Vec::new(),
    }
}

fn key_of(key: Value<'_>) -> Option<String> {
    match key {
        Value::Text(key) => Some(key.to_string()),
        Value::Int(key) => Some(key.to_string()),
        _ => None,
    }
}

/// Names of what is no weight: everything around the place at `path`, and what in it is no tensor.
pub(super) fn beside<T>(pickle: &Pickle<'_>, path: &[String], entries: &[Entry<T>]) -> Vec<String> {
    let (mut beside, mut place, mut before) = (Vec::new(), pickle.root, String::new());
    for key in path {
        let around = pickle.object(place).map(children).unwrap_or_default();
        let others = around.iter().filter(|(other, _)| other != key);
        beside.extend(others.map(|(other, _)| format!("{before}{other}")));
        place = around.iter().rfind(|(other, _)| other == key).map_or(Value::None, |(_, value)| *value);
        before = format!("{before}{key}.");
    }
    let inside = pickle.object(place).map(children).unwrap_or_default();
    let holds = |key: &String| {
        entries.iter().any(|entry| entry.path.split_last().is_some_and(|(last, rest)| last == key && rest == path))
    };
    let is_plain = |(key, value): &&(String, Value<'_>)| {
        let is_tensor = matches!(pickle.object(*value), Some(Object::Tensor(_)));
        key != STATE_DICT_METADATA && !is_tensor && !holds(key)
    };
    beside.extend(inside.iter().filter(is_plain).map(|(key, _)| format!("{before}{key}")));
    beside.sort();
    beside.dedup();
    beside
}
