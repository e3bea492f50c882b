//! Square attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search with square changes, by
//! logits alone. It needs no gradient, so it sees through a network that hides its own.

use burn::tensor::{Device, Tensor, TensorData};
use neokd_model::MultiExit;
use serde::{Deserialize, Serialize};

use super::ascent::measure;
use super::budget::Budget;
use super::knobs::{Knobs, default};
use super::method::Method;
use super::survivors::{Candidates, Survivors};
use crate::batch::per_image;
use crate::objective::Mean;
use crate::objective::aim::Aim;
use crate::objective::loss::Loss;
use crate::passes::{Passes, Searched};
use crate::random::Stream;
use crate::scenario::Scenario;
use crate::threat::{Norm, Threat, lengths};

/// After so many queries the broken images are left out: reading who they are more often would cost
/// more than it saves.
const BLOCK: usize = 50;
/// Queries, out of 10000, from which the share of changed pixels is halved once more.
const HALVINGS: [usize; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];
/// Keeps a quotient of two lengths finite.
const TINY: f64 = 1e-12;

/// Square attack on the margin, Linf and L2. What an image is tried with depends on its own random
/// numbers alone; in the published code a batch shares the places of its squares. The average attack's one answer
/// is the mean of the exits'.
///
/// In L2 every other move is finer than the published ones. There a window is at least 3 by 3 pixels, and
/// its new bump is as strong as all that it held, so that every move turns the window by 45 degrees:
/// close to the worst case none is better than what was found before. Of a fine move the window shrinks with
/// the schedule to a single pixel, and a bump that is larger than the share of pixels to be changed is
/// weaker by their ratio. docs/attacks.md says what this gains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Square {
    /// Queries of each run, the first point included, at least 1; 5000, as in AutoAttack, unless said otherwise.
    #[serde(default = "five_thousand")]
    pub queries: usize,
    /// Share of the pixels that the first squares change, above 0 and up to 1; 0.8, as in AutoAttack, unless said
    /// otherwise.
    #[serde(default = "four_fifths")]
    pub share: f64,
    /// Independent runs, at least 1.
    #[serde(default = "default::one")]
    pub restarts: usize,
}

fn five_thousand() -> usize {
    5000
}

fn four_fifths() -> f64 {
    0.8
}

impl Method for Square {
    fn budget(&self, _threat: &Threat) -> Budget {
        let (steps, restarts) = (self.queries, self.restarts);
        Budget { steps, gradient: false, step_size: None, random_start: true, restarts, targets: None }
    }

    fn passes(&self) -> Passes {
        Passes::forward(1).times((self.queries + 1) * self.restarts)
    }

    fn problem(&self) -> Option<String> {
        let Self { share, .. } = *self;
        (!(share > 0.0 && share <= 1.0)).then(|| format!("share = {share}: must be above 0 and at most 1"))
    }

    fn mean(&self) -> Mean {
        Mean::Answers
    }

    fn set(knobs: &Knobs, _threat: &Threat) -> Self {
        let queries = knobs.queries.unwrap_or_else(five_thousand);
        Self { queries, share: four_fifths(), restarts: knobs.restarts }
    }

    fn search<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        Survivors::all(scenario.batch).run(self.restarts, |part, restart| {
            let scenario = scenario.on(&part.batch).restart(restart);
            let (pixels, passes) = self.run(&scenario, aim)?;
            let (value, broken) = measure(&scenario, aim, &Loss::Margin, &pixels);
            Ok(Candidates { pixels, value, broken, passes: passes + Passes::forward(part.count()) })
        })
    }
}

impl Square {
    fn run<M: MultiExit>(&self, scenario: &Scenario<'_, M>, aim: &Aim) -> Searched {
        let Scenario { batch, threat, key, .. } = *scenario;
        let [_, channels, height, width] = batch.pixels.dims();
        let canvas = Canvas { channels, height, width };
        let mut streams: Vec<Stream> = batch.examples.iter().map(|&example| key.stream(example)).collect();
        let mut survivors = Survivors::all(batch);
        let mut query = 0;
        while query < self.queries
            && let Some(part) = survivors.part()
        {
            let clean = &part.batch.pixels;
            let (mut pixels, mut value) = survivors.best(&part);
            let mut broken = value.clone().greater_scalar(f32::INFINITY);
            for query in query..(query + BLOCK).min(self.queries) {
                let mut draws = Draws { canvas, rows: part.rows(), streams: &mut streams };
                let candidate = match (query, threat.norm) {
                    (0, Norm::Linf) => draws.stripes(clean, &threat),
                    (0, Norm::L2) => draws.tiles(clean, &threat),
                    (_, Norm::Linf) => draws.square(clean, &pixels, &threat, self.share_at(query)),
                    (_, Norm::L2) => {
                        draws.moved_mass(clean, &pixels, &threat, canvas.bump(self.share_at(query), query))
                    }
                };
                let (new, breaks) = measure(&scenario.on(&part.batch), aim, &Loss::Margin, &candidate);
                let better = new.clone().greater(value.clone()).bool_or(breaks.clone());
                let better = better.bool_and(broken.clone().bool_not());
                pixels = pixels.mask_where(per_image(better.clone(), &candidate), candidate);
                value = value.mask_where(better.clone(), new);
                broken = broken.bool_or(breaks);
                survivors.passes += Passes::forward(part.count());
            }
            query += BLOCK;
            survivors.take(&part, pixels, value, broken)?;
        }
        Ok(survivors.finish())
    }

    /// The share of the pixels that a query changes (section 3 of the paper, for 10000 queries).
    fn share_at(&self, query: usize) -> f64 {
        let scaled = (query as f64 / self.queries as f64 * 10_000.0) as usize;
        let halvings = HALVINGS.iter().filter(|&&from| scaled > from).count();
        self.share / 2f64.powi(halvings as i32)
    }
}

#[derive(Clone, Copy, Debug)]
struct Canvas {
    channels: usize,
    height: usize,
    width: usize,
}

/// A square window of an image.
#[derive(Clone, Copy, Debug)]
struct Window {
    top: usize,
    left: usize,
    side: usize,
}

impl Canvas {
    fn size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Side of a square of so large a share of the pixels, at least 1 and never larger than the image.
    fn side(&self, share: f64) -> usize {
        let side = (share * (self.height * self.width) as f64).sqrt().round() as usize;
        side.max(1).min(self.height).min(self.width)
    }

    /// Odd side of the window of an L2 move, and how strong its bump is beside what the window holds already:
    /// on even queries as published, on odd ones as fine as the share.
    fn bump(&self, share: f64, query: usize) -> (usize, f64) {
        let fits = |side: usize| if side > self.height.min(self.width) { side - 2 } else { side };
        let side = self.side(share) | 1;
        if query.is_multiple_of(2) {
            return (fits(side.max(3)), 1.0);
        }
        let (side, pixels) = (fits(side), share * (self.height * self.width) as f64);
        (side, (pixels / (side * side) as f64).min(1.0))
    }

    fn window(&self, side: usize, stream: &mut Stream) -> Window {
        Window { top: stream.below(self.height - side + 1), left: stream.below(self.width - side + 1), side }
    }

    /// Sets a window of one channel to what `value` says of each place in it.
    fn fill(&self, plane: &mut [f32], window: Window, value: impl Fn(usize, usize) -> f32) {
        for row in 0..window.side {
            for column in 0..window.side {
                plane[(window.top + row) * self.width + window.left + column] += value(row, column);
            }
        }
    }
}

/// Random changes of the images of a part, drawn from each image's own stream.
struct Draws<'a> {
    canvas: Canvas,
    rows: &'a [usize],
    streams: &'a mut [Stream],
}

impl Draws<'_> {
    /// Vertical stripes of plus and minus epsilon, each channel its own.
    fn stripes(&mut self, clean: &Tensor<4>, threat: &Threat) -> Tensor<4> {
        let Canvas { channels, width, .. } = self.canvas;
        let epsilon = threat.epsilon as f32;
        let change = self.paint(self.canvas.channels, |canvas, stream, image| {
            let signs: Vec<f32> = (0..channels * width).map(|_| stream.sign()).collect();
            for (at, pixel) in image.iter_mut().enumerate() {
                *pixel = epsilon * signs[at / (canvas.height * width) * width + at % width];
            }
        });
        threat.project(clean, clean.clone() + change.to(clean))
    }

    /// One square of a new colour: each channel moves by twice epsilon, up or down.
    fn square(&mut self, clean: &Tensor<4>, best: &Tensor<4>, threat: &Threat, share: f64) -> Tensor<4> {
        let twice = 2.0 * threat.epsilon as f32;
        let side = self.canvas.side(share);
        let change = self.paint(self.canvas.channels, |canvas, stream, image| {
            let window = canvas.window(side, stream);
            for plane in image.chunks_mut(canvas.height * canvas.width) {
                let jump = twice * stream.sign();
                canvas.fill(plane, window, |_, _| jump);
            }
        });
        threat.project(clean, best.clone() + change.to(clean))
    }

    /// A grid of bumps, five to a side, scaled to length epsilon.
    fn tiles(&mut self, clean: &Tensor<4>, threat: &Threat) -> Tensor<4> {
        let Canvas { height, width, .. } = self.canvas;
        let side = (height.min(width) / 5).max(1);
        let (top, left) = ((height % side) / 2, (width % side) / 2);
        let change = self.paint(self.canvas.channels, |canvas, stream, image| {
            for row in 0..height / side {
                for column in 0..width / side {
                    let window = Window { top: top + row * side, left: left + column * side, side };
                    let bump = Bump::draw(side, stream);
                    for plane in image.chunks_mut(height * width) {
                        let sign = stream.sign();
                        canvas.fill(plane, window, |row, column| sign * bump.at(row, column));
                    }
                }
            }
        });
        threat.project(clean, clean.clone() + scaled(change.to(clean), threat.epsilon))
    }

    /// Takes length of the change out of one window and puts it, with what is left of epsilon, into a
    /// bump in another (Algorithm 3 of the paper, where `strength` is always 1).
    fn moved_mass(
        &mut self,
        clean: &Tensor<4>,
        best: &Tensor<4>,
        threat: &Threat,
        (side, strength): (usize, f64),
    ) -> Tensor<4> {
        let channels = self.canvas.channels;
        // Three drawings in one: the bump per channel, the window it goes to, the one it is paid from.
        let drawn = self.paint(channels + 2, |canvas, stream, image| {
            let (to, from) = (canvas.window(side, stream), canvas.window(side, stream));
            let bump = Bump::draw(side, stream);
            for (plane, pixels) in image.chunks_mut(canvas.height * canvas.width).enumerate() {
                match plane.checked_sub(channels) {
                    Some(0) => canvas.fill(pixels, to, |_, _| 1.0),
                    Some(_) => canvas.fill(pixels, from, |_, _| 1.0),
                    None => {
                        let sign = stream.sign();
                        canvas.fill(pixels, to, |row, column| sign * bump.at(row, column));
                    }
                }
            }
        });
        let drawn = drawn.to(clean);
        let bump = drawn.clone().narrow(1, 0, channels);
        let (to, from) = (drawn.clone().narrow(1, channels, 1), drawn.narrow(1, channels + 1, 1));
        let change = best.clone() - clean.clone();

        let there = change.clone() * to.clone();
        let new = bump.mul_scalar(strength) + there.clone() / per_channel(&there).add_scalar(TINY);
        // Where the windows overlap, the change stays: it is in the window that is added to.
        let from = from * to.clone().neg().add_scalar(1.0);
        let taken = per_channel(&(change.clone() * from.clone())).square().mul_scalar(1.0 - (1.0 - strength).powi(2));
        let unused = lengths(&change).square().neg().add_scalar(threat.epsilon.powi(2)).clamp_min(0.0);
        let length = (unused.div_scalar(channels as f64) + per_channel(&there).square() + taken).sqrt();
        let new = new.clone() / per_channel(&new).add_scalar(TINY) * length;
        let kept = change * (to + from.mul_scalar(strength)).neg().add_scalar(1.0);
        threat.project(clean, clean.clone() + scaled(kept + new, threat.epsilon))
    }

    /// Lets each image's stream draw so many planes.
    fn paint(&mut self, planes: usize, mut draw: impl FnMut(&Canvas, &mut Stream, &mut [f32])) -> Painted {
        let size = self.canvas.size() / self.canvas.channels * planes;
        let mut values = vec![0.0; self.rows.len() * size];
        for (image, &row) in values.chunks_mut(size.max(1)).zip(self.rows) {
            draw(&self.canvas, &mut self.streams[row], image);
        }
        Painted { values, shape: [self.rows.len(), planes, self.canvas.height, self.canvas.width] }
    }
}

/// Values on their way to the device.
struct Painted {
    values: Vec<f32>,
    shape: [usize; 4],
}

impl Painted {
    fn to(self, like: &Tensor<4>) -> Tensor<4> {
        let device: Device = like.device();
        Tensor::from_data(TensorData::new(self.values, self.shape), &device)
    }
}

/// Two pyramids of opposite sign side by side, or one above the other, of length 1 (section 3.3 of the
/// paper).
struct Bump {
    side: usize,
    values: Vec<f32>,
    turned: bool,
}

impl Bump {
    fn draw(side: usize, stream: &mut Stream) -> Self {
        let upper = side / 2;
        let pyramid = |row: usize, rows: usize, column: usize| -> f64 {
            let off = |at: usize, length: usize| (at as f64 - (length / 2) as f64).abs() as usize;
            let ring = off(row, rows).max(off(column, side));
            (ring..=(rows / 2).max(side / 2)).map(|ring| 1.0 / ((ring + 1) as f64).powi(2)).sum()
        };
        let halves = |upper_half: bool| if upper_half { (0..upper, upper) } else { (upper..side, side - upper) };
        let mut values = vec![0.0; side * side];
        for (half, sign) in [(true, 1.0), (false, -1.0)] {
            let (rows, count) = halves(half);
            let first = rows.start;
            let cells = rows.flat_map(|row| (0..side).map(move |column| (row, column)));
            let cells: Vec<_> =
                cells.map(|(row, column)| (row * side + column, pyramid(row - first, count, column))).collect();
            let length = cells.iter().map(|(_, value)| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            cells.iter().for_each(|(at, value)| values[*at] = sign * value / length);
        }
        let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let values = values.iter().map(|value| (value / length) as f32).collect();
        Self { side, values, turned: stream.sign() > 0.0 }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        let (row, column) = if self.turned { (column, row) } else { (row, column) };
        self.values[row * self.side + column]
    }
}

/// Length of each channel's change, `[batch, channels, 1, 1]`.
fn per_channel(change: &Tensor<4>) -> Tensor<4> {
    change.clone().square().sum_dim(3).sum_dim(2).sqrt()
}

fn scaled(change: Tensor<4>, length: f64) -> Tensor<4> {
    let now = lengths(&change).add_scalar(TINY);
    (change / now).mul_scalar(length)
}
