//! Everything that can go wrong, with one message, one cure and one exit code each.

use std::io;
use std::path::{Path, PathBuf};

use neokd_attack::AttackError;
use neokd_datasets::DataError;
use neokd_model::weights::WeightsError;

/// A failure of the command, as its user sees it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or the configuration cannot be carried out. Exit code 2.
    #[error("{0}")]
    Config(String),
    /// Data are missing, damaged or not what they should be. Exit code 3.
    #[error("{}", with_source(.0))]
    Data(#[from] DataError),
    /// A picture cannot be decoded. Exit code 3.
    #[error("{}: cannot be decoded ({why}); use PNG, JPEG, BMP, GIF, WebP or PNM", file.display())]
    Picture {
        /// The file.
        file: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// A checkpoint or weights file cannot be used. Exit code 4.
    #[error("{}: {why}", file.display())]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// What is wrong and what helps.
        why: String,
    },
    /// A run directory is not in the state that was asked for. Exit code 5.
    #[error("{}: {why}", folder.display())]
    RunDir {
        /// The directory.
        folder: PathBuf,
        /// What is wrong and what helps.
        why: String,
    },
    /// Another process is writing there. Exit code 5.
    #[error("{}: held by process {holder}, which is writing there; wait for it or stop it, then try again", path.display())]
    Busy {
        /// The file that says so.
        path: PathBuf,
        /// Its process id.
        holder: String,
    },
    /// The system refused to read or write. Exit code 6.
    #[error("cannot {action} {}: {source}{}", path.display(), cure(source))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The device is not compiled in or not present. Exit code 7.
    #[error("{0}")]
    Device(String),
    /// A device computes other values than the CPU. Exit code 11.
    #[error("{0}")]
    WrongDevice(String),
    /// Training produced numbers that are not finite. Exit code 8.
    #[error(
        "the loss is no longer finite at step {step}: lower the learning rate (training.schedule) and go on from the \
         last checkpoint with --resume"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
    },
    /// An attack broke its rules or could not run. Exit code 9.
    #[error("attack: {0}")]
    Attack(#[from] AttackError),
    /// A stage of the smoke test misbehaved. Exit code 10.
    #[error("smoke test: {0}")]
    Smoke(String),
    /// The user interrupted; everything up to here is saved. Exit code 130.
    #[error("interrupted after step {step}; go on with: neokd train --resume {}", folder.display())]
    Interrupted {
        /// Steps that were completed and saved.
        step: u64,
        /// The run directory.
        folder: PathBuf,
    },
    /// The user interrupted an evaluation; every finished batch is in its journal. Exit code 130.
    #[error("interrupted; finished batches are in {}, the same command goes on from there", journal.display())]
    AttackInterrupted {
        /// The journal.
        journal: PathBuf,
    },
    /// The reader of our output went away. Exit code 141, no message.
    #[error("output closed")]
    ClosedPipe,
}

/// The exit codes as the help text lists them.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    2  command line or configuration
    3  data missing, damaged or unverified
    4  checkpoint or weights file unusable
    5  run directory in the wrong state, or another process is writing there
    6  cannot read or write (disk full, permission)
    7  device not compiled in or not present
    8  training diverged
    9  an attack broke its rules
   10  smoke test failed
   11  device computes wrong values (self-test)
  130  interrupted, everything saved
  141  output pipe closed";

impl Error {
    /// The process exit code; [`EXIT_CODES`] documents them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Data(error) if error.io_error().is_some_and(|error| error.kind() != io::ErrorKind::NotFound) => 6,
            Self::Data(_) | Self::Picture { .. } => 3,
            Self::Checkpoint { .. } => 4,
            Self::RunDir { .. } | Self::Busy { .. } => 5,
            Self::Io { .. } => 6,
            Self::Device(_) => 7,
            Self::Diverged { .. } => 8,
            Self::Attack(_) => 9,
            Self::Smoke(_) => 10,
            Self::WrongDevice(_) => 11,
            Self::Interrupted { .. } | Self::AttackInterrupted { .. } => 130,
            Self::ClosedPipe => 141,
        }
    }

    /// An I/O failure while doing `action` ("read", "write") to `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A weights file that cannot be used.
    pub fn weights(file: &Path) -> impl FnOnce(WeightsError) -> Self {
        let file = file.to_path_buf();
        move |error| Self::Checkpoint { file, why: error.to_string() }
    }

    /// A device whose results cannot be read.
    pub fn unreadable(error: &dyn std::fmt::Debug) -> Self {
        Self::Device(format!("cannot read back from the device: {error:?}; try --device cpu"))
    }

    /// A failure to print.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Io { action: "write to", path: PathBuf::from("standard output"), source: error.kind().into() },
        }
    }
}

fn with_source(error: &DataError) -> String {
    match error.io_error() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn cure(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose another place with --out, then go on with --resume"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; choose a place that you may write to",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}
