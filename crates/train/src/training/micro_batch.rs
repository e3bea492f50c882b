//! What a training step learns from and the gradients that come of it: of a whole batch, or of its parts on several
//! devices, put together again.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use neokd_attack::{Batch, Passes};
use neokd_evaluate::batches::LabelledBatch;
use neokd_model::MultiExit;

use crate::run::metrics::TermRecord;

/// A batch, or a device's part of one, as it is learned from.
pub(crate) struct MicroBatch {
    pub(crate) data: LabelledBatch,
    /// `[batch, classes]` where the labels alone are not the targets.
    pub(crate) targets: Option<Tensor<2>>,
    /// Which part of a batch it is, from 0.
    pub(crate) part: u64,
    /// Its share of the batch.
    pub(crate) share: f64,
}

/// The gradients of a micro-batch, its loss and what it took.
pub(crate) struct StepGradients {
    /// Of the loss times the micro-batch's share, so that those of all parts add up to the batch's.
    pub(crate) gradients: GradientsParams,
    /// That share.
    pub(crate) share: f64,
    /// The loss, a mean over images, and its terms.
    pub(crate) total: f32,
    pub(crate) loss: Vec<TermRecord>,
    pub(crate) passes: Passes,
}

impl MicroBatch {
    /// A whole batch.
    pub(crate) fn new(data: LabelledBatch, targets: Option<Tensor<2>>) -> Self {
        Self { data, targets, part: 0, share: 1.0 }
    }

    /// Parts of nearly equal size, at most as many as there are images, in order.
    pub(crate) fn split(&self, parts: usize) -> Vec<Self> {
        let images = self.data.labels.len();
        let parts = parts.min(images);
        let cut = |part: usize| part * images / parts;
        (0..parts).map(|part| self.narrow(part as u64, cut(part), cut(part + 1))).collect()
    }

    fn narrow(&self, part: u64, from: usize, to: usize) -> Self {
        let Batch { pixels, labels, examples } = &self.data.batch;
        let batch = Batch {
            pixels: pixels.clone().narrow(0, from, to - from),
            labels: labels.clone().narrow(0, from, to - from),
            examples: examples[from..to].to_vec(),
        };
        Self {
            data: LabelledBatch { batch, labels: self.data.labels[from..to].to_vec() },
            targets: self.targets.as_ref().map(|targets| targets.clone().narrow(0, from, to - from)),
            part,
            share: (to - from) as f64 / self.data.labels.len() as f64,
        }
    }

    /// The same on another device.
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        let Batch { pixels, labels, examples } = &self.data.batch;
        let plain = device.clone().without_autodiff();
        let batch = Batch {
            pixels: pixels.clone().to_device(&plain),
            labels: labels.clone().to_device(&plain),
            examples: examples.clone(),
        };
        Self {
            data: LabelledBatch { batch, labels: self.data.labels.clone() },
            targets: self.targets.as_ref().map(|targets| targets.clone().to_device(&plain)),
            part: self.part,
            share: self.share,
        }
    }

    /// A key of this step as one of this part of it; that of the first part is the step's own.
    pub(crate) fn key(&self, of_step: u64) -> u64 {
        of_step.wrapping_add(self.part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The gradients of the parts of a batch, put together on one device.
pub(crate) struct GradientSum<'a, M: MultiExit> {
    device: &'a Device,
    model: &'a M,
    gradients: GradientsAccumulator<M>,
    total: f32,
    loss: Vec<TermRecord>,
    passes: Passes,
}

impl<'a, M: MultiExit> GradientSum<'a, M> {
    /// Nothing yet, for `model`, which is on `device`.
    pub(crate) fn new(model: &'a M, device: &'a Device) -> Self {
        Self {
            device,
            model,
            gradients: GradientsAccumulator::new(),
            total: 0.0,
            loss: Vec::new(),
            passes: Passes::default(),
        }
    }

    /// Adds those of a part.
    pub(crate) fn add(&mut self, part: StepGradients) {
        let StepGradients { gradients, share, total, loss, passes } = part;
        let plain = self.device.clone().without_autodiff();
        self.gradients.accumulate(self.model, gradients.to_device(&plain, self.model));
        let share = share as f32;
        self.total += share * total;
        if self.loss.is_empty() {
            self.loss =
                loss.iter().map(|term| TermRecord { exits: vec![0.0; term.exits.len()], ..term.clone() }).collect();
        }
        for (sum, term) in self.loss.iter_mut().zip(&loss) {
            sum.exits.iter_mut().zip(&term.exits).for_each(|(sum, value)| *sum += share * value);
        }
        self.passes += passes;
    }

    /// Everything together.
    pub(crate) fn finish(mut self) -> StepGradients {
        let (total, loss, passes) = (self.total, self.loss, self.passes);
        StepGradients { gradients: self.gradients.grads(), share: 1.0, total, loss, passes }
    }
}
