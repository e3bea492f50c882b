//! Single formulas against `values.json`, which `values.py` made.

use burn::tensor::{Device, Int, Tensor, TensorData};
use neokd_distill::{Draw, LossConfig, LossInput, Memory};
use neokd_evaluate::dynamic::efficacy;
use neokd_model::ExitCost;
use neokd_train::options::predictions::Predictions;
use serde_json::Value;

use crate::cases::{assert_close, host, json, root};

fn values(name: &str) -> Value {
    json(&root().join("values.json"))[name].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(rows) => rows.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

fn rows(value: &Value) -> Tensor<2> {
    let (rows, numbers) = (value.as_array().unwrap().len(), numbers(value));
    let narrow: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    Tensor::from_data(TensorData::new(narrow, [rows, numbers.len() / rows]), &Device::flex())
}

#[test]
fn golden_temporal_ensembling_remembers_clean_answers_and_weighs_their_mean_gap() {
    let case = values("temporal_ensembling");
    let (examples, classes) = ([0, 1, 2, 3], numbers(&case["labels"]));
    let mut predictions = Predictions::new(1, 5);
    for visit in ["first", "second"] {
        predictions.update(0.9, &examples, &[rows(&case[visit])]).unwrap();
    }
    let averages = predictions.of(&examples, &Device::flex());
    assert_close("averages", &host(&averages[0]), &numbers(&case["averages"]), 1e-6);

    let (clean, adversarial) = ([rows(&case["second"])], [rows(&case["adversarial"])]);
    let labels: Vec<usize> = classes.iter().map(|label| *label as usize).collect();
    let on_device: Vec<i64> = classes.iter().map(|label| *label as i64).collect();
    let on_device = Tensor::<1, Int>::from_data(TensorData::new(on_device, [4]), &Device::flex());
    let draw = Draw { run: 0, epoch: 0, step: 0, examples: &examples, labels: &labels };
    let memory = Some(Memory { averages: &averages, done: case["done"].as_f64().unwrap() });
    for (kind, name) in [("pgd-te", "pgd_te"), ("trades-te", "trades_te")] {
        let config: LossConfig = toml::from_str(&format!("kind = '{kind}'")).unwrap();
        let input = LossInput { memory, ..LossInput::new(&clean, &adversarial, &on_device, draw) };
        let total = config.init(1).unwrap().terms(input).total();
        assert_close(name, &host(&total), &numbers(&case[name]), 1e-5);
    }
}

#[test]
fn golden_efficacy_is_the_area_that_deepsloth_takes() {
    for case in values("efficacy").as_array().unwrap() {
        let costs: Vec<ExitCost> = numbers(&case["costs"])
            .iter()
            .map(|cost| ExitCost { multiply_adds: *cost as u64, ..ExitCost::default() })
            .collect();
        let left: Vec<u64> = numbers(&case["left"]).iter().map(|images| *images as u64).collect();
        assert_close("efficacy", &[efficacy(&left, &costs)], &numbers(&case["efficacy"]), 1e-9);
    }
}
