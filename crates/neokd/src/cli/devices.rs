//! `neokd devices`.

use neokd_evaluate::Error;

use super::Output;
use crate::device::backends;

pub(super) fn run(out: &mut Output) -> Result<(), Error> {
    for backend in backends() {
        let state = match (backend.compiled, backend.devices.is_empty()) {
            (false, _) => format!("not compiled in; build with --features {}", backend.name),
            (true, true) => "compiled in, no device or driver found".to_string(),
            (true, false) => backend.devices.join(", "),
        };
        out.line(&format!("{:8} {state}", backend.name))?;
    }
    Ok(())
}
