//! A request to stop after the current step: Ctrl-C, or a test that interrupts a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Error;

/// Shared between the training loop, which asks, and whoever may want to stop it.
#[derive(Clone, Debug)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    at_step: Arc<AtomicU64>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { requested: Arc::default(), at_step: Arc::new(AtomicU64::new(u64::MAX)) }
    }
}

impl Stop {
    /// Stops at Ctrl-C and at a polite termination signal; a second Ctrl-C ends the process at once.
    ///
    /// # Errors
    /// [`Error::Config`] if the handler cannot be installed.
    pub fn on_signal() -> Result<Self, Error> {
        let stop = Self::default();
        let handle = stop.clone();
        ctrlc::set_handler(move || {
            if handle.requested.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .map_err(|error| Error::Config(format!("cannot listen for Ctrl-C: {error}")))?;
        Ok(stop)
    }

    /// Stops once `step` steps are done.
    pub fn after_step(step: u64) -> Self {
        let stop = Self::default();
        stop.at_step.store(step, Ordering::SeqCst);
        stop
    }

    /// Asks the loop to stop after its current step.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether to stop now, `step` steps being done.
    pub fn wanted(&self, step: u64) -> bool {
        self.requested.load(Ordering::SeqCst) || step >= self.at_step.load(Ordering::SeqCst)
    }
}
