//! Attention of many queries.
//!
//! A task takes a block of queries of one head, a register tile wide, and goes through its keys. Scores are kept
//! transposed, `[key, query]`: keys and values are then read where they lie, a lane is a query, and the running
//! maximum and sum of the softmax are ordinary vectors.

use super::super::math::exp2_bounded;
use super::super::parallel;
use super::super::scratch::Scratch;
use super::super::simd::{Kernel, Level, Simd, dispatch};
use super::super::tile::{Left, Tile, multiply};
use super::{Call, Span};
use std::f32::consts::{LN_2, LOG2_E};

/// Vectors of queries in a block.
const VECTORS: usize = 3;
/// Keys whose scores are held at a time.
const KEYS: usize = 128;
/// Stands for the maximum of no scores: far below any, and its differences are no NaN.
const LOWEST: f32 = -1e30;

pub(super) fn attend(call: &Call<'_>) {
    let shape = call.shape;
    let block = VECTORS * Level::current().lanes();
    let blocks = shape.query_len.div_ceil(block);
    let tasks = shape.batch * shape.query_heads * blocks;
    parallel::for_each(tasks, |task| {
        let (head, first) = (task / blocks, task % blocks * block);
        dispatch(Block {
            call,
            batch: head / shape.query_heads,
            head: head % shape.query_heads,
            first,
            queries: block.min(shape.query_len - first),
        });
    });
}

/// Some queries of one head.
struct Block<'a> {
    call: &'a Call<'a>,
    batch: usize,
    head: usize,
    first: usize,
    queries: usize,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the call is checked; no other task has these queries.
        unsafe {
            match (S::LANES, self.queries.div_ceil(S::LANES)) {
                (16, 1) => self.compute::<S, 8, 1>(s),
                (16, 2) => self.compute::<S, 8, 2>(s),
                (16, _) => self.compute::<S, 8, 3>(s),
                (_, 1) => self.compute::<S, 4, 1>(s),
                (_, 2) => self.compute::<S, 4, 2>(s),
                (_, _) => self.compute::<S, 4, 3>(s),
            }
        }
    }
}

/// What the softmax knows of a block so far, and the keys it is at.
struct Scores<S: Simd, const NV: usize> {
    maximum: [S::V; NV],
    sum: [S::V; NV],
    /// The span of every query.
    start: [S::V; NV],
    end: [S::V; NV],
    /// Between these every query sees every key.
    inner: Span,
}

impl Block<'_> {
    /// `MR` rows of keys or queries and `NV` vectors of queries at a time.
    ///
    /// # Safety
    /// The call is checked, and nobody else writes the result of these queries.
    #[inline(always)]
    unsafe fn compute<S: Simd, const MR: usize, const NV: usize>(&self, s: S) {
        let call = self.call;
        let d = call.shape.head_dim;
        let width = NV * S::LANES;
        let spans = &call.spans[self.batch * call.shape.query_len + self.first..][..self.queries];
        let kv_head = self.head / (call.shape.query_heads / call.shape.kv_heads);
        let keys = call
            .k
            .data
            .as_ptr()
            .wrapping_add(call.k.strides.at(self.batch, kv_head, 0));
        let values = call
            .v
            .data
            .as_ptr()
            .wrapping_add(call.v.strides.at(self.batch, kv_head, 0));

        let out_row = d.next_multiple_of(16);
        let mut scratch = Scratch::new(width * (d.next_multiple_of(16) + KEYS + out_row + 1));
        let queries = scratch.as_mut_ptr();
        // SAFETY: parts of the scratch, one after the other.
        let (scores, sums, alphas) = unsafe {
            let scores = queries.add(width * d.next_multiple_of(16));
            let sums = scores.add(width * KEYS);
            (scores, sums, sums.add(width * out_row))
        };
        // SAFETY: as the caller promises; the scratch is as large as each part needs.
        unsafe {
            self.pack_queries(queries, width);
            let mut state = Scores::<S, NV>::new(s, spans);
            let all = Span {
                start: spans.iter().map(|span| span.start).min().unwrap_or(0),
                end: spans.iter().map(|span| span.end).max().unwrap_or(0),
            };
            let mut key = all.start;
            while key < all.end {
                let count = KEYS.min(all.end - key);
                let from = keys.add(key * call.k.strides.row);
                state.score::<MR>(
                    s,
                    from,
                    call.k.strides.row,
                    d,
                    queries,
                    key,
                    count,
                    scores,
                    alphas,
                );
                let from = values.add(key * call.v.strides.row);
                for row in (0..self.queries).step_by(MR) {
                    let weights = Left {
                        from: scores.add(row),
                        row: 1,
                        depth: width,
                    };
                    let to = sums.add(row * out_row);
                    add_values::<S, MR>(
                        s,
                        weights,
                        count,
                        from,
                        call.v.strides.row,
                        d,
                        alphas.add(row),
                        to,
                        out_row,
                    );
                }
                key += count;
            }
            self.finish(s, &state, sums, out_row, alphas);
        }
    }

    /// Queries as `[head_dim, width]`, times the scale and log2 e, so that scores are exponents of two.
    ///
    /// # Safety
    /// `to` holds that many, zeroed.
    #[inline(always)]
    unsafe fn pack_queries(&self, to: *mut f32, width: usize) {
        let call = self.call;
        let scale = call.scale * LOG2_E;
        for i in 0..self.queries {
            let from = &call.q.data[call.q.strides.at(self.batch, self.head, self.first + i)..]
                [..call.shape.head_dim];
            for (p, x) in from.iter().enumerate() {
                // SAFETY: `p < head_dim`, `i < width`.
                unsafe { *to.add(p * width + i) = x * scale };
            }
        }
    }

    /// # Safety
    /// `sums` holds the block's sums of values.
    #[inline(always)]
    unsafe fn finish<S: Simd, const NV: usize>(
        &self,
        s: S,
        state: &Scores<S, NV>,
        sums: *const f32,
        row: usize,
        spare: *mut f32,
    ) {
        let call = self.call;
        let d = call.shape.head_dim;
        let mut log_sums = [0.0; VECTORS * super::super::simd::MAX_LANES];
        for j in 0..NV {
            // SAFETY: the spare row and the array hold every query of the block.
            unsafe {
                let sum = state.sum[j];
                let inverse = s.select_lt(sum, s.splat(1e-30), s.zero(), s.div(s.splat(1.0), sum));
                s.store(spare.add(j * S::LANES), sum);
                for lane in j * S::LANES..(j + 1) * S::LANES {
                    log_sums[lane] = (*spare.add(lane)).ln();
                }
                s.store(spare.add(j * S::LANES), state.maximum[j]);
                for lane in j * S::LANES..(j + 1) * S::LANES {
                    log_sums[lane] += *spare.add(lane) * LN_2;
                }
                s.store(spare.add(j * S::LANES), inverse);
            }
        }
        for (i, log_sum) in log_sums.iter().enumerate().take(self.queries) {
            // SAFETY: the rows of this block, which is this task's.
            unsafe {
                let inverse = *spare.add(i);
                let from = core::slice::from_raw_parts(sums.add(i * row), d);
                let to = call.out.part(
                    call.out_strides.at(self.batch, self.head, self.first + i),
                    d,
                );
                for p in (0..d).step_by(S::LANES) {
                    s.set(to, p, s.mul(s.get(from, p), s.splat(inverse)));
                }
                if let Some(lse) = call.lse {
                    let head = self.batch * call.shape.query_heads + self.head;
                    let log_sum = if inverse == 0.0 {
                        f32::INFINITY
                    } else {
                        *log_sum
                    };
                    lse.part(head * call.shape.query_len + self.first + i, 1)[0] = log_sum;
                }
            }
        }
    }
}

impl<S: Simd, const NV: usize> Scores<S, NV> {
    #[inline(always)]
    fn new(s: S, spans: &[Span]) -> Self {
        let mut bounds = [[0.0; VECTORS * super::super::simd::MAX_LANES]; 2];
        for (i, span) in spans.iter().enumerate() {
            (bounds[0][i], bounds[1][i]) = (span.start as f32, span.end as f32);
        }
        let mut state = Self {
            maximum: [s.splat(LOWEST); NV],
            sum: [s.zero(); NV],
            start: [s.zero(); NV],
            end: [s.zero(); NV],
            inner: Span {
                start: spans.iter().map(|span| span.start).max().unwrap_or(0),
                end: spans.iter().map(|span| span.end).min().unwrap_or(0),
            },
        };
        for j in 0..NV {
            state.start[j] = s.get(&bounds[0], j * S::LANES);
            state.end[j] = s.get(&bounds[1], j * S::LANES);
        }
        state
    }

    /// Weights of `count` keys from `first` on into `scores`, `[key, width]`, relative to the maximum so far; how much
    /// earlier sums shrink into `alphas`.
    ///
    /// # Safety
    /// There are as many keys at `keys`, as many queries at `queries`, and room for the results.
    #[inline(always)]
    #[expect(clippy::too_many_arguments)]
    unsafe fn score<const MR: usize>(
        &mut self,
        s: S,
        keys: *const f32,
        row: usize,
        d: usize,
        queries: *const f32,
        first: usize,
        count: usize,
        scores: *mut f32,
        alphas: *mut f32,
    ) {
        let width = NV * S::LANES;
        let mut maximum = self.maximum;
        // SAFETY: tiles within the keys, and one more for what is left.
        unsafe {
            let mut key = 0;
            while key + MR <= count {
                let from = Left {
                    from: keys.add(key * row),
                    row,
                    depth: 1,
                };
                let tile = multiply::<S, MR, NV, false>(
                    s,
                    d,
                    from,
                    queries,
                    width,
                    0,
                    [[s.zero(); NV]; MR],
                );
                self.put(s, tile, first + key, scores.add(key * width), &mut maximum);
                key += MR;
            }
            while key < count {
                let from = Left {
                    from: keys.add(key * row),
                    row,
                    depth: 1,
                };
                let tile =
                    multiply::<S, 1, NV, false>(s, d, from, queries, width, 0, [[s.zero(); NV]; 1]);
                self.put(s, tile, first + key, scores.add(key * width), &mut maximum);
                key += 1;
            }
            for j in 0..NV {
                let alpha = exp2_bounded(s, s.sub(self.maximum[j], maximum[j]));
                s.store(alphas.add(j * S::LANES), alpha);
                self.sum[j] = s.mul(self.sum[j], alpha);
                self.maximum[j] = maximum[j];
            }
            for key in 0..count {
                for j in 0..NV {
                    let at = scores.add(key * width + j * S::LANES);
                    let weight = exp2_bounded(s, s.sub(s.load(at), maximum[j]));
                    s.store(at, weight);
                    self.sum[j] = s.add(self.sum[j], weight);
                }
            }
        }
    }

    /// Stores the scores of `MR` keys from `first` on, less those the mask hides.
    ///
    /// # Safety
    /// There is room for them at `to`.
    #[inline(always)]
    unsafe fn put<const MR: usize>(
        &self,
        s: S,
        tile: Tile<S, MR, NV>,
        first: usize,
        to: *mut f32,
        maximum: &mut [S::V; NV],
    ) {
        let masked = first < self.inner.start || first + MR > self.inner.end;
        for i in 0..MR {
            for j in 0..NV {
                let mut score = tile[i][j];
                if masked {
                    let (key, hidden) = (s.splat((first + i) as f32), s.splat(f32::NEG_INFINITY));
                    score = s.select_lt(key, self.end[j], score, hidden);
                    score = s.select_lt(key, self.start[j], hidden, score);
                }
                maximum[j] = s.max(score, maximum[j]);
                // SAFETY: as the caller promises.
                unsafe { s.store(to.add((i * NV + j) * S::LANES), score) };
            }
        }
    }
}

/// `to = alpha · to + weights · values`, `MR` queries by `head_dim`, in as many registers at a time as there are.
///
/// # Safety
/// `count` weights a query, `count` rows of values, `MR` alphas, and `MR` rows of `to`, whole vectors long.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
unsafe fn add_values<S: Simd, const MR: usize>(
    s: S,
    weights: Left,
    count: usize,
    values: *const f32,
    row: usize,
    d: usize,
    alphas: *const f32,
    to: *mut f32,
    to_row: usize,
) {
    let mut column = 0;
    while column < d {
        let left = d - column;
        // SAFETY: what is left of each row, the last vector by its head alone.
        unsafe {
            let (values, to) = (values.add(column), to.add(column));
            let whole = left / S::LANES;
            if whole >= 3 {
                add_columns::<S, MR, 3, false>(
                    s, weights, count, values, row, 0, alphas, to, to_row,
                );
            } else if whole == 2 && left == 2 * S::LANES {
                add_columns::<S, MR, 2, false>(
                    s, weights, count, values, row, 0, alphas, to, to_row,
                );
            } else if whole == 2 {
                add_columns::<S, MR, 3, true>(
                    s,
                    weights,
                    count,
                    values,
                    row,
                    left % S::LANES,
                    alphas,
                    to,
                    to_row,
                );
            } else if whole == 1 && left == S::LANES {
                add_columns::<S, MR, 1, false>(
                    s, weights, count, values, row, 0, alphas, to, to_row,
                );
            } else if whole == 1 {
                add_columns::<S, MR, 2, true>(
                    s,
                    weights,
                    count,
                    values,
                    row,
                    left % S::LANES,
                    alphas,
                    to,
                    to_row,
                );
            } else {
                add_columns::<S, MR, 1, true>(
                    s, weights, count, values, row, left, alphas, to, to_row,
                );
            }
        }
        column += 3 * S::LANES;
    }
}

/// # Safety
/// As [`add_values`], for `NV` vectors of columns, the last cut to `tail` when `TAIL`.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
unsafe fn add_columns<S: Simd, const MR: usize, const NV: usize, const TAIL: bool>(
    s: S,
    weights: Left,
    count: usize,
    values: *const f32,
    row: usize,
    tail: usize,
    alphas: *const f32,
    to: *mut f32,
    to_row: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut tile = [[s.zero(); NV]; MR];
        for i in 0..MR {
            let alpha = s.splat(*alphas.add(i));
            for j in 0..NV {
                tile[i][j] = s.mul(alpha, s.load(to.add(i * to_row + j * S::LANES)));
            }
        }
        let tile = multiply::<S, MR, NV, TAIL>(s, count, weights, values, row, tail, tile);
        for i in 0..MR {
            for j in 0..NV {
                s.store(to.add(i * to_row + j * S::LANES), tile[i][j]);
            }
        }
    }
}
