//! `model-card.md`: what the weights beside it are, how they were made, how good they are and what they
//! are not for (Mitchell et al. 2019).

use std::fmt::Write as _;

use neokd_evaluate::{Error, files};
use neokd_train::run::run_dir::RunDir;

use crate::markdown::{exits, plain};
use crate::report::Report;
use crate::run::Run;

/// Writes the card of a run beside its weights.
///
/// # Errors
/// [`Error::RunDir`] if the run has no weights or no report yet; [`Error::Io`].
pub fn write(run: &Run) -> Result<(), Error> {
    let folder = RunDir::at(&run.source);
    let missing = |what: &str| Error::RunDir {
        folder: run.source.clone(),
        why: format!("no model card without {what}; neokd train writes it, --resume goes on with an unfinished run"),
    };
    let report = run.report.as_ref().ok_or_else(|| missing("report.json"))?;
    if !folder.weights_path().exists() {
        return Err(missing("weights.safetensors"));
    }
    let digest = neokd_datasets::sha256_hex(&files::read(&folder.weights_path())?);
    files::write_atomically(&folder.card_path(), text(run, report, &digest).as_bytes())
}

fn text(run: &Run, report: &Report, digest: &str) -> String {
    let setting = |pointer: &str| plain(&run.setting(pointer));
    let mut card = format!(
        "# {}\n\nAn image classifier with {} exits: it can answer early, at an exit that is sure enough, and it was \
         trained to keep its answers under small malicious changes of the image.\n\n",
        plain(&run.name),
        report.costs.len()
    );
    let trust = report.data.trust().unwrap_or("unknown".to_string());
    let complete = report.training.as_ref().map(|training| {
        let (step, planned) = (training.progress.step, training.planned_steps);
        if training.complete {
            format!("complete, {step} steps")
        } else {
            format!("unfinished, {step} of {planned} steps")
        }
    });
    let versions = &report.versions;
    let facts = [
        ("Network", setting("/model/kind")),
        ("Classes", setting("/model/classes")),
        ("Data", format!("{} ({trust})", setting("/data/name"))),
        ("Loss", setting("/training/loss/kind")),
        (
            "Attack in training",
            format!("{}, {}", setting("/training/attack/kind"), setting("/training/attack/objective")),
        ),
        ("Threat", format!("{} {}", setting("/threat/norm"), setting("/threat/epsilon"))),
        ("Training", complete.unwrap_or_else(|| "unknown".to_string())),
        ("Seed", setting("/seed")),
        ("Made with", format!("neokd {}, Burn {}", versions.neokd, versions.burn)),
        ("Weights", format!("weights.safetensors, SHA-256 `{digest}`")),
    ];
    for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        let _ = writeln!(card, "- {name}: {fact}");
    }
    if let Some((level, sentences)) = report.verdict() {
        let _ = writeln!(card, "- Verdict: **{level}** {}", plain(&sentences.join("; ")));
    }
    let _ = write!(
        card,
        "\n## Accuracy\n\nIn % with 95 % interval; n = {} test images, which chose nothing.\n\n{}",
        report.n,
        exits(report)
    );
    for note in &run.notes {
        let _ = writeln!(card, "\n> {}", plain(note));
    }
    card.push_str(LIMITS);
    card
}

const LIMITS: &str = "
## Use

`neokd predict --weights weights.safetensors --policy confidence:0.9 PICTURE...` classifies pictures; `neokd evaluate`
scores the weights again. The configuration of the network is inside the weights file.

## Limits

- The accuracy under an attack is an upper bound: another attack, or more steps, may find more.
- Robust means robust against changes within the threat above, not against other changes of the image.
- The attacks are on the exits. An attack on the exit policy, or on its cost, is another question.
- The numbers hold for images like those of the test set.
";
