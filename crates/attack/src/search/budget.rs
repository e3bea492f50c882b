//! How hard an attack tries.

use std::fmt;

/// What the settings of an attack come to in a given ball; what it prints is the line that reports have for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Steps of one run, or its queries.
    pub steps: usize,
    /// Whether a step looks at the gradient; one that does not is a query.
    pub gradient: bool,
    /// Length of the first step in pixel units, where it is fixed.
    pub step_size: Option<f64>,
    /// Whether the first run starts from a random point.
    pub random_start: bool,
    /// Independent runs.
    pub restarts: usize,
    /// Classes that are tried one after the other, where it is targeted.
    pub targets: Option<usize>,
}

impl Budget {
    fn unit(&self) -> &'static str {
        if self.gradient { "steps" } else { "queries" }
    }

    /// Why nothing would be done, if so: key, value and cure.
    pub(crate) fn nothing_to_do(&self) -> Option<String> {
        if self.steps == 0 {
            return Some(format!("{} = 0: an attack needs at least 1 step", self.unit()));
        }
        if self.restarts == 0 {
            return Some("restarts = 0: an attack needs at least 1 run".to_string());
        }
        (self.targets == Some(0)).then(|| "targets = 0: a targeted attack needs at least 1 class".to_string())
    }

    /// Why no step can be taken, if so: key, value and cure.
    pub(crate) fn no_step_size(&self) -> Option<String> {
        let size = self.step_size.filter(|size| !(size.is_finite() && *size > 0.0))?;
        Some(format!("step_size = {size}: must be a finite number larger than 0"))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.steps, self.unit())?;
        if let Some(length) = self.step_size {
            write!(out, " of {length:.4}")?;
        }
        if let Some(targets) = self.targets {
            write!(out, ", {targets} classes")?;
        }
        if self.random_start {
            out.write_str(", random start")?;
        }
        match self.restarts {
            1 => Ok(()),
            runs => write!(out, ", {runs} runs"),
        }
    }
}
