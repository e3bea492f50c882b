//! The trait of a multi-exit network, the logits that it gives, and the frozen copy that attacks
//! and evaluations see.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};
use neokd_kernels::FeatureMap;

use crate::ExitCost;

/// A classifier that answers after each of its stages.
///
/// Stage `i` (from 0) continues the trunk; head `i` reads the features after stage `i` and gives
/// the logits of exit `i`. Heads never feed the trunk. An implementation supplies [`enter`],
/// [`advance`] and [`head`]; the provided methods run whole networks, prefixes and single heads.
///
/// Every map is per example: the logits of an image do not depend on its neighbours in the batch,
/// except through batch-norm and dropout while training.
///
/// [`enter`]: MultiExit::enter
/// [`advance`]: MultiExit::advance
/// [`head`]: MultiExit::head
pub trait MultiExit: Module {
    /// Number of exits, at least one.
    fn exits(&self) -> usize;

    /// Number of classes, the width of each exit's logits.
    fn classes(&self) -> usize;

    /// Shape of one image: `[channels, height, width]`.
    fn input_shape(&self) -> [usize; 3];

    /// What it costs to answer at each exit, cumulative, for one image.
    fn costs(&self) -> Vec<ExitCost>;

    /// Turns pixels into what the first stage reads; normalisation happens here.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, channels, height, width]`, values in `[0, 1]`
    fn enter(&self, pixels: Tensor<4>) -> Features;

    /// Runs stage `stage` (from 0) of the trunk.
    fn advance(&self, features: Features, stage: usize) -> Features;

    /// Logits of exit `exit` from the features after stage `exit`.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    fn head(&self, features: &Features, exit: usize) -> Tensor<2>;

    /// Sets the key of the network's own randomness (dropout masks) for the next training passes.
    ///
    /// A network without random layers keeps the empty default. The same key, weights and input
    /// give the same output, so a training step can be repeated from its number alone.
    fn reseed(&self, _key: u64) {}

    /// The same network in evaluation mode, made cheaper to run, for example with batch-norm folded
    /// into the convolutions; equal logits up to rounding. [`Frozen::new`] calls it on its own copy.
    ///
    /// A network without such a form keeps the default, which changes nothing.
    fn folded(self) -> Self {
        self
    }

    /// Weight of the last linear layer of every exit, for losses that penalise it; none by default.
    fn head_weights(&self) -> Vec<Tensor<2>> {
        Vec::new()
    }

    /// Logits of all exits.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, channels, height, width]`, values in `[0, 1]`
    /// - output: one `[batch, classes]` per exit
    fn forward(&self, pixels: Tensor<4>) -> ExitLogits {
        let all: Vec<usize> = (0..self.exits()).collect();
        self.forward_at(pixels, &all)
    }

    /// Logits of exit `exit` alone, running only the trunk up to it and no other head.
    ///
    /// # Panics
    /// If the network has no such exit.
    fn forward_to(&self, pixels: Tensor<4>, exit: usize) -> Tensor<2> {
        self.forward_at(pixels, &[exit]).into_single()
    }

    /// Logits of the named exits (ascending), running the trunk up to the last of them and no
    /// other head.
    ///
    /// # Panics
    /// If `exits` is empty, not strictly ascending, or names an exit that the network lacks.
    fn forward_at(&self, pixels: Tensor<4>, exits: &[usize]) -> ExitLogits {
        assert!(exits.windows(2).all(|pair| pair[0] < pair[1]), "exits must be strictly ascending, got {exits:?}");
        let last = *exits.last().expect("at least one exit is asked for");
        assert!(last < self.exits(), "exit {last} of a network with {} exits", self.exits());

        let mut features = self.enter(pixels);
        let mut logits = Vec::with_capacity(exits.len());
        for stage in 0..=last {
            features = self.advance(features, stage);
            if exits.contains(&stage) {
                logits.push(self.head(&features, stage));
            }
        }
        ExitLogits { exits: exits.to_vec(), logits }
    }
}

/// The maps that flow along the trunk: one for a plain network, one per scale for a multi-scale one.
///
/// Each is `[batch, channels, height, width]` with the same batch.
#[derive(Clone, Debug)]
pub struct Features(pub Vec<FeatureMap>);

impl Features {
    /// Features of a trunk with a single map.
    pub fn single(map: impl Into<FeatureMap>) -> Self {
        Self(vec![map.into()])
    }

    /// The single map of a plain trunk.
    ///
    /// # Panics
    /// If there is not exactly one map.
    pub fn into_single(mut self) -> Tensor<4> {
        assert_eq!(self.0.len(), 1, "a plain trunk has one map");
        self.0.remove(0).into_tensor()
    }

    /// Keeps the given rows of the batch, so that images which left early cost nothing further.
    ///
    /// # Shapes
    /// - `rows`: `[kept]`, indices into the batch
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        Self(self.0.into_iter().map(|map| map.into_tensor().select(0, rows.clone()).into()).collect())
    }
}

/// Logits of some or all exits of one batch.
#[derive(Clone, Debug)]
pub struct ExitLogits {
    exits: Vec<usize>,
    logits: Vec<Tensor<2>>,
}

impl ExitLogits {
    /// Logits of all exits, in order, each `[batch, classes]`.
    pub fn all(logits: Vec<Tensor<2>>) -> Self {
        Self { exits: (0..logits.len()).collect(), logits }
    }

    /// The exits that were computed, ascending.
    pub fn exits(&self) -> &[usize] {
        &self.exits
    }

    /// Logits `[batch, classes]` of exit `exit`, if it was computed.
    pub fn get(&self, exit: usize) -> Option<&Tensor<2>> {
        let at = self.exits.iter().position(|&computed| computed == exit)?;
        Some(&self.logits[at])
    }

    /// The computed logits in the order of [`exits`](Self::exits).
    pub fn as_slice(&self) -> &[Tensor<2>] {
        &self.logits
    }

    /// The logits of some of the computed exits.
    ///
    /// # Panics
    /// If one of them was not computed.
    pub fn only(&self, exits: &[usize]) -> Self {
        let logits = exits.iter().map(|&exit| self.get(exit).expect("logits of a computed exit").clone()).collect();
        Self { exits: exits.to_vec(), logits }
    }

    /// The logits of the first `images` images.
    pub fn first(self, images: usize) -> Self {
        let logits = self.logits.into_iter().map(|logits| logits.narrow(0, 0, images)).collect();
        Self { exits: self.exits, logits }
    }

    /// The same logits without the record that gradients flow back along.
    pub fn untracked(self) -> Self {
        Self { exits: self.exits, logits: self.logits.into_iter().map(Tensor::inner).collect() }
    }

    /// The logits of the only exit that was computed.
    ///
    /// # Panics
    /// If more than one was.
    pub fn into_single(mut self) -> Tensor<2> {
        assert_eq!(self.logits.len(), 1, "logits of more than one exit");
        self.logits.remove(0)
    }

    /// The logits of the deepest exit that was computed.
    pub fn into_last(mut self) -> Tensor<2> {
        self.logits.pop().expect("at least one exit was computed")
    }

    /// Which images each computed exit classifies correctly: one `[batch]` of 0 and 1 per exit,
    /// stacked to `[exits, batch]`.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`
    pub fn correct(&self, labels: &Tensor<1, Int>) -> Tensor<2, Int> {
        let rows = self
            .logits
            .iter()
            .map(|logits| {
                let answer = logits.clone().argmax(1).squeeze_dim::<1>(1);
                answer.equal(labels.clone()).int()
            })
            .collect();
        Tensor::stack(rows, 0)
    }
}

/// A copy of a network as attacks and evaluations see it: parameters untracked, batch-norm and
/// dropout in evaluation mode (or, for a training attack that wants it, in training mode), running
/// statistics not shared with the original.
///
/// Inputs stay differentiable. Nothing done with a frozen copy changes the network that it was
/// made from: Burn's `clone()` shares batch-norm statistics, `valid()`, used here, does not.
///
/// An image's logits and gradients are the same bits in a batch of any size. Matrix kernels take
/// another path, which rounds otherwise, for a single row and for products of few entries; a batch that
/// is so small is run together with copies of its first image.
#[derive(Clone, Debug)]
pub struct Frozen<M> {
    module: M,
    /// Rows from which on a batch is run as it is.
    rows: usize,
}

/// Entries up to which the matrix kernels of the CPU backend take their path for small products.
const SMALL_PRODUCT: usize = 256;

/// Finds the narrowest input of any matrix: a gradient with respect to it is the smallest product.
struct Narrowest(usize);

impl ModuleVisitor for Narrowest {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 2 {
            self.0 = self.0.min(param.val().dims()[0]);
        }
    }
}

impl<M: MultiExit> Frozen<M> {
    /// Freezes a copy of `model`; the original is left as it is.
    pub fn new(model: &M) -> Self {
        let module = model.valid().folded();
        let mut narrowest = Narrowest(SMALL_PRODUCT);
        module.visit(&mut narrowest);
        Self { module, rows: (SMALL_PRODUCT / narrowest.0.max(1) + 1).max(2) }
    }

    /// As [`new`](Self::new), but with batch-norm and dropout in training mode, as Triple Wins makes
    /// its training attacks. The copy's own running statistics move; the original's do not.
    ///
    /// Images are no longer independent of their batch, so nothing is to be judged with it.
    pub fn in_training_mode(model: &M) -> Self {
        // No copies beside a small batch: they would enter the batch's statistics.
        Self { module: model.valid().train().map(&mut Untrack), rows: 0 }
    }

    /// Number of exits.
    pub fn exits(&self) -> usize {
        self.module.exits()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.module.classes()
    }

    /// Shape of one image: `[channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 3] {
        self.module.input_shape()
    }

    /// Cumulative cost per exit.
    pub fn costs(&self) -> Vec<ExitCost> {
        self.module.costs()
    }

    /// Logits of all exits; see [`MultiExit::forward`].
    pub fn forward(&self, pixels: Tensor<4>) -> ExitLogits {
        self.forward_at(pixels, &(0..self.exits()).collect::<Vec<_>>())
    }

    /// Logits of one exit from the prefix that leads to it; see [`MultiExit::forward_to`].
    pub fn forward_to(&self, pixels: Tensor<4>, exit: usize) -> Tensor<2> {
        self.forward_at(pixels, &[exit]).into_single()
    }

    /// Logits of some exits; see [`MultiExit::forward_at`].
    pub fn forward_at(&self, pixels: Tensor<4>, exits: &[usize]) -> ExitLogits {
        let images = pixels.dims()[0];
        if images == 0 || images >= self.rows {
            return self.module.forward_at(pixels, exits);
        }
        let copies = pixels.clone().narrow(0, 0, 1).repeat_dim(0, self.rows - images);
        self.module.forward_at(Tensor::cat(vec![pixels, copies], 0), exits).first(images)
    }

    /// The frozen network itself, for stage-by-stage running.
    pub fn network(&self) -> &M {
        &self.module
    }
}

/// Takes parameters out of the graph and leaves training flags alone.
struct Untrack;

impl ModuleMapper for Untrack {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(false)
    }
}
