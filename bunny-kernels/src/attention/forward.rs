//! Attention of many queries: a task takes a block of queries of one head and goes through its keys.

use super::block::{self, Bounds, KEYS, MOST, Rows};
use super::{Call, Queries, share_out};
use crate::math::exp2_bounded;
use crate::register_tile::{Left, Right, accumulate};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch};
use std::f32::consts::{LN_2, LOG2_E};

/// Stands for the maximum of no scores: far below any, and its differences are no NaN.
const LOWEST: f32 = -1e30;

pub(super) fn attend(call: &Call<'_>) {
    attend_to(call, call.k, call.v);
}

/// [`attend`] with keys and values that lie elsewhere than the call says.
pub(super) fn attend_to<R: Rows + Send + Sync>(call: &Call<'_>, keys: R, values: R) {
    share_out(call, block::queries(), |queries| {
        dispatch(Block {
            queries,
            keys,
            values,
        });
    });
}

/// Some queries of one head, and all the keys and values there are.
struct Block<'a, R> {
    queries: Queries<'a>,
    keys: R,
    values: R,
}

impl<R: Rows> Kernel for Block<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the call is checked; no other task has these queries.
        unsafe {
            match (S::LANES, self.queries.spans.len().div_ceil(S::LANES)) {
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

impl<R: Rows> Block<'_, R> {
    /// `MR` rows of keys or queries and `NV` vectors of queries at a time.
    ///
    /// # Safety
    /// The call is checked, and nobody else writes the result of these queries.
    #[inline(always)]
    unsafe fn compute<S: Simd, const MR: usize, const NV: usize>(&self, s: S) {
        let Queries {
            call,
            batch,
            head,
            first,
            spans,
        } = self.queries;
        let Call {
            q, shape, scale, ..
        } = *call;
        let d = shape.head_dim;
        let width = NV * S::LANES;
        let kv_head = head / (shape.query_heads / shape.kv_heads);
        let mut scratch = Scratch::new(width * (2 * d + KEYS + 1) + R::scratch(d));
        let queries = scratch.as_mut_ptr();
        // SAFETY: parts of the scratch, one after the other; all else as the caller promises.
        unsafe {
            let sums = queries.add(width * d);
            let scores = sums.add(width * d);
            let factors = scores.add(width * KEYS);
            let widened = factors.add(width);
            let from = block::row(&q, batch, head, first);
            // Scores are exponents of two.
            block::pack(
                from,
                q.strides.row,
                spans.len(),
                d,
                scale * LOG2_E,
                queries,
                width,
            );

            let bounds = Bounds::<S, NV>::new(s, spans);
            let mut softmax = Softmax {
                maximum: [s.splat(LOWEST); NV],
                sum: [s.zero(); NV],
            };
            let mut key = bounds.outer.start;
            while key < bounds.outer.end {
                let count = KEYS.min(bounds.outer.end - key);
                let (from, row) = self.keys.rows(s, batch, kv_head, key, count, widened);
                let keys = Left {
                    from,
                    row,
                    depth: 1,
                };
                block::products::<S, MR, NV>(s, keys, count, d, queries, scores);
                bounds.hide(s, key, count, scores);
                softmax.weigh(s, count, scores, factors);
                let (from, depth) = self.values.rows(s, batch, kv_head, key, count, widened);
                let values = Right { from, depth };
                for query in (0..spans.len()).step_by(MR) {
                    let weights = Left {
                        from: scores.add(query),
                        row: 1,
                        depth: width,
                    };
                    let to = sums.add(query * d);
                    accumulate::<S, MR>(
                        s,
                        count,
                        weights,
                        values,
                        d,
                        Some(factors.add(query)),
                        to,
                        d,
                    );
                }
                key += count;
            }
            self.finish(s, &softmax, sums);
        }
    }

    /// Writes the result, and the logarithms of the sums where they are asked for.
    ///
    /// # Safety
    /// `sums` holds the queries' sums of values.
    #[inline(always)]
    unsafe fn finish<S: Simd, const NV: usize>(
        &self,
        s: S,
        softmax: &Softmax<S, NV>,
        sums: *const f32,
    ) {
        let Call {
            out,
            out_strides,
            shape,
            lse,
            ..
        } = *self.queries.call;
        let Queries {
            batch, head, first, ..
        } = self.queries;
        let d = shape.head_dim;
        let (mut sum, mut maximum) = ([0.0; MOST], [0.0; MOST]);
        for j in 0..NV {
            s.set(&mut sum, j * S::LANES, softmax.sum[j]);
            s.set(&mut maximum, j * S::LANES, softmax.maximum[j]);
        }
        for i in 0..self.queries.spans.len() {
            let empty = sum[i] == 0.0;
            let factor = s.splat(if empty { 0.0 } else { 1.0 / sum[i] });
            let query = first + i;
            // SAFETY: rows of this block, which is this task's.
            unsafe {
                let from = core::slice::from_raw_parts(sums.add(i * d), d);
                let to = out.part(out_strides.at(batch, head, query), d);
                for p in (0..d).step_by(S::LANES) {
                    s.set(to, p, s.mul(s.get(from, p), factor));
                }
                if let Some(lse) = lse {
                    let at = (batch * shape.query_heads + head) * shape.query_len + query;
                    lse.part(at, 1)[0] = if empty {
                        f32::INFINITY
                    } else {
                        maximum[i] * LN_2 + sum[i].ln()
                    };
                }
            }
        }
    }
}

/// What the softmax knows of a block's queries so far.
struct Softmax<S: Simd, const NV: usize> {
    maximum: [S::V; NV],
    sum: [S::V; NV],
}

impl<S: Simd, const NV: usize> Softmax<S, NV> {
    /// Makes weights, relative to the maximum so far, of the scores of `count` keys; `factors` gets what earlier sums
    /// shrink by.
    ///
    /// # Safety
    /// As many scores at `scores`, and room for a factor a query.
    #[inline(always)]
    unsafe fn weigh(&mut self, s: S, count: usize, scores: *mut f32, factors: *mut f32) {
        let mut maximum = self.maximum;
        // SAFETY: as the caller promises.
        unsafe {
            for key in 0..count {
                for j in 0..NV {
                    maximum[j] = s.max(s.load(scores.add((key * NV + j) * S::LANES)), maximum[j]);
                }
            }
            for j in 0..NV {
                let factor = exp2_bounded(s, s.sub(self.maximum[j], maximum[j]));
                s.store(factors.add(j * S::LANES), factor);
                self.sum[j] = s.mul(self.sum[j], factor);
                self.maximum[j] = maximum[j];
            }
            for key in 0..count {
                for j in 0..NV {
                    let at = scores.add((key * NV + j) * S::LANES);
                    let weight = exp2_bounded(s, s.sub(s.load(at), maximum[j]));
                    s.store(at, weight);
                    self.sum[j] = s.add(self.sum[j], weight);
                }
            }
        }
    }
}
