//! A backbone of one's own: trained with NEO-KD, saved, loaded, evaluated under attack and reported.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod mlp;

use burn::tensor::Device;
use neokd_datasets::Images;
use neokd_evaluate::{Evaluation, attack_run::AttackRun, images::Source, stop::Stop};
use neokd_model::Frozen;
use neokd_report::report::{About, DataReport, Report, config_of_run};
use neokd_train::training::fit::{Fit, Silent};
use neokd_train::{RunConfig, run::checkpoint::TrainingState, run::run_dir::RunDir};

use mlp::MlpConfig;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (device, folder) = (Device::flex(), tempfile::tempdir()?);
    let config = RunConfig::<MlpConfig>::from_toml("embed.toml", include_str!("../embed.toml"), &[])?;
    let data = neokd_datasets::load("mnist", folder.path())?;
    let run = RunDir::create(&folder.path().join("run"), &config)?;
    let mut state = TrainingState::start(&config, &device);
    Fit::new(&config, &data, &device)?.run(&mut state, &run, &Stop::default(), &mut Silent)?;
    let model = Frozen::new(&TrainingState::load(&config, &run.checkpoint_path(), &device)?.model);
    let runs = [AttackRun::of(&config.evaluation.attack, &config.threat)];
    let images = Source::from(&data.test as &dyn Images);
    let evaluation = Evaluation {
        count: config.evaluation.images,
        checks: 20,
        ..Evaluation::new(&model, &images, &runs, config.seed, &device)
    };
    let about = About {
        config: config_of_run(&config, true)?,
        device: "cpu",
        weights: None,
        origin: None,
        data: DataReport::of(&data),
        training: None,
    };
    let report = Report::new(&evaluation, &evaluation.run()?, about);
    println!("{}", neokd_report::render(&report));
    Ok(())
}
