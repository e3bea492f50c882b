//! The two inner loops, written once for every instruction set that `pulp` knows.
//!
//! [`multiply`] is a matrix product whose right-hand rows are runs of one buffer, each starting at
//! its own tap: the im2col matrix without the matrix. [`accumulate`] has such runs on the left and an
//! ordinary matrix on the right. Both keep a tile of the result in registers, and both take every sum
//! in an order that depends on sizes alone.

use pulp::Simd;

/// Rows of the left-hand matrix that are packed side by side.
pub(crate) const ROWS: usize = 4;

/// The longest vector of any instruction set, in values. Buffers that are read in whole vectors have
/// this many values beyond their end.
pub(crate) const SLACK: usize = 16;

/// The left-hand matrix of a product, packed: `ROWS` rows side by side, the last ones filled up
/// with zeros.
pub(crate) struct Panels {
    values: Vec<[f32; ROWS]>,
    depth: usize,
    rows: usize,
}

impl Panels {
    /// Packs a matrix given as a function of row and column.
    pub(crate) fn new(rows: usize, depth: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let mut values = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * depth];
        for row in 0..rows {
            let panel = &mut values[row / ROWS * depth..][..depth];
            for (column, packed) in panel.iter_mut().enumerate() {
                packed[row % ROWS] = value(row, column);
            }
        }
        Self { values, depth, rows }
    }

    fn panel(&self, index: usize) -> &[[f32; ROWS]] {
        &self.values[index * self.depth..][..self.depth]
    }
}

/// The first `length` values of working space, which grows if it must and never shrinks.
pub(crate) fn at_least(space: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if space.len() < length {
        space.resize(length, 0.0);
    }
    &mut space[..length]
}

/// Multiplies `panels` with the runs of `source` that start at `taps` and are `columns` long, a few
/// rows at a time, and hands each row of the product to `take`, as `(row, values)`. The values are
/// followed by others up to a whole vector.
///
/// `source` has at least [`SLACK`] values after the longest run; `tile` is working space.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    panels: &Panels,
    taps: &[usize],
    source: &[f32],
    columns: usize,
    tile: &mut Vec<f32>,
    mut take: impl FnMut(usize, &[f32]),
) {
    assert_eq!(panels.depth, taps.len(), "one tap a column");
    let vectors = columns.div_ceil(S::F32_LANES);
    let width = vectors * S::F32_LANES;
    let tile = at_least(tile, 2 * ROWS * width);

    let many_registers = S::REGISTER_COUNT >= 32;
    let mut row = 0;
    while row < panels.rows {
        let (panel, left) = (row / ROWS, panels.rows - row);
        let done = if left == 1 {
            product::<S, 1, 1>(simd, [panels.panel(panel)], taps, source, vectors, tile);
            1
        } else if left <= ROWS || !many_registers {
            product::<S, 1, ROWS>(simd, [panels.panel(panel)], taps, source, vectors, tile);
            ROWS
        } else {
            let pair = [panels.panel(panel), panels.panel(panel + 1)];
            product::<S, 2, ROWS>(simd, pair, taps, source, vectors, tile);
            2 * ROWS
        };
        for (offset, values) in tile.chunks_exact(width).take(done.min(left)).enumerate() {
            take(row + offset, values);
        }
        row += done;
    }
}

/// `P` panels, of which `R` rows each are used, times all runs.
#[inline(always)]
fn product<S: Simd, const P: usize, const R: usize>(
    simd: S,
    panels: [&[[f32; ROWS]]; P],
    taps: &[usize],
    source: &[f32],
    vectors: usize,
    tile: &mut [f32],
) {
    let many_registers = S::REGISTER_COUNT >= 32;
    let mut vector = 0;
    while vector < vectors {
        let source = &source[vector * S::F32_LANES..];
        let left = vectors - vector;
        // A single row needs more columns to keep the multipliers busy; 4 are better as 2 + 2 than 3 + 1.
        let done = if R == 1 && left >= 8 && many_registers {
            block::<S, P, R, 8>(simd, panels, taps, source, vectors, vector, tile)
        } else if R == 1 && left >= 4 {
            block::<S, P, R, 4>(simd, panels, taps, source, vectors, vector, tile)
        } else if left >= 3 && left != 4 && many_registers {
            block::<S, P, R, 3>(simd, panels, taps, source, vectors, vector, tile)
        } else if left >= 2 {
            block::<S, P, R, 2>(simd, panels, taps, source, vectors, vector, tile)
        } else {
            block::<S, P, R, 1>(simd, panels, taps, source, vectors, vector, tile)
        };
        vector += done;
    }
}

/// A block of the product, `P * R` rows and `V` vectors wide, summed in registers; returns `V`.
#[inline(always)]
fn block<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
    panels: [&[[f32; ROWS]]; P],
    taps: &[usize],
    source: &[f32],
    vectors: usize,
    vector: usize,
    tile: &mut [f32],
) -> usize {
    let mut sums = [[[simd.splat_f32s(0.0); V]; R]; P];
    let panels = panels.map(|panel| &panel[..taps.len()]);
    for (index, &tap) in taps.iter().enumerate() {
        let (run, _) = S::as_simd_f32s(&source[tap..tap + V * S::F32_LANES]);
        let run: [S::f32s; V] = std::array::from_fn(|at| run[at]);
        for (panel, sums) in panels.iter().zip(&mut sums) {
            for (&factor, sums) in panel[index].iter().zip(sums) {
                let factor = simd.splat_f32s(factor);
                for (sum, &run) in sums.iter_mut().zip(&run) {
                    *sum = simd.mul_add_f32s(factor, run, *sum);
                }
            }
        }
    }
    let width = vectors * S::F32_LANES;
    for (panel, sums) in sums.iter().enumerate() {
        for (row, sums) in sums.iter().enumerate() {
            let start = (panel * R + row) * width + vector * S::F32_LANES;
            let (target, _) = S::as_mut_simd_f32s(&mut tile[start..start + V * S::F32_LANES]);
            target.copy_from_slice(sums);
        }
    }
    V
}

/// Adds to row `k` of `products` the sum over `n` of `source[taps[k] + n]` times row `n` of `factors`.
///
/// Both matrices have rows of `width` values, a multiple of the vector length.
#[inline(always)]
pub(crate) fn accumulate<S: Simd>(
    simd: S,
    source: &[f32],
    taps: &[usize],
    factors: &[f32],
    width: usize,
    products: &mut [f32],
) {
    if S::REGISTER_COUNT >= 32 {
        accumulate_by::<S, 8>(simd, source, taps, factors, width, products);
    } else {
        accumulate_by::<S, 6>(simd, source, taps, factors, width, products);
    }
}

#[inline(always)]
fn accumulate_by<S: Simd, const R: usize>(
    simd: S,
    source: &[f32],
    taps: &[usize],
    factors: &[f32],
    width: usize,
    products: &mut [f32],
) {
    let pair = 2 * S::F32_LANES;
    for (taps, products) in taps.chunks(R).zip(products.chunks_mut(R * width)) {
        let mut at = 0;
        while at + pair <= width {
            accumulate_block::<S, R, 2>(simd, source, taps, factors, width, at, products);
            at += pair;
        }
        if at < width {
            accumulate_block::<S, R, 1>(simd, source, taps, factors, width, at, products);
        }
    }
}

/// `R` rows of the products, `V` vectors wide from column `at`.
#[inline(always)]
fn accumulate_block<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    taps: &[usize],
    factors: &[f32],
    width: usize,
    at: usize,
    products: &mut [f32],
) {
    let columns = factors.len() / width;
    // A block with fewer rows repeats the last one and drops the copies.
    let runs: [&[f32]; R] = std::array::from_fn(|row| {
        let tap = taps[row.min(taps.len() - 1)];
        &source[tap..tap + columns]
    });
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for column in 0..columns {
        let (factors, _) = S::as_simd_f32s(&factors[column * width + at..][..V * S::F32_LANES]);
        let factors: [S::f32s; V] = std::array::from_fn(|vector| factors[vector]);
        for (run, sums) in runs.iter().zip(&mut sums) {
            let value = simd.splat_f32s(run[column]);
            for (sum, &factor) in sums.iter_mut().zip(&factors) {
                *sum = simd.mul_add_f32s(value, factor, *sum);
            }
        }
    }
    for (products, sums) in products.chunks_exact_mut(width).zip(&sums) {
        let (products, _) = S::as_mut_simd_f32s(&mut products[at..at + V * S::F32_LANES]);
        for (product, &sum) in products.iter_mut().zip(sums) {
            *product = simd.add_f32s(*product, sum);
        }
    }
}

/// The sum of `values`, whose length is a multiple of the vector length.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    for &values in S::as_simd_f32s(values).0 {
        sum = simd.add_f32s(sum, values);
    }
    simd.reduce_sum_f32s(sum)
}
