//! How training went, from `metrics.jsonl`, also of a run that is still writing it.

use std::path::Path;

use neokd_evaluate::{Error, files};
use neokd_train::run::best::ValidationRecord;
use neokd_train::run::metrics::Record;

/// At most so many points to a curve; more steps are averaged.
const POINTS: usize = 120;

/// The curve of a loss term.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Its name.
    pub name: String,
    /// Step and value of each point.
    pub points: Vec<(f64, f64)>,
}

/// The curves of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Every loss term, mean over the exits.
    pub terms: Vec<Term>,
    /// Steps that one point of a term averages.
    pub steps_per_point: usize,
    /// Looks at held-out training images.
    pub validation: Vec<ValidationRecord>,
    /// The first step at which exits withstood one gradient step and not many.
    pub alarm: Option<u64>,
    /// The last step in the log.
    pub last_step: u64,
    /// The line, from 1, that could not be read and ended the reading.
    pub broken_line: Option<usize>,
}

impl History {
    /// Reads a log up to the first line that is not JSON, such as one that is just being written.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::parse(&files::read(path)?))
    }

    fn parse(bytes: &[u8]) -> Self {
        let (records, broken_line) = records(bytes);
        let mut history = Self { broken_line, ..Self::default() };
        let mut steps = Vec::new();
        for record in records {
            match record {
                Record::Step(record) => {
                    history.last_step = record.step;
                    steps.push(record);
                }
                Record::Validation(record) => history.validation.push(record),
                Record::Probe(record) if !record.collapsed.is_empty() => {
                    history.alarm.get_or_insert(record.step);
                }
                Record::Probe(_) | Record::Transfer(_) => {}
                Record::Epoch { step, .. } => history.last_step = step,
            }
        }
        history.steps_per_point = steps.len().div_ceil(POINTS).max(1);
        let mut names: Vec<&str> = Vec::new();
        for term in steps.iter().flat_map(|record| &record.loss) {
            if !names.contains(&term.name.as_str()) {
                names.push(&term.name);
            }
        }
        let curve = |name: &str| {
            let points = steps.chunks(history.steps_per_point).filter_map(|chunk| {
                let terms = chunk.iter().flat_map(|record| &record.loss).filter(|term| term.name == name);
                let values: Vec<f64> = terms.flat_map(|term| &term.exits).map(|value| f64::from(*value)).collect();
                let middle = chunk.iter().map(|record| record.step as f64).sum::<f64>() / chunk.len() as f64;
                (!values.is_empty()).then(|| (middle, values.iter().sum::<f64>() / values.len() as f64))
            });
            points.collect()
        };
        history.terms = names.into_iter().map(|name| Term { name: name.to_string(), points: curve(name) }).collect();
        history
    }
}

/// The lines of a log up to the first that is not JSON, whose number, from 1, comes with them; events of another version
/// are left out, as is a loss that is not a number.
pub(super) fn records(bytes: &[u8]) -> (Vec<Record>, Option<usize>) {
    let mut records = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(_) if serde_json::from_slice::<serde_json::Value>(line).is_ok() => {}
            Err(_) => return (records, Some(index + 1)),
        }
    }
    (records, None)
}

#[cfg(test)]
mod tests {
    use super::{History, Term};

    fn step(step: u64, value: f64) -> String {
        format!(
            "{{\"event\":\"step\",\"step\":{step},\"epoch\":0,\"rate\":0.1,\"total\":1.0,\
             \"loss\":[{{\"name\":\"ce\",\"exits\":[{value},{}]}}]}}\n",
            value + 2.0
        )
    }

    #[test]
    fn terms_are_means_over_exits_and_over_neighbouring_steps() {
        let log: String = (1..=360).map(|number| step(number, number as f64)).collect();
        let history = History::parse(log.as_bytes());
        assert_eq!((history.steps_per_point, history.last_step, history.broken_line), (3, 360, None));
        let Term { name, points } = &history.terms[0];
        assert_eq!((name.as_str(), points.len(), points[0], points[119]), ("ce", 120, (2.0, 3.0), (359.0, 360.0)));
    }

    #[test]
    fn a_half_written_line_ends_the_reading_and_an_unknown_event_does_not() {
        let half = &step(3, 1.0)[..40];
        let log = format!("{}{{\"event\":\"weather\"}}\n{}{half}", step(1, 1.0), step(2, 1.0));
        let mut bytes = log.into_bytes();
        bytes.push(0xff);
        let history = History::parse(&bytes);
        assert_eq!((history.last_step, history.broken_line), (2, Some(4)));
        assert_eq!(History::parse(b"").terms, []);
    }
}
