//! `neokd data list|import|verify`.

use std::path::PathBuf;

use clap::Subcommand;
use neokd_datasets::{Provenance, Status};
use neokd_evaluate::Error;

use super::{DataFlag, Output};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List the known data sets and whether they are here
    List(DataFlag),
    /// Copy a data set's files into the data folder, after checking size and SHA-256
    Import {
        /// Name of the data set
        name: String,
        /// Archive, or folder that holds its files
        path: PathBuf,
        /// Accept files whose digest is not the known one; every report will say so
        #[arg(long)]
        accept_unverified: bool,
        #[command(flatten)]
        data: DataFlag,
    },
    /// Hash a data set again and compare
    Verify {
        /// Name of the data set
        name: String,
        #[command(flatten)]
        data: DataFlag,
    },
}

pub(super) fn run(action: Action, out: &mut Output) -> Result<(), Error> {
    match action {
        Action::List(data) => list(&data, out),
        Action::Import { name, path, accept_unverified, data } => {
            let import = neokd_datasets::import(&name, &path, &data.folder()?, accept_unverified)?;
            let what = if import.already_present { "already there" } else { "imported" };
            out.line(&format!("{name}: {what}, {}", import.folder.display()))?;
            digests(&import.provenance, out)
        }
        Action::Verify { name, data } => digests(&neokd_datasets::verify(&name, &data.folder()?)?, out),
    }
}

fn list(data: &DataFlag, out: &mut Output) -> Result<(), Error> {
    for entry in neokd_datasets::list(&data.folder()?)? {
        let set = entry.dataset;
        let status = match &entry.status {
            Status::Embedded => "in this program".to_string(),
            Status::Imported => format!("imported, {}", entry.folder.display()),
            Status::ImportedUnverified => format!("imported UNVERIFIED, {}", entry.folder.display()),
            Status::Incomplete { missing } => format!("incomplete, missing {}", missing.join(", ")),
            _ => format!("absent; {}", set.obtain),
        };
        out.line(&format!("{:14} {} | {} | {status}", set.name, set.description, set.licence))?;
    }
    Ok(())
}

fn digests(provenance: &Provenance, out: &mut Output) -> Result<(), Error> {
    out.line(&format!("{}: {:?}", provenance.dataset, provenance.trust).to_lowercase())?;
    provenance
        .files
        .iter()
        .try_for_each(|file| out.line(&format!("  {}  {} bytes  {}", file.sha256, file.bytes, file.name)))
}
