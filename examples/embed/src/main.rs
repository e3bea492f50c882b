//! A backbone of one's own: trained with NEO-KD, saved, loaded, evaluated under attack and reported.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod mlp;

use burn::tensor::Device;
use neokd_evaluate::{evaluate::Evaluation, stop::Stop};
use neokd_model::{Backbone, Frozen};
use neokd_report::report::{Context, Deployment, Report};
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
    let (threat, attacks) = (config.threat, [config.evaluation.attack.clone()]);
    let evaluation = Evaluation {
        model: &model,
        set: &data.test,
        images: config.evaluation.images,
        batch_size: 100,
        attacks: &attacks,
        threat: &threat,
        key: 1,
        policies: &[],
        device: &device,
    };
    let scores = evaluation.run(&mut |_| {})?;
    let costs = config.model.costs();
    let context = Context { config: &config, data: &data, device: "cpu", costs: &costs, training: None };
    let report = Report::new(context, &threat, &attacks, &Deployment::default(), scores, 0.0);
    println!("{}", neokd_report::render(&report));
    Ok(())
}
