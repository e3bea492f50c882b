//! Writes the validation table of a dataset: `write_split NAME OUTPUT [LIBRARY]`. The committed tables were made this way.

use std::error::Error;
use std::path::Path;

use neokd_datasets::split::{PER_CLASS, SEED};
use neokd_datasets::{SplitTable, load_unsplit};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, output, library) = match arguments.as_slice() {
        [name, output] => (name, output, "."),
        [name, output, library] => (name, output, library.as_str()),
        _ => return Err("usage: write_split NAME OUTPUT [LIBRARY]".into()),
    };
    let (training, _, _) = load_unsplit(name, Path::new(library))?;
    let table = SplitTable::generate(output, name, &training, PER_CLASS, SEED)?;
    std::fs::write(output, table.to_text())?;
    Ok(())
}
