//! `neokd config list|show`.

use clap::Subcommand;
use neokd_evaluate::Error;
use neokd_train::RunConfig;
use neokd_train::config::{PRESETS, preset};

use super::Output;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List the configurations that are compiled in
    List,
    /// Print one, with comments that say where its values come from
    Show {
        /// Name of a configuration, or a file
        name: String,
        /// Print every key with its value instead, defaults filled in
        #[arg(long)]
        resolved: bool,
        /// Change a value first (implies --resolved)
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

pub(super) fn run(action: Action, out: &mut Output) -> Result<(), Error> {
    match action {
        Action::List => {
            PRESETS.iter().try_for_each(|preset| out.line(&format!("{:16} {}", preset.name, preset.summary)))
        }
        Action::Show { name, resolved, set } => {
            let config = RunConfig::load(&name, &set)?;
            match preset(&name) {
                Some(preset) if !resolved && set.is_empty() => out.text(preset.text),
                _ => out.text(&config.to_toml()?),
            }
        }
    }
}
