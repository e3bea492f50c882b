//! `neokd cost` and `neokd model show`.

use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use neokd_evaluate::Error;
use neokd_model::{ExitCost, weights};
use neokd_train::model_file;
use serde_json::json;

use super::Output;

/// What answering costs.
#[derive(Debug, clap::Args)]
pub(super) struct CostArgs {
    /// The network: a preset, a run directory, a TOML file with its keys, a configuration, or a weights file
    #[arg(long, value_name = "NAME|RUN|FILE")]
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print a network: its keys, its tensors, its exits
    Show {
        /// A preset, a run directory, a TOML file with its keys, a configuration, or a weights file
        file: PathBuf,
    },
}

pub(super) fn cost(args: CostArgs, out: &mut Output) -> Result<(), Error> {
    let config = model_file::read(&args.model)?;
    let costs = config.costs();
    if args.json {
        let text = serde_json::to_string_pretty(&json!({ "exits": costs }));
        return out.line(&text.map_err(|error| Error::Config(format!("costs cannot be written as JSON: {error}")))?);
    }
    out.line("cumulative cost of one image, by the counting rule of the public MSDNet code")?;
    out.line(&table(&costs))
}

pub(super) fn show(action: Action, out: &mut Output) -> Result<(), Error> {
    let Action::Show { file } = action;
    let config = model_file::read(&file)?;
    out.text(&weights::model_toml(&config).map_err(Error::weights(&file))?)?;
    out.line(&format!("\nimages {:?}, {} classes, {} exits", config.input_shape(), config.classes(), config.exits()))?;
    out.line(&table(&config.costs()))?;
    let (device, _) = crate::device::open(crate::device::DeviceChoice::Cpu)?;
    for (name, tensor) in weights::collect(&config.init(0, &device)).map_err(Error::weights(&file))? {
        out.line(&format!("{name:48} {:?}", tensor.shape))?;
    }
    Ok(())
}

fn table(costs: &[ExitCost]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["exit", "multiply-adds", "of conv and linear weights", "parameters"]);
    for (exit, cost) in costs.iter().enumerate() {
        table.add_row(
            [exit as u64, cost.multiply_adds, cost.weight_multiply_adds, cost.parameters]
                .map(|value| value.to_string()),
        );
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
