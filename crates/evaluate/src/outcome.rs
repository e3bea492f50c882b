//! What a run did to images: which exits are right about the attacked images, from forward passes of their
//! own, where the deployed system lets them leave, and what it cost.

use burn::tensor::Tensor;
use neokd_attack::{Audit, Criterion, Objective, Passes, Spent};
use neokd_model::policy::Policy;
use neokd_model::{ExitCost, Frozen, MultiExit};
use serde::{Deserialize, Serialize};

use crate::accuracy::Accuracy;
use crate::attack_run::Attacked;
use crate::batches::LabelledBatch;
use crate::bits::Bits;
use crate::dynamic::Dynamic;
use crate::interval::Share;
use crate::reliability::Calibration;
use crate::{Error, dynamic};

/// What a run did to some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageOutcomes {
    /// Under the whole attack.
    pub whole: Answers,
    /// Under the attack on each exit by itself, where the whole is made of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Answers>,
    /// How far the nearest adversarial images are, in the threat's norm, wherever they are: one list per search, for
    /// attacks that look for them; 0 where an image is wrong as it is, infinite where none was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<PerImage>,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::bits::hexadecimal")]
    pub pixels: Vec<f32>,
}

/// A number per image, which a journal gives back bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerImage(#[serde(with = "crate::bits::hexadecimal")] pub Vec<f32>);

/// What a network says to some images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Per exit, which images it is right about.
    pub right: Vec<Bits>,
    /// Which images the mean of the exits' log-probabilities is right about.
    pub average: Bits,
    /// Per exit, the largest probability that it gives to a class; not of parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidence: Vec<PerImage>,
    /// The same of the system under each exit policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Leaving>,
}

/// What a system under an exit policy says to some images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// Which images it is right about.
    pub right: Bits,
    /// At which exit each image leaves.
    pub left: Vec<usize>,
}

impl ImageOutcomes {
    /// Of no image.
    pub(crate) fn none() -> Self {
        Self {
            whole: Answers::default(),
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
    pub(crate) fn clean<M: MultiExit>(
        model: &Frozen<M>,
        data: &LabelledBatch,
        policies: &[Policy],
    ) -> Result<Self, Error> {
        let whole = Answers::of(model, &data.batch.pixels, data, policies, true)?;
        Ok(Self { whole, passes: Passes::forward(data.batch.len()), ..Self::none() })
    }

    /// Judges attacked images.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(crate) fn of<M: MultiExit>(
        model: &Frozen<M>,
        data: &LabelledBatch,
        attacked: Attacked,
        policies: &[Policy],
        keep_pixels: bool,
    ) -> Result<Self, Error> {
        let Attacked { pixels, parts, distances, members, mut passes, audit } = attacked;
        let whole = Answers::of(model, &pixels, data, policies, true)?;
        let part = |part| Answers::of(model, part, data, policies, false);
        let parts = parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        passes += Passes::forward(data.labels.len() * (1 + parts.len()));
        let distances = distances.into_iter().map(|distances| read(distances).map(PerImage));
        let distances = distances.collect::<Result<Vec<_>, _>>()?;
        let pixels = if keep_pixels { read(pixels)? } else { Vec::new() };
        Ok(Self { whole, parts, distances, members, passes, seconds: 0.0, audit: narrow(audit), pixels })
    }

    /// Whether it can be of so many images, exits and policies, with so many pixels: what a journal gives back may have been
    /// changed by hand.
    pub(crate) fn fits(&self, images: usize, exits: usize, policies: usize, pixels: usize) -> bool {
        let answers = |answers: &Answers, confidence: usize| {
            let policies_fit = answers.policies.len() == policies
                && answers.policies.iter().all(|policy| {
                    let left = &policy.left;
                    policy.right.0.len() == images && left.len() == images && left.iter().all(|exit| *exit < exits)
                });
            policies_fit
                && answers.right.len() == exits
                && answers.confidence.len() == confidence
                && answers.right.iter().chain([&answers.average]).all(|bits| bits.0.len() == images)
                && answers.confidence.iter().all(|exit| exit.0.len() == images)
        };
        answers(&self.whole, exits)
            && [0, exits].contains(&self.parts.len())
            && self.parts.iter().all(|part| answers(part, 0))
            && self.distances.iter().all(|search| search.0.len() == images)
            && self.pixels.len() == pixels
    }

    /// Adds the images of the next batch.
    pub(crate) fn append(&mut self, next: Self) {
        self.whole.append(next.whole);
        append_each(&mut self.parts, next.parts, Answers::append);
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
    pub fn tried(&self) -> impl Iterator<Item = &Answers> {
        std::iter::once(&self.whole).chain(&self.parts)
    }

    /// Which images every exit is right about, whatever was tried.
    pub fn right_everywhere(&self) -> Bits {
        let all = self.tried().flat_map(|seen| &seen.right);
        all.cloned().reduce(|sum, exit| sum.and(&exit)).unwrap_or_default()
    }

    /// Which images this criterion does not count as broken, where policy `deployed` is the one it may be about; none if
    /// it asks what the mean of the exits' probabilities said, which is not kept.
    pub(crate) fn unbroken(&self, criterion: &Criterion, deployed: Option<usize>) -> Option<Bits> {
        match criterion {
            Criterion::Exit(exit) => self.whole.right.get(*exit).cloned(),
            Criterion::AnyExit => Some(self.right_everywhere()),
            Criterion::AllExits => self.whole.right.iter().cloned().reduce(|sum, exit| sum.or(&exit)),
            Criterion::Average => Some(self.whole.average.clone()),
            Criterion::Policy(_) => Some(self.whole.policies.get(deployed?)?.right.clone()),
            Criterion::Ensemble => None,
        }
    }

    /// Under policy number `policy`: images answered correctly, whatever was tried.
    pub fn right_under(&self, policy: usize) -> Bits {
        let tried = self.tried().filter_map(|answers| answers.policies.get(policy));
        tried.map(|found| found.right.clone()).reduce(|sum, right| sum.and(&right)).unwrap_or_default()
    }

    /// Which images exit `exit` is right about under the attack on it alone, if there was one.
    pub fn own(&self, target: Objective, exit: usize) -> Option<&Bits> {
        match target {
            Objective::Single(aimed) if aimed == exit => self.whole.right.get(exit),
            _ => self.parts.get(exit).map(|part| &part.right[exit]),
        }
    }

    /// Of the images that all exits are right about when clean, the share that each exit is wrong about.
    pub fn fooled(&self, clean: &Self) -> Vec<Share> {
        self.whole.fooled(&clean.right_everywhere())
    }

    /// The same for the attack on each exit by itself: row the attacked exit, column the measured one.
    pub fn transfer(&self, clean: &Self) -> Vec<Vec<Share>> {
        let known = clean.right_everywhere();
        self.parts.iter().map(|part| part.fooled(&known)).collect()
    }

    /// The audit in the form of the attack library.
    pub fn audit(&self) -> Audit {
        let [largest, lowest, highest] = self.audit.map(f64::from);
        Audit { largest, lowest, highest }
    }
}

impl Answers {
    /// Of these pixels; `confident` keeps how sure the exits are.
    fn of<M: MultiExit>(
        model: &Frozen<M>,
        pixels: &Tensor<4>,
        data: &LabelledBatch,
        policies: &[Policy],
        confident: bool,
    ) -> Result<Self, Error> {
        let logits = model.forward(pixels.clone());
        let right = logits.correct(&data.batch.labels).into_data().convert::<i64>();
        let right: Vec<i64> = right.try_into_vec().map_err(|error| Error::unreadable(&error))?;
        let right = right.chunks(data.labels.len().max(1)).map(|row| Bits(row.iter().map(|bit| *bit == 1).collect()));
        let wrong = Criterion::Average.broken(&logits, &data.batch.labels).into_data().convert::<bool>();
        let wrong: Vec<bool> = wrong.try_into_vec().map_err(|error| Error::unreadable(&error))?;
        let wanted = confident || !policies.is_empty();
        let probabilities = if wanted { dynamic::probabilities(&logits)? } else { Vec::new() };
        let largest = |exit: &Vec<f32>| {
            let rows = exit.chunks((exit.len() / data.labels.len().max(1)).max(1));
            PerImage(rows.map(|row| row.iter().copied().fold(0.0, f32::max)).collect())
        };
        Ok(Self {
            right: right.collect(),
            average: Bits(wrong.into_iter().map(|wrong| !wrong).collect()),
            confidence: if confident { probabilities.iter().map(largest).collect() } else { Vec::new() },
            policies: policies.iter().map(|policy| Leaving::of(&probabilities, &data.labels, policy)).collect(),
        })
    }

    /// Accuracy of each exit.
    pub fn accuracy(&self) -> Accuracy {
        Accuracy::new(self.right.iter().map(Bits::share).collect())
    }

    /// What each exit's confidence is worth.
    pub fn calibration(&self) -> Vec<Calibration> {
        let exits = self.confidence.iter().zip(&self.right);
        exits.map(|(confidence, right)| Calibration::of(&confidence.0, &right.0)).collect()
    }

    fn fooled(&self, known: &Bits) -> Vec<Share> {
        let n = known.count();
        self.right.iter().map(|exit| Share::new(n - exit.and(known).count(), n)).collect()
    }

    fn append(&mut self, next: Self) {
        append_each(&mut self.right, next.right, |bits, more| bits.0.extend(more.0));
        self.average.0.extend(next.average.0);
        append_each(&mut self.confidence, next.confidence, |exit, more| exit.0.extend(more.0));
        append_each(&mut self.policies, next.policies, |found, more| {
            found.right.0.extend(more.right.0);
            found.left.extend(more.left);
        });
    }
}

impl Leaving {
    fn of(probabilities: &[Vec<f32>], labels: &[usize], policy: &Policy) -> Self {
        let answers = (0..labels.len()).map(|image| dynamic::decide(probabilities, labels.len(), image, policy));
        let (right, left) = answers.zip(labels).map(|(answer, label)| (answer.label == *label, answer.exit)).unzip();
        Self { right: Bits(right), left }
    }

    /// Accuracy, mean cost and where images left.
    pub fn dynamic(&self, costs: &[ExitCost]) -> Dynamic {
        let mut left = vec![0; costs.len()];
        self.left.iter().for_each(|exit| left[*exit] += 1);
        Dynamic::new(self.right.count(), left, costs)
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
