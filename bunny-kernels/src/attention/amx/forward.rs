//! The result: a task takes some queries of one head, and packs the keys and values that they see.

use core::ops::Range;
use std::f32::consts::{LN_2, LOG2_E};

use super::super::{Call, Queries, Span, share_out};
use super::{BLOCK, Rows, ZEROS, hide, panels, seen};
use crate::amx::squares::Order;
use crate::amx::{SIDE, SQUARE, Tiles};
use crate::math::exp2_bounded;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch_pairs};

/// Queries of a task: packing its keys and values is little beside multiplying them.
const QUERIES: usize = 256;

pub(in super::super) fn attend(call: &Call<'_>) {
    share_out(call, QUERIES, |queries| dispatch_pairs(Task(queries)));
}

/// Some queries of one head.
struct Task<'a>(Queries<'a>);

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        let Call { q, k, v, shape, .. } = *self.0.call;
        let Span { start, end } = seen(self.0.spans);
        let d = shape.head_dim;
        let (wide, deep) = (d.div_ceil(BLOCK), (end - start).div_ceil(BLOCK));
        let rows = |view, head, first, count| Rows {
            view,
            batch: self.0.batch,
            head,
            first,
            count,
            head_dim: d,
        };
        let kv_head = self.0.head / (shape.query_heads / shape.kv_heads);
        let mut keys = Scratch::new(2 * deep * wide * SQUARE);
        let mut values = Scratch::new(2 * wide * deep * SQUARE);
        if start < end {
            let source = rows(k, kv_head, start, end - start).along_channels();
            source.pack_all(s, Order::Words, wide, keys.as_mut_slice());
            let source = rows(v, kv_head, start, end - start).along_rows();
            source.pack_all(s, Order::Words, deep, values.as_mut_slice());
        }
        let mut queries = Scratch::new(2 * wide * SQUARE);
        let mut block = Block {
            call: self.0.call,
            batch: self.0.batch,
            head: self.0.head,
            start,
            wide,
            deep,
            keys: keys.as_slice(),
            values: values.as_slice(),
            scores: Scratch::new(BLOCK * deep * BLOCK),
            weights: Scratch::new(2 * deep * SQUARE),
            sums: Scratch::new(BLOCK * wide * BLOCK),
        };
        // SAFETY: the level says that there are tiles.
        let tiles = unsafe { Tiles::take() };
        for (at, spans) in self.0.spans.chunks(BLOCK).enumerate() {
            let first = self.0.first + at * BLOCK;
            let source = rows(q, self.0.head, first, spans.len()).along_channels();
            source.pack_all(s, Order::Lines, wide, queries.as_mut_slice());
            block.compute(s, &tiles, first, spans, queries.as_slice());
        }
    }
}

/// Room for 32 queries, and what all of a task's have in common.
struct Block<'a> {
    call: &'a Call<'a>,
    batch: usize,
    head: usize,
    /// The first key that is packed.
    start: usize,
    /// Squares along the channels, and along the keys.
    wide: usize,
    deep: usize,
    keys: &'a [f32],
    values: &'a [f32],
    /// `[32, keys]`.
    scores: Scratch,
    /// As a left operand.
    weights: Scratch,
    /// Of values, `[32, channels]`.
    sums: Scratch,
}

impl Block<'_> {
    #[inline(always)]
    fn compute<S: Simd>(
        &mut self,
        s: S,
        tiles: &Tiles,
        first: usize,
        spans: &[Span],
        queries: &[f32],
    ) {
        let Span { start, end } = seen(spans);
        let blocks = match start < end {
            true => (start - self.start) / BLOCK..(end - self.start).div_ceil(BLOCK),
            false => 0..0,
        };
        let (wide, deep, width) = (self.wide, self.deep, self.deep * BLOCK);
        for block in blocks.clone() {
            let right = panels(self.keys, wide, block, 0);
            let to = self.scores.as_mut_slice()[block * BLOCK..].as_mut_ptr();
            // SAFETY: `wide` squares each, and 32 rows of scores.
            unsafe {
                let zeros = (ZEROS.as_ptr(), 0);
                tiles.multiply(wide, panels(queries, wide, 0, 0), right, zeros, (to, width));
            }
        }
        let mut sums = [(0.0, 0.0); BLOCK];
        for (query, sum) in sums.iter_mut().enumerate() {
            let span = spans.get(query).copied();
            let span = span.unwrap_or(Span { start: 0, end: 0 });
            *sum = self.weigh(s, query, span, blocks.clone());
        }
        if !blocks.is_empty() {
            for channels in 0..wide {
                let left = panels(self.weights.as_slice(), deep, 0, blocks.start);
                let right = panels(self.values, deep, channels, blocks.start);
                let to = self.sums.as_mut_slice()[channels * BLOCK..].as_mut_ptr();
                // SAFETY: squares of all blocks each, and 32 rows of sums.
                unsafe {
                    let zeros = (ZEROS.as_ptr(), 0);
                    tiles.multiply(blocks.len(), left, right, zeros, (to, wide * BLOCK));
                }
            }
        }
        for (query, sum) in sums.into_iter().enumerate().take(spans.len()) {
            self.finish(s, first + query, query, sum);
        }
    }

    /// Makes weights, relative to the greatest, of a query's scores; gives the greatest, as an exponent of
    /// two, and their sum, which is zero where it sees no key.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        s: S,
        query: usize,
        span: Span,
        blocks: Range<usize>,
    ) -> (f32, f32) {
        let (deep, line) = (self.deep, query % SIDE * SIDE);
        let row = query * deep * BLOCK;
        let scores = &mut self.scores.as_mut_slice()[row..row + deep * BLOCK];
        let scores = &mut scores[blocks.start * BLOCK..blocks.end * BLOCK];
        hide(scores, self.start + blocks.start * BLOCK, span);
        let mut greatest = s.splat(f32::NEG_INFINITY);
        for at in (0..scores.len()).step_by(SIDE) {
            greatest = s.max(s.get(scores, at), greatest);
        }
        let greatest = s.greatest(greatest);
        let is_blind = greatest == f32::NEG_INFINITY;
        let factor = self.call.scale * LOG2_E;
        let maximum = if is_blind { 0.0 } else { greatest * factor };
        let (factors, maxima) = (s.splat(factor), s.splat(-maximum));
        let mut sum = s.zero();
        for (at, block) in blocks.enumerate() {
            let low = s.mul_add(s.get(scores, at * BLOCK), factors, maxima);
            let high = s.mul_add(s.get(scores, at * BLOCK + SIDE), factors, maxima);
            let (low, high) = (exp2_bounded(s, low), exp2_bounded(s, high));
            sum = s.add(sum, s.add(low, high));
            let to = (query / SIDE * deep + block) * SQUARE + line;
            s.set(self.weights.as_mut_slice(), to, s.words(low, high));
        }
        (maximum, s.sum(sum))
    }

    /// Writes a query's result, and the logarithm of its sum where that is asked for.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, query: usize, row: usize, (maximum, sum): (f32, f32)) {
        let Call {
            out,
            out_strides,
            shape,
            lse,
            ..
        } = *self.call;
        let d = shape.head_dim;
        let is_blind = sum == 0.0;
        let factor = s.splat(1.0 / sum);
        let from = &self.sums.as_slice()[row * self.wide * BLOCK..];
        // SAFETY: rows of this task.
        unsafe {
            let to = out.part(out_strides.at(self.batch, self.head, query), d);
            if is_blind {
                to.fill(0.0);
            } else {
                for p in (0..d).step_by(SIDE) {
                    s.set(to, p, s.mul(s.get(from, p), factor));
                }
            }
            if let Some(lse) = lse {
                let at = (self.batch * shape.query_heads + self.head) * shape.query_len + query;
                lse.part(at, 1)[0] = if is_blind {
                    f32::INFINITY
                } else {
                    maximum * LN_2 + sum.ln()
                };
            }
        }
    }
}
