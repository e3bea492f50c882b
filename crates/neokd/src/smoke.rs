//! The smoke test: every stage of a run on small data, for other people's CI.
//!
//! Trains on synthetic images, interrupts and resumes, compares with the uninterrupted run, attacks,
//! evaluates, reads the weights back, and looks at the embedded MNIST.

use std::path::Path;

use neokd_attack::Objective;
use neokd_evaluate::Error;
use neokd_evaluate::stop::Stop;
use neokd_model::weights;
use neokd_train::RunConfig;
use neokd_train::run::checkpoint::{self, TrainingState};
use neokd_train::run::run_dir::RunDir;
use neokd_train::training::fit::Silent;

use crate::device::Devices;
use crate::session::{Session, Subject, Trial};

const CONFIG: &str = r#"
seed = 1
model = { kind = "small-cnn" }
data = { name = "mnist" }
threat = { epsilon = 0.1 }

[training]
epochs = 2
batch_size = 32
checkpoint_every_steps = 5
attack = { kind = "pgd", objective = "max-average", steps = 1, step_size = 0.1 }
loss = { kind = "neo-kd" }
optimizer = { kind = "adam" }
schedule = { kind = "cosine", rate = 0.002 }

[validation]
every_steps = 0
images = 32

[evaluation]
batch_size = 32
attack = { kind = "pgd", steps = 3, step_size = 0.05 }
"#;

/// Runs all stages below `folder`; `say` hears each stage's name and finding.
///
/// # Errors
/// [`Error::Smoke`] names the stage that misbehaved; other errors come from the stage itself.
pub fn run(
    devices: &Devices,
    folder: &Path,
    say: &mut dyn FnMut(&str, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let config = RunConfig::parse("smoke test", CONFIG, &[])?;
    let data = neokd_datasets::synthetic(7, 192, 32, 64, [1, 28, 28], 10)?.boxed();
    let session = Session { config: &config, data: &data, devices };

    let whole = train(&session, &folder.join("whole"), &Stop::default())?;
    say("train", &format!("{} steps", whole.progress.step))?;

    let interrupted = folder.join("interrupted");
    match train(&session, &interrupted, &Stop::after_step(4)) {
        Err(Error::Interrupted { step: 4, .. }) => {}
        other => return Err(Error::Smoke(format!("interrupt: expected a stop after step 4, got {}", outcome(other)))),
    }
    let (run, _) = RunDir::open(&interrupted)?;
    let mut resumed = session.go_on(&run)?;
    session.train(&run, &mut resumed, &Stop::default(), &mut Silent)?;
    let (expected, found) = (weights::collect(&whole.model), weights::collect(&resumed.model));
    let same = matches!((&expected, &found), (Ok(expected), Ok(found)) if expected == found);
    require(same, "resume: weights differ from the uninterrupted run; results on this device are not repeatable")?;
    say("checkpoint and resume", "weights equal the uninterrupted run's, bit for bit")?;

    let before = weights::collect(&resumed.model).map_err(|error| Error::Smoke(error.to_string()))?;
    let trial = Trial::of(&config, &[Objective::Average, Objective::MaxAverage]);
    let (report, _) =
        session.evaluate(resumed.for_evaluation(), &trial, Subject::Run(None), &mut |evaluation| evaluation.run())?;
    let after = weights::collect(&resumed.model).map_err(|error| Error::Smoke(error.to_string()))?;
    require(before == after, "attack: it changed the network")?;
    let largest = report.attacks.iter().map(|attack| attack.audit.largest).fold(0.0, f64::max);
    say("attack", &format!("largest change {largest:.4} of {}", config.threat.epsilon))?;

    let clean = report.clean.exits.last().map_or(0.0, |share| share.value);
    require(clean > 0.2, &format!("evaluate: clean accuracy {clean:.2} is no better than guessing"))?;
    say("evaluate", &format!("clean accuracy of the last exit {:.0} %, n {}", 100.0 * clean, data.test.len()))?;

    let (_, read_back) = checkpoint::load_network(&run.weights_path(), &devices.first)?;
    let read_back = weights::collect(&read_back).map_err(|error| Error::Smoke(error.to_string()))?;
    require(read_back == before, "weights: reading back gave other values")?;
    say("weights", "read back equal")?;

    let mnist = neokd_datasets::load("mnist", folder)?;
    say("embedded MNIST", &format!("{} training, {} test images", mnist.train.len(), mnist.test.len()))
}

fn train(session: &Session<'_>, folder: &Path, stop: &Stop) -> Result<TrainingState, Error> {
    let (run, mut state) = session.start(folder)?;
    session.train(&run, &mut state, stop, &mut Silent)?;
    Ok(state)
}

fn require(holds: bool, otherwise: &str) -> Result<(), Error> {
    match holds {
        true => Ok(()),
        false => Err(Error::Smoke(otherwise.to_string())),
    }
}

fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "a finished run".to_string(),
        Err(error) => error.to_string(),
    }
}
