//! Evaluations in parts, on machines that share nothing but a disk: every part keeps a journal of its own batches, and
//! the journals together are the journal of the whole, line for line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::journal::Header;
use crate::shard::Shard;
use crate::{Error, files};

/// Which batch and run a line is of; a line of a verdict is of none, and shards have none.
#[derive(Deserialize)]
struct Place {
    batch: usize,
    run: usize,
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
        if part.first != first.first || !first.shard.all().any(|shard| shard == part.shard) {
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
    let missing = first.shard.all().filter(|shard| !seen.contains_key(shard)).map(|shard| shard.to_string());
    let missing: Vec<String> = missing.collect();
    if !missing.is_empty() {
        return Err(Error::Config(format!("shards {} are missing; name their journals as well", missing.join(", "))));
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
        let placed = lines.map_while(|line| {
            let Place { batch, run } = serde_json::from_str(line).ok()?;
            Some(((batch, run), line.to_string()))
        });
        let first = format!("{as_whole}}}\n");
        Ok(Self { path: path.to_path_buf(), shard, header: parsed, first, lines: placed.collect() })
    }

    fn check_finished(&self) -> Result<(), Error> {
        let batches = self.header.count.div_ceil(self.header.batch_size.max(1));
        let wanted = (0..batches).filter(|batch| self.shard.has(*batch));
        let wanted = wanted.flat_map(|batch| (0..self.header.runs.len()).map(move |run| (batch, run)));
        let missing = wanted.filter(|place| !self.lines.contains_key(place)).count();
        match missing {
            0 => Ok(()),
            count => Err(self.wrong(&format!(
                "shard {} is not finished: {count} batches are missing; its command, given again, goes on from there",
                self.shard
            ))),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Config(format!("{}: {why}", self.path.display()))
    }
}
