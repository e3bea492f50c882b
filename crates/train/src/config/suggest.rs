//! Turns a deserializer's complaint into one sentence with the key, the value and the nearest name.

use serde_path_to_error::{Error as PathError, Segment};

/// The complaint, with the path of the key and the name that was probably meant; `keys` gives all that there are.
pub(super) fn explain(source: &str, error: &PathError<toml::de::Error>, keys: &dyn Fn() -> Vec<String>) -> String {
    let message = error.inner().message().trim();
    let path = path(error);
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let hint = match (message.starts_with("unknown"), quoted.next()) {
        (true, Some(unknown)) => {
            let known: Vec<&str> = quoted.collect();
            // The same name in another section is more likely meant than a like name in this one.
            let hint = elsewhere(unknown, &keys()).or_else(|| nearest(unknown, &known).map(|near| format!("`{near}`")));
            hint.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default()
        }
        _ => String::new(),
    };
    format!("{source}: {place}{message}{hint}")
}

fn path(error: &PathError<toml::de::Error>) -> String {
    let segments = error.path().iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        _ => None,
    });
    segments.collect::<Vec<_>>().join(".")
}

/// What others call a key, and what it is called here.
const SYNONYMS: [(&str, &str); 8] = [
    ("lr", "rate"),
    ("learning_rate", "rate"),
    ("eps", "epsilon"),
    ("bs", "batch_size"),
    ("wd", "weight_decay"),
    ("optim", "optimizer"),
    ("dataset", "data.name"),
    ("num_epochs", "epochs"),
];

/// The keys of other sections whose last part is this name, or what it is called here.
fn elsewhere(name: &str, keys: &[String]) -> Option<String> {
    let meant = SYNONYMS.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| ours);
    let is_meant =
        |key: &&String| key.strip_suffix(meant).is_some_and(|above| above.is_empty() || above.ends_with('.'));
    let found: Vec<String> = keys.iter().filter(is_meant).map(|key| format!("`{key}`")).collect();
    (!found.is_empty()).then(|| found.join(" or "))
}

/// The known name that is most like `name`, if any is like it at all.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A single slip, two letters that changed places among them, beats any likeness; of the others the
    // first measure forgives a different ending, the second several slips in a long name.
    let alike = |candidate: &str| match strsim::damerau_levenshtein(name, candidate) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(name, candidate).max(strsim::normalized_damerau_levenshtein(name, candidate)),
    };
    let scored = known.iter().map(|candidate| (alike(candidate), *candidate));
    scored.filter(|(score, _)| *score > 0.65).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}
