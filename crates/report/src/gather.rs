//! All runs that some sources hold, in the order in which a comparison has them.

use std::path::{Path, PathBuf};

use neokd_evaluate::{Error, files};

use crate::compare;
use crate::run::{Run, is_run, name_of, runs_in};

/// Run directories in the order of the comparison that the folder holds; without one, or beside it, as they are.
fn as_compared(folder: &Path, mut runs: Vec<PathBuf>) -> Vec<PathBuf> {
    let comparison = files::read(&folder.join("compare.json")).ok();
    let comparison: Option<compare::Comparison> = comparison.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let results = comparison.iter().flat_map(|comparison| &comparison.methods).flat_map(|method| &method.runs);
    let order: Vec<PathBuf> = results.map(|run| folder.join(&run.folder)).collect();
    runs.sort_by_key(|run| order.iter().position(|known| known == run).unwrap_or(order.len()));
    runs
}

/// Reads runs, and tells those of the same name apart by the folder above; a folder that is no run but holds runs stands
/// for them.
///
/// # Errors
/// As [`Run::read`].
pub fn read_all(sources: &[PathBuf]) -> Result<Vec<Run>, Error> {
    let mut runs = Vec::new();
    for source in sources {
        let inside = if is_run(source) { Vec::new() } else { as_compared(source, runs_in(source)?) };
        // Without any inside, reading the folder itself says what is wrong with it.
        let found = if inside.is_empty() { vec![source.clone()] } else { inside };
        for source in found {
            runs.push(Run::read(&source)?);
        }
    }
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for run in &mut runs {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            let whole = run.source.canonicalize().unwrap_or_else(|_| run.source.clone());
            let above = whole.parent().map(name_of).unwrap_or_default();
            run.name = format!("{above}/{}", run.name);
        }
    }
    Ok(runs)
}
