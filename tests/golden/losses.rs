//! Losses: every term, the totals and their gradients.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use neokd_distill::{
    AdversarialTraining, ArdConfig, Draw, ExitLoss, LossConfig, LossInput, LossTerms, NeoKd, NeoKdConfig, Partition,
    SkdConfig, Teacher, cross_entropy, orthogonal_labels,
};
use serde_json::Value;

use crate::cases::{Tensors, assert_close, files, host, json};

struct Case {
    io: Tensors,
    meta: Value,
    exits: usize,
    device: Device,
}

/// Golden gradients and logits are `[batch, exits, classes]`, terms `[batch, exits]`.
impl Case {
    fn logits(&self, name: &str, device: &Device) -> Vec<Tensor<2>> {
        let all: Tensor<3> = self.io.float(name, device);
        (0..self.exits).map(|exit| all.clone().narrow(1, exit, 1).squeeze_dim::<2>(1)).collect()
    }

    fn labels(&self) -> Tensor<1, Int> {
        self.io.int("labels", &self.device)
    }

    /// Batch means per exit of a golden `[batch, exits]` tensor.
    fn means(&self, name: &str) -> Vec<f64> {
        let rows: Vec<&[f64]> = self.io.values(name).chunks(self.exits).collect();
        (0..self.exits).map(|exit| rows.iter().map(|row| row[exit]).sum::<f64>() / rows.len() as f64).collect()
    }

    fn neo_kd(&self, teacher: Teacher) -> NeoKd {
        let gamma = self.meta["gamma"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let (alpha, beta) = (self.meta["alpha"].as_f64().unwrap(), self.meta["beta"].as_f64().unwrap());
        NeoKd::new(NeoKdConfig { alpha, beta, gamma, teacher, ..NeoKdConfig::default() }, self.exits).unwrap()
    }

    fn partition(&self) -> Partition {
        Partition(self.io.int("owner", &self.device))
    }

    fn with_input<R>(&self, clean: &[Tensor<2>], adversarial: &[Tensor<2>], act: impl FnOnce(LossInput<'_>) -> R) -> R {
        let labels = self.labels();
        let classes: Vec<usize> = self.io.values("labels").iter().map(|label| *label as usize).collect();
        let examples: Vec<u64> = (0..classes.len() as u64).collect();
        let draw = Draw { run: 0, epoch: 0, step: 0, examples: &examples, labels: &classes };
        act(LossInput::new(clean, adversarial, &labels, draw))
    }

    fn terms(&self, loss: &NeoKd) -> LossTerms {
        let (clean, adversarial) = (self.logits("clean", &self.device), self.logits("adversarial", &self.device));
        self.with_input(&clean, &adversarial, |input| loss.terms_with(input, &self.partition()))
    }
}

fn cases() -> Vec<Case> {
    let tensors = files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    let found: Vec<Case> = tensors
        .filter_map(|path| {
            let meta = path.with_extension("json");
            let io = meta.exists().then(|| Tensors::read(&path)).filter(|io| io.has("owner"))?;
            eprintln!("golden loss {}", path.display());
            let exits = io.shape("clean")[1];
            Some(Case { io, meta: json(&meta), exits, device: Device::flex() })
        })
        .collect();
    assert!(!found.is_empty(), "no golden loss found");
    found
}

fn values(terms: &LossTerms, name: &str) -> Vec<f64> {
    host(&terms.terms.iter().find(|term| term.name == name).unwrap().values)
}

#[test]
fn golden_loss_terms() {
    for case in cases() {
        let terms = case.terms(&case.neo_kd(Teacher::default()));
        assert_close("ce_clean", &values(&terms, "ce_clean"), &case.means("cross_entropy_clean"), 1e-4);
        assert_close(
            "ce_adversarial",
            &values(&terms, "ce_adversarial"),
            &case.means("cross_entropy_adversarial"),
            1e-4,
        );
        assert_close("nkd", &values(&terms, "nkd"), &case.means("nkd"), 1e-4);
        assert_close("eokd", &values(&terms, "eokd"), &case.means("eokd"), 1e-4);
        let without = case.terms(&case.neo_kd(Teacher::Neighbours { include_self: false }));
        assert_close("nkd without self", &values(&without, "nkd"), &case.means("nkd_without_self"), 1e-4);
    }
}

#[test]
fn golden_cross_entropy_per_image() {
    for case in cases() {
        for (name, golden) in [("clean", "cross_entropy_clean"), ("adversarial", "cross_entropy_adversarial")] {
            for (exit, logits) in case.logits(name, &case.device).iter().enumerate() {
                let theirs: Vec<f64> = case.io.values(golden).iter().copied().skip(exit).step_by(case.exits).collect();
                assert_close(golden, &host(&cross_entropy(logits, &case.labels())), &theirs, 1e-4);
            }
        }
    }
}

#[test]
fn golden_orthogonal_labels() {
    for case in cases() {
        let labels: Vec<Tensor<2>> = case
            .logits("clean", &case.device)
            .iter()
            .enumerate()
            .map(|(exit, logits)| orthogonal_labels(&softmax(logits.clone(), 1), &case.partition(), exit))
            .collect();
        let stacked: Tensor<3> = Tensor::stack(labels, 1);
        assert_close("orthogonal_labels", &host(&stacked), case.io.values("orthogonal_labels"), 1e-5);
    }
}

#[test]
fn golden_totals() {
    for case in cases() {
        let total = |terms: LossTerms| host(&terms.total())[0];
        let stored = |key: &str| case.meta[key].as_f64().unwrap();
        let (clean, adversarial) = (case.logits("clean", &case.device), case.logits("adversarial", &case.device));
        let plain = case.with_input(&clean, &adversarial, |input| total(AdversarialTraining::default().terms(input)));
        assert_close("adversarial training", &[plain], &[stored("adversarial_training_total")], 1e-4);
        let configured = |config: LossConfig| {
            let loss = config.init(case.exits).unwrap();
            case.with_input(&clean, &adversarial, |input| total(loss.terms(input)))
        };
        let ard = configured(LossConfig::Ard(ArdConfig::default()));
        assert_close("ARD", &[ard], &[stored("ard_total_lambda1")], 1e-4);
        let skd = configured(LossConfig::Skd(SkdConfig::default()));
        assert_close("SKD", &[skd], &[stored("skd_total_lambda1")], 1e-4);
        let neo_kd = total(case.terms(&case.neo_kd(Teacher::default())));
        assert_close("NEO-KD", &[neo_kd], &[stored("neo_kd_total")], 1e-4);
    }
}

#[test]
fn golden_gradients() {
    for case in cases() {
        let tracked = case.device.clone().autodiff();
        let leaves = |name: &str| -> Vec<Tensor<2>> {
            case.logits(name, &case.device)
                .into_iter()
                .map(|exit| Tensor::from_data(exit.into_data(), &tracked).require_grad())
                .collect()
        };
        let (clean, adversarial) = (leaves("clean"), leaves("adversarial"));
        let loss = case.neo_kd(Teacher::default());
        let total = case.with_input(&clean, &adversarial, |input| loss.terms_with(input, &case.partition()).total());
        let gradients = total.backward();
        for (name, exits) in [("grad_clean", clean), ("grad_adversarial", adversarial)] {
            let ours: Vec<Tensor<2>> = exits.iter().map(|exit| exit.grad(&gradients).unwrap()).collect();
            let stacked: Tensor<3> = Tensor::stack(ours, 1);
            assert_close(name, &host(&stacked), case.io.values(name), 1e-5);
        }
    }
}

#[test]
fn golden_margins_and_logit_ratios() {
    type Loss = fn(&Tensor<2>, &Tensor<1, Int>, &Tensor<1, Int>) -> Tensor<1>;
    let losses: [(&str, Loss); 3] = [
        ("margin", |logits, labels, _| neokd_attack::margin(logits, labels)),
        ("dlr", |logits, labels, _| neokd_attack::dlr(logits, labels)),
        ("dlr_targeted", neokd_attack::dlr_targeted),
    ];
    for case in cases() {
        let targets: Tensor<1, Int> = case.io.int("targets", &case.device);
        for (name, loss) in losses {
            for (exit, logits) in case.logits("adversarial", &case.device).iter().enumerate() {
                let theirs: Vec<f64> = case.io.values(name).iter().copied().skip(exit).step_by(case.exits).collect();
                assert_close(name, &host(&loss(logits, &case.labels(), &targets)), &theirs, 1e-4);
            }
        }
    }
}
