//! The gradients of attention, from its result: weights are computed anew from the saved logarithms of their sums.
//!
//! A task takes one key head of one sequence, for all the query heads that share it, block by block in a fixed order:
//! nothing is summed by two tasks.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::block::{self, Bounds, KEYS, MOST};
use super::{AttentionMask, AttentionShape, AttentionStrides, AttentionView, Span};
use crate::math::exp2_bounded;
use crate::parallel;
use crate::register_tile::{Left, Right, accumulate};
use crate::scratch::{Scratch, Shared};
#[cfg(target_arch = "x86_64")]
use crate::simd::dispatch_pairs;
use crate::simd::{Kernel, Simd, dispatch};
use std::f32::consts::LOG2_E;

/// What [`attention`](super::attention()) was given and gave, and the gradient of its result.
#[derive(Clone, Copy, Debug)]
pub struct AttentionGradient<'a> {
    /// Queries, keys and values, as they were given.
    pub q: AttentionView<'a>,
    /// See `q`.
    pub k: AttentionView<'a>,
    /// See `q`.
    pub v: AttentionView<'a>,
    /// The result.
    pub out: AttentionView<'a>,
    /// The logarithms of the sums, `[batch, query_heads, query_len]`.
    pub lse: &'a [f32],
    /// The gradient of the result.
    pub dout: AttentionView<'a>,
    /// Sizes, as they were given.
    pub shape: AttentionShape,
    /// Scale, as it was given.
    pub scale: f32,
    /// Mask, as it was given.
    pub mask: AttentionMask<'a>,
    /// Whether factors may be rounded, as it was given.
    pub rounds: bool,
}

impl AttentionGradient<'_> {
    /// Computes the gradients of queries, keys and values into contiguous `[batch, rows, heads, head_dim]`: as the
    /// projections that gave them left them.
    ///
    /// # Panics
    /// When a slice is too short for its strides, or a length does not fit the shape.
    pub fn compute(&self, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let shape = self.shape;
        let lens = |view: &AttentionView<'_>| (view.data.len(), view.strides);
        let [q, out, dout, k, v] = [&self.q, &self.out, &self.dout, &self.k, &self.v].map(lens);
        shape.check(
            &[
                ("q", q.0, q.1),
                ("out", out.0, out.1),
                ("dout", dout.0, dout.1),
            ],
            &[("k", k.0, k.1), ("v", v.0, v.1)],
        );
        self.mask.check(&shape);
        let AttentionShape {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = shape;
        assert_eq!(self.lse.len(), batch * query_heads * query_len, "lse");
        assert_eq!(dq.len(), batch * query_heads * query_len * head_dim, "dq");
        assert_eq!(dk.len(), batch * kv_heads * kv_len * head_dim, "dk");
        assert_eq!(dv.len(), batch * kv_heads * kv_len * head_dim, "dv");
        let spans = self.mask.spans(&shape);
        [&mut *dq, &mut *dk, &mut *dv]
            .into_iter()
            .for_each(|gradient| gradient.fill(0.0));
        let (dq, dk, dv) = (Shared::new(dq), Shared::new(dk), Shared::new(dv));
        parallel::for_each(batch * kv_heads, |task| {
            let (batch, kv_head) = (task / kv_heads, task % kv_heads);
            let head = Head {
                call: self,
                batch,
                kv_head,
                spans: &spans,
                dq,
                dk,
                dv,
            };
            #[cfg(target_arch = "x86_64")]
            if self.rounds && amx::serve(&shape, self.scale) {
                return dispatch_pairs(amx::OnTiles(head));
            }
            dispatch(head);
        });
    }
}

/// One key head of one sequence.
pub(super) struct Head<'a> {
    pub(super) call: &'a AttentionGradient<'a>,
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    /// Of all queries of all sequences.
    pub(super) spans: &'a [Span],
    pub(super) dq: Shared<'a, f32>,
    pub(super) dk: Shared<'a, f32>,
    pub(super) dv: Shared<'a, f32>,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the call is checked; no other task has this key head, or its query heads.
        unsafe {
            if S::LANES == 16 {
                self.compute::<S, 8>(s)
            } else {
                self.compute::<S, 4>(s)
            }
        }
    }
}

impl Head<'_> {
    /// # Safety
    /// The call is checked, and nobody else writes the gradients of this key head and its query heads.
    #[inline(always)]
    unsafe fn compute<S: Simd, const MR: usize>(&self, s: S) {
        let shape = self.call.shape;
        let most = block::queries();
        let group = shape.query_heads / shape.kv_heads;
        let mut scratch = Scratch::new(most * (3 * shape.head_dim + 2 * KEYS));
        for head in self.kv_head * group..(self.kv_head + 1) * group {
            for first in (0..shape.query_len).step_by(most) {
                let spans = &self.spans[self.batch * shape.query_len + first..];
                let spans = &spans[..most.min(shape.query_len - first)];
                // SAFETY: as the caller promises.
                unsafe {
                    self.block::<S, MR, { block::VECTORS }>(s, head, first, spans, &mut scratch)
                };
            }
        }
    }

    /// Adds what the queries of one block give.
    ///
    /// With scores `S = scale Q Kᵀ` and weights `P = e^(S - lse)`: `dV = Pᵀ dO`, `dS = P (dO Vᵀ - rowsum(O dO))`,
    /// `dQ = scale dS K`, `dK = scale dSᵀ Q`.
    ///
    /// # Safety
    /// As [`Self::compute`].
    #[inline(always)]
    unsafe fn block<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        head: usize,
        first: usize,
        spans: &[Span],
        scratch: &mut Scratch,
    ) {
        let AttentionGradient {
            q,
            k,
            v,
            out,
            lse,
            dout,
            shape,
            scale,
            ..
        } = *self.call;
        let (batch, kv_head, d, count) = (self.batch, self.kv_head, shape.head_dim, spans.len());
        let width = NV * S::LANES;
        scratch.as_mut_slice().fill(0.0);
        let queries = scratch.as_mut_ptr();
        // SAFETY: parts of the scratch, one after the other; all else as the caller promises.
        unsafe {
            let douts = queries.add(width * d);
            let dqueries = douts.add(width * d);
            let weights = dqueries.add(width * d);
            let slopes = weights.add(width * KEYS);
            let query_rows = block::row(&q, batch, head, first);
            block::pack(
                query_rows,
                q.strides.row,
                count,
                d,
                scale * LOG2_E,
                queries,
                width,
            );
            let dout_rows = block::row(&dout, batch, head, first);
            block::pack(dout_rows, dout.strides.row, count, d, 1.0, douts, width);

            let query_index = (batch * shape.query_heads + head) * shape.query_len + first;
            // Lanes without a query see no key: their weights are zero.
            let (mut sums, mut shares) = ([f32::INFINITY; MOST], [0.0; MOST]);
            for i in 0..count {
                sums[i] = lse[query_index + i] * LOG2_E;
                let row = |view: &AttentionView<'_>| {
                    core::slice::from_raw_parts(block::row(view, batch, head, first + i), d)
                };
                shares[i] = row(&out)
                    .iter()
                    .zip(row(&dout))
                    .map(|(o, dout)| o * dout)
                    .sum();
            }

            let bounds = Bounds::<S, NV>::new(s, spans);
            let mut key = bounds.outer.start;
            while key < bounds.outer.end {
                let keys = KEYS.min(bounds.outer.end - key);
                let key_rows = block::row(&k, batch, kv_head, key);
                let value_rows = block::row(&v, batch, kv_head, key);
                let left = Left {
                    from: key_rows,
                    row: k.strides.row,
                    depth: 1,
                };
                block::products::<S, MR, NV>(s, left, keys, d, queries, weights);
                bounds.hide(s, key, keys, weights);
                let left = Left {
                    from: value_rows,
                    row: v.strides.row,
                    depth: 1,
                };
                block::products::<S, MR, NV>(s, left, keys, d, douts, slopes);
                for i in 0..keys {
                    for j in 0..NV {
                        let (lane, at) = (j * S::LANES, (i * NV + j) * S::LANES);
                        let exponent = s.sub(s.load(weights.add(at)), s.get(&sums, lane));
                        let weight = exp2_bounded(s, exponent);
                        let slope = s.sub(s.load(slopes.add(at)), s.get(&shares, lane));
                        s.store(weights.add(at), weight);
                        s.store(slopes.add(at), s.mul(s.mul(weight, slope), s.splat(scale)));
                    }
                }
                let strides = AttentionStrides::rows_first(shape.kv_heads, shape.kv_len, d);
                let at = strides.at(batch, kv_head, key);
                let right = Right {
                    from: dout_rows,
                    depth: dout.strides.row,
                };
                rows::<S, MR>(
                    s,
                    weights,
                    width,
                    keys,
                    count,
                    right,
                    d,
                    self.dv.get().add(at),
                    strides.row,
                );
                let right = Right {
                    from: query_rows,
                    depth: q.strides.row,
                };
                rows::<S, MR>(
                    s,
                    slopes,
                    width,
                    keys,
                    count,
                    right,
                    d,
                    self.dk.get().add(at),
                    strides.row,
                );
                for query in (0..count).step_by(MR) {
                    let left = Left {
                        from: slopes.add(query),
                        row: 1,
                        depth: width,
                    };
                    let right = Right {
                        from: key_rows,
                        depth: k.strides.row,
                    };
                    let to = dqueries.add(query * d);
                    accumulate::<S, MR>(s, keys, left, right, d, None, to, d);
                }
                key += keys;
            }
            let strides = AttentionStrides::rows_first(shape.query_heads, shape.query_len, d);
            for i in 0..count {
                self.dq
                    .part(strides.at(batch, head, first + i), d)
                    .copy_from_slice(core::slice::from_raw_parts(dqueries.add(i * d), d));
            }
        }
    }
}

/// Adds to each of `keys` rows at `to`, with row stride `to_row`, its weighted sum of `queries` rows of `right`, with weights `[key, width]`.
///
/// # Safety
/// Everything named is there.
#[inline(always)]
unsafe fn rows<S: Simd, const MR: usize>(
    s: S,
    weights: *const f32,
    width: usize,
    keys: usize,
    queries: usize,
    right: Right,
    d: usize,
    to: *mut f32,
    to_row: usize,
) {
    let mut key = 0;
    // SAFETY: whole tiles, and single keys for what is left.
    unsafe {
        while key < keys {
            let left = Left {
                from: weights.add(key * width),
                row: width,
                depth: 1,
            };
            let to = to.add(key * to_row);
            if key + MR <= keys {
                accumulate::<S, MR>(s, queries, left, right, d, None, to, to_row);
                key += MR;
            } else {
                accumulate::<S, 1>(s, queries, left, right, d, None, to, to_row);
                key += 1;
            }
        }
    }
}
