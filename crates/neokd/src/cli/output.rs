//! Standard output that may go away.

use std::io::{self, Write};

use neokd_evaluate::Error;

/// Where a command's answer goes.
pub(super) struct Output {
    writer: io::Stdout,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self { writer: io::stdout() }
    }

    /// Prints a line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Error> {
        self.text(&format!("{text}\n"))
    }

    /// Prints text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        let mut lock = self.writer.lock();
        lock.write_all(text.as_bytes()).and_then(|()| lock.flush()).map_err(|error| Error::output(&error))
    }
}
