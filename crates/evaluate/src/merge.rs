//! Evaluations in parts, on machines that share nothing but a disk: every part keeps a journal of its own batches, and
//! the journals together are the journal of the whole, line for line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::journal::{Header, Line};
use crate::shard::Shard;
use crate::{Error, files};

/// So many missing shards are named.
const NAMED: usize = 10;

/// How many batches the whole evaluation has.
fn batches(header: &Header) -> usize {
    header.count.div_ceil(header.batch_size.max(1))
}

/// The journal of one shard.
struct Part {
    path: PathBuf,
    shard: Shard,
    header: Header,
    /// The first line as it is in the journal of the whole.
    first: String,
    lines: BTreeMap<(usize, usize), String>,
}

/// Puts the journals of all shards of an evaluation together.
///
/// # Errors
/// [`Error::Config`] names the journal that is of no shard, of another evaluation, doubled, missing or not finished, and
/// the cure; or `out`, if it is there already. [`Error::Io`].
pub fn merge(journals: &[PathBuf], out: &Path) -> Result<(), Error> {
    files::refuse_existing("--out", out)?;
    let parts = journals.iter().map(|path| Part::read(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = parts.first() else {
        return Err(Error::Config("name the journals of all shards".to_string()));
    };
    let mut lines = BTreeMap::new();
    let mut seen: BTreeMap<Shard, &Path> = BTreeMap::new();
    for part in &parts {
        if part.first != first.first || part.shard.of() != first.shard.of() {
            return Err(part.wrong(&format!(
                "is not of the evaluation that {} is of (or of another number of shards); merge what one command, \
                 with --shard 1/N to N/N, has written",
                first.path.display()
            )));
        }
        if let Some(other) = seen.insert(part.shard, &part.path) {
            return Err(part.wrong(&format!("is shard {}, as {} is; name each once", part.shard, other.display())));
        }
        part.check_finished()?;
        lines.extend(part.lines.iter().map(|(place, line)| (*place, line.as_str())));
    }
    let missing: Vec<String> = first
        .shard
        .all()
        .filter(|shard| !seen.contains_key(shard))
        .take(NAMED)
        .map(|shard| shard.to_string())
        .collect();
    if !missing.is_empty() {
        let more = first.shard.of() - seen.len() - missing.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let names = missing.join(", ");
        return Err(Error::Config(format!("without a journal: shard {names}{more}; name the journals of all shards")));
    }
    let whole: String = std::iter::once(first.first.as_str()).chain(lines.into_values()).collect();
    files::write_atomically(out, whole.as_bytes())
}

impl Part {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(&files::read(path)?).into_owned();
        let wrong = |why: &str| Error::Config(format!("{}: {why}", path.display()));
        // A last line without an end was being written when the power went.
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let header = lines.next().unwrap_or_default();
        let parsed: Header = serde_json::from_str(header)
            .map_err(|_| wrong("is no journal of this version of neokd; name what --journal has written"))?;
        let Some(shard) = parsed.shard else {
            return Err(wrong("is the journal of a whole evaluation, not of a shard; it needs no merging"));
        };
        let as_whole = header.trim_end().strip_suffix(&format!(",\"shard\":\"{shard}\"}}"));
        let Some(as_whole) = as_whole else { return Err(wrong("its first line was changed; run its command again")) };
        let mut placed: BTreeMap<(usize, usize), String> = BTreeMap::new();
        for (number, line) in lines.enumerate() {
            let damaged = |why: &str| {
                let number = number + 2;
                wrong(&format!("line {number} {why}; run its command again, with another --journal"))
            };
            // Verdicts are measured on the whole.
            let Line::Batch { batch, run, .. } = serde_json::from_str(line).map_err(|_| damaged("is damaged"))? else {
                continue;
            };
            if !shard.has(batch) || batch >= batches(&parsed) || run >= parsed.runs.len() {
                return Err(damaged(&format!("is of batch {batch}, run {run}, which shard {shard} has not")));
            }
            match placed.insert((batch, run), line.to_string()) {
                Some(before) if before != line => {
                    return Err(damaged(&format!("is another result for batch {batch}, run {run}")));
                }
                _ => {}
            }
        }
        let first = format!("{as_whole}}}\n");
        Ok(Self { path: path.to_path_buf(), shard, header: parsed, first, lines: placed })
    }

    fn check_finished(&self) -> Result<(), Error> {
        let (batches, first, step) = (batches(&self.header), self.shard.first(), self.shard.of());
        let own = batches.saturating_sub(first).div_ceil(step);
        match own.saturating_mul(self.header.runs.len()).saturating_sub(self.lines.len()) {
            0 => Ok(()),
            missing => Err(self.wrong(&format!(
                "shard {} is not finished: {missing} results are missing, one per batch and run; its command, given again, \
                 goes on from there",
                self.shard
            ))),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Config(format!("{}: {why}", self.path.display()))
    }
}
