//! What a run did to images: which exits are right about the attacked images, from forward passes of their
//! own, where the deployed system lets them leave, and what it cost.

use burn::tensor::Tensor;
use neokd_attack::{Audit, Criterion, Objective, Passes, Spent};
use neokd_model::policy::Policy;
use neokd_model::{Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::plan::Attacked;
use crate::batches::LabelledBatch;
use crate::{Error, dynamic};

/// What a run did to some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Under the whole attack.
    pub whole: Seen,
    /// Under the attack on each exit by itself, where the whole is made of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Seen>,
    /// How far the nearest adversarial images are, in the threat's norm, wherever they are: one list per
    /// search, for attacks that look for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<Distances>,
    /// What the members of an ordered set did, added up over the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Spent>,
    /// Everything spent, the passes of judging included.
    pub passes: Passes,
    /// Wall time of attacking and judging, in seconds.
    pub seconds: f64,
    /// Size of the largest perturbation, smallest and largest pixel.
    pub audit: [f32; 3],
    /// Adversarial pixels, where they are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::bits::hexadecimal")]
    pub pixels: Vec<f32>,
}

/// The smallest perturbation found of each image: 0 where it is wrong as it is, infinite where none was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distances(#[serde(with = "super::bits::hexadecimal")] pub Vec<f32>);

/// What a network says to some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Per exit, which images it is right about.
    pub right: Vec<Bits>,
    /// Which images the mean of the exits' log-probabilities is right about.
    pub average: Bits,
    /// The same of the deployed system, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
}

/// What a deployed system says to some images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// Which images it is right about.
    pub right: Bits,
    /// At which exit each image leaves.
    pub left: Vec<usize>,
}

impl Found {
    /// Of no image.
    pub(super) fn none() -> Self {
        let whole = Seen { right: Vec::new(), average: Bits::default(), deployed: None };
        Self {
            whole,
            parts: Vec::new(),
            distances: Vec::new(),
            members: Vec::new(),
            passes: Passes::default(),
            seconds: 0.0,
            audit: [0.0, 1.0, 0.0],
            pixels: Vec::new(),
        }
    }

    /// Of images as they are.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(super) fn clean<M: MultiExit>(
        model: &Frozen<M>,
        data: &LabelledBatch,
        policy: Option<&Policy>,
    ) -> Result<Self, Error> {
        let whole = Seen::of(model, &data.batch.pixels, data, policy)?;
        Ok(Self { whole, passes: Passes::forward(data.batch.len()), ..Self::none() })
    }

    /// Judges attacked images.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(super) fn of<M: MultiExit>(
        model: &Frozen<M>,
        data: &LabelledBatch,
        attacked: Attacked,
        policy: Option<&Policy>,
        keep_pixels: bool,
    ) -> Result<Self, Error> {
        let Attacked { pixels, parts, distances, members, mut passes, audit } = attacked;
        let whole = Seen::of(model, &pixels, data, policy)?;
        let parts = parts.iter().map(|part| Seen::of(model, part, data, policy)).collect::<Result<Vec<_>, _>>()?;
        passes += Passes::forward(data.labels.len() * (1 + parts.len()));
        let distances = distances.into_iter().map(|distances| read(distances).map(Distances));
        let distances = distances.collect::<Result<Vec<_>, _>>()?;
        let pixels = if keep_pixels { read(pixels)? } else { Vec::new() };
        Ok(Self { whole, parts, distances, members, passes, seconds: 0.0, audit: narrow(audit), pixels })
    }

    /// Adds the images of the next batch.
    pub(super) fn append(&mut self, next: Self) {
        self.whole.append(next.whole);
        append_each(&mut self.parts, next.parts, Seen::append);
        append_each(&mut self.distances, next.distances, |distances, more| distances.0.extend(more.0));
        append_each(&mut self.members, next.members, |sum, more| {
            sum.attacked += more.attacked;
            sum.broken += more.broken;
            sum.passes += more.passes;
        });
        self.passes += next.passes;
        self.seconds += next.seconds;
        let [largest, lowest, highest] = next.audit;
        self.audit = [self.audit[0].max(largest), self.audit[1].min(lowest), self.audit[2].max(highest)];
        self.pixels.extend(next.pixels);
    }

    /// The whole and its parts: everything that was tried on each image.
    pub fn tried(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.whole).chain(&self.parts)
    }

    /// Which images every exit is right about, whatever was tried.
    pub fn right_everywhere(&self) -> Bits {
        let all = self.tried().flat_map(|seen| &seen.right);
        all.cloned().reduce(|sum, exit| sum.and(&exit)).unwrap_or_default()
    }

    /// Which images this criterion does not count as broken; none of it knows what the mean of the exits'
    /// probabilities said.
    pub(super) fn unbroken(&self, criterion: &Criterion) -> Option<Bits> {
        match criterion {
            Criterion::Exit(exit) => self.whole.right.get(*exit).cloned(),
            Criterion::AnyExit => Some(self.right_everywhere()),
            Criterion::AllExits => self.whole.right.iter().cloned().reduce(|sum, exit| sum.or(&exit)),
            Criterion::Average => Some(self.whole.average.clone()),
            Criterion::Policy(_) => self.whole.deployed.as_ref().map(|deployed| deployed.right.clone()),
            Criterion::Ensemble => None,
        }
    }

    /// Which images withstand an attack on this objective: the exit aimed at, every exit, or the deployed
    /// system.
    pub fn withstand(&self, target: Objective) -> Bits {
        match target {
            Objective::Single(exit) => self.whole.right[exit].clone(),
            Objective::Average | Objective::MaxAverage => self.right_everywhere(),
            Objective::Policy => {
                self.whole.deployed.as_ref().map(|deployed| deployed.right.clone()).unwrap_or_default()
            }
        }
    }

    /// Which images exit `exit` is right about under the attack on it alone, if there was one.
    pub fn own(&self, target: Objective, exit: usize) -> Option<&Bits> {
        match target {
            Objective::Single(aimed) if aimed == exit => self.whole.right.get(exit),
            _ => self.parts.get(exit).map(|part| &part.right[exit]),
        }
    }

    /// The audit in the form of the attack library.
    pub fn audit(&self) -> Audit {
        let [largest, lowest, highest] = self.audit.map(f64::from);
        Audit { largest, lowest, highest }
    }
}

impl Seen {
    fn of<M: MultiExit>(
        model: &Frozen<M>,
        pixels: &Tensor<4>,
        data: &LabelledBatch,
        policy: Option<&Policy>,
    ) -> Result<Self, Error> {
        let logits = model.forward(pixels.clone());
        let right = logits.correct(&data.batch.labels).into_data().convert::<i64>();
        let right: Vec<i64> = right.try_into_vec().map_err(|error| Error::unreadable(&error))?;
        let right = right.chunks(data.labels.len().max(1)).map(|row| Bits(row.iter().map(|bit| *bit == 1).collect()));
        let wrong = Criterion::Average.broken(&logits, &data.batch.labels).into_data().convert::<bool>();
        let wrong: Vec<bool> = wrong.try_into_vec().map_err(|error| Error::unreadable(&error))?;
        Ok(Self {
            right: right.collect(),
            average: Bits(wrong.into_iter().map(|wrong| !wrong).collect()),
            deployed: match policy {
                Some(policy) => Some(Deployed::of(&dynamic::probabilities(&logits)?, &data.labels, policy)),
                None => None,
            },
        })
    }

    fn append(&mut self, next: Self) {
        append_each(&mut self.right, next.right, |bits, more| bits.0.extend(more.0));
        self.average.0.extend(next.average.0);
        match (&mut self.deployed, next.deployed) {
            (Some(deployed), Some(more)) => {
                deployed.right.0.extend(more.right.0);
                deployed.left.extend(more.left);
            }
            (deployed, more) => *deployed = more,
        }
    }
}

impl Deployed {
    fn of(probabilities: &[Vec<f32>], labels: &[usize], policy: &Policy) -> Self {
        let answers = (0..labels.len()).map(|image| dynamic::decide(probabilities, labels.len(), image, policy));
        let (right, left) = answers.zip(labels).map(|(answer, label)| (answer.label == *label, answer.exit)).unzip();
        Self { right: Bits(right), left }
    }
}

fn append_each<T>(all: &mut Vec<T>, next: Vec<T>, append: impl Fn(&mut T, T)) {
    match all.is_empty() {
        true => *all = next,
        false => all.iter_mut().zip(next).for_each(|(so_far, more)| append(so_far, more)),
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.into_data().try_into_vec().map_err(|error| Error::unreadable(&error))
}

fn narrow(audit: Audit) -> [f32; 3] {
    [audit.largest, audit.lowest, audit.highest].map(|value| value as f32)
}
