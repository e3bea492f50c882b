//! The runs below a folder, one line each.

use std::path::{Path, PathBuf};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use neokd_evaluate::Error;
use serde::Serialize;

use crate::comparison::{Comparison, Mean};
use crate::report::Report;
use crate::run::{Run, runs_in};

/// A run in one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its directory.
    pub folder: PathBuf,
    /// How far it is.
    pub state: String,
    /// What trained it.
    pub method: String,
    /// The data set.
    pub data: String,
    /// Its seed, as it is written.
    pub seed: String,
    /// Test images.
    pub n: Option<u64>,
    /// Accuracy on clean images, mean over the exits, in `[0, 1]`.
    pub clean: Option<f64>,
    /// Accuracy under each attack.
    pub attacks: Vec<Attacked>,
}

/// Accuracy under an attack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attacked {
    /// The attack.
    pub attack: String,
    /// Its threat and how hard it tried.
    pub setting: String,
    /// Accuracy, mean over the exits, in `[0, 1]`.
    pub mean: f64,
}

/// Lists the runs in a folder and below; one that cannot be read says so in its state.
///
/// # Errors
/// [`Error::Io`] if the folder itself cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Line>, Error> {
    Ok(runs_in(folder)?.iter().map(|folder| line(folder)).collect())
}

fn line(folder: &Path) -> Line {
    let run = match Run::read(folder) {
        Ok(run) => run,
        Err(error) => return unreadable(folder, &error),
    };
    let attacks = run.report.iter().flat_map(Report::on_the_whole).map(|attack| Attacked {
        attack: attack.label(),
        setting: attack.setting(),
        mean: attack.accuracy.mean,
    });
    let clean = Comparison::clean(&run);
    Line {
        folder: folder.to_path_buf(),
        state: run.state(),
        method: run.method(),
        data: run.setting("/data/name"),
        seed: run.setting("/seed"),
        n: clean.map(|Mean { n, .. }| n),
        clean: clean.map(|Mean { value, .. }| value),
        attacks: attacks.collect(),
    }
}

fn unreadable(folder: &Path, error: &Error) -> Line {
    Line {
        folder: folder.to_path_buf(),
        state: format!("unreadable: {error}"),
        method: String::new(),
        data: String::new(),
        seed: String::new(),
        n: None,
        clean: None,
        attacks: Vec::new(),
    }
}

/// The lines as a table as wide as the terminal; folders are written from `base` on.
pub fn table(lines: &[Line], base: &Path) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["run", "method", "data", "seed", "state", "n", "clean %", "attacked %"]);
    let percent = |value: f64| format!("{:.2}", 100.0 * value);
    for line in lines {
        let name = line.folder.strip_prefix(base).ok().filter(|rest| !rest.as_os_str().is_empty());
        let attacks = line.attacks.iter().map(|attack| format!("{} {}", attack.attack, percent(attack.mean)));
        table.add_row([
            name.unwrap_or(&line.folder).display().to_string(),
            line.method.clone(),
            line.data.clone(),
            line.seed.clone(),
            line.state.clone(),
            line.n.map(|n| n.to_string()).unwrap_or_default(),
            line.clean.map(percent).unwrap_or_default(),
            attacks.collect::<Vec<_>>().join("\n"),
        ]);
    }
    for index in [3, 5, 6, 7] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\nAccuracy is the mean over the exits, on the first n test images.")
}
