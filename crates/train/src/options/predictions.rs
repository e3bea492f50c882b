//! Running averages of a network's predictions on the training images, for losses that hold a network
//! to what it said before (temporal ensembling, docs/papers/baselines.md section 5).

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use neokd_evaluate::Error;
use neokd_model::weights::HostTensor;

/// One running average per training image and exit, on the host; zero before the first visit. Grows
/// with the largest example number seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    exits: usize,
    classes: usize,
    averages: Vec<f32>,
}

impl Predictions {
    /// Nothing seen yet.
    pub fn new(exits: usize, classes: usize) -> Self {
        Self { exits, classes, averages: Vec::new() }
    }

    /// The averages of some images.
    ///
    /// # Shapes
    /// - output: one `[examples.len(), classes]` per exit
    pub fn of(&self, examples: &[u64], device: &Device) -> Vec<Tensor<2>> {
        let of_exit = |exit: usize| {
            let mut rows = Vec::with_capacity(examples.len() * self.classes);
            for &example in examples {
                match self.averages.get(self.place(example, exit)) {
                    Some(row) => rows.extend_from_slice(row),
                    None => rows.resize(rows.len() + self.classes, 0.0),
                }
            }
            TensorData::new(rows, [examples.len(), self.classes])
        };
        (0..self.exits).map(|exit| Tensor::from_data(of_exit(exit), &device.clone().without_autodiff())).collect()
    }

    /// Moves the averages of some images towards what the network says now to the clean images:
    /// `momentum * average + (1 - momentum) * softmax(logits)`.
    ///
    /// # Shapes
    /// - `logits`: one `[examples.len(), classes]` per exit
    ///
    /// # Errors
    /// [`Error::Device`] if the logits cannot be read.
    pub fn update(&mut self, momentum: f64, examples: &[u64], logits: &[Tensor<2>]) -> Result<(), Error> {
        let answers = logits.iter().map(|exit| softmax(exit.clone().without_autodiff(), 1)).collect();
        let answers: Vec<f32> =
            Tensor::cat(answers, 0).into_data().try_into_vec().map_err(|error| Error::unreadable(&error))?;
        let seen = examples.iter().max().map_or(0, |&largest| self.place(largest, self.exits - 1).end);
        self.averages.resize(self.averages.len().max(seen), 0.0);
        let (old, new) = (momentum as f32, (1.0 - momentum) as f32);
        let mut rows = answers.chunks(self.classes);
        for exit in 0..self.exits {
            for (&example, row) in examples.iter().zip(&mut rows) {
                let place = self.place(example, exit);
                for (average, answer) in self.averages[place].iter_mut().zip(row) {
                    *average = old * *average + new * answer;
                }
            }
        }
        Ok(())
    }

    /// The averages for a checkpoint, `[images, exits * classes]`.
    pub fn to_host(&self) -> HostTensor {
        let width = self.exits * self.classes;
        HostTensor { shape: vec![self.averages.len() / width, width], values: self.averages.clone() }
    }

    /// The averages from a checkpoint, if they are of as many exits and classes.
    pub fn restored(self, stored: HostTensor) -> Option<Self> {
        let fits = stored.shape.last() == Some(&(self.exits * self.classes));
        fits.then_some(Self { averages: stored.values, ..self })
    }

    fn place(&self, example: u64, exit: usize) -> std::ops::Range<usize> {
        let start = (example as usize * self.exits + exit) * self.classes;
        start..start + self.classes
    }
}
