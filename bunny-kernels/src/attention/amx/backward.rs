//! The gradients: a task takes one key head of one sequence, for all query heads that share it.
//!
//! With scores `S = scale Q Kᵀ` and weights `P = e^(S - lse)`: `dV = Pᵀ dO`,
//! `dS = P (dO Vᵀ - rowsum(O dO))`, `dQ = scale dS K`, `dK = scale dSᵀ Q`. Gradients of keys and values
//! are summed turned, `[channels, keys]`: then weights and slopes, of which there are most, are packed
//! two queries at a time as they are computed, and need no turn.

use core::ops::Range;
use std::f32::consts::LOG2_E;

use super::super::backward::Head;
use super::super::{AttentionGradient, AttentionStrides, AttentionView, Span};
use super::{BLOCK, Rows, ZEROS, hide, pack, panels, seen};
use crate::amx::squares::Order;
use crate::amx::{SIDE, SQUARE, Tiles};
use crate::math::exp2_bounded;
use crate::scratch::{Scratch, Shared};
use crate::simd::{Kernel, Simd};

/// Queries whose weights are held at once: enough that sums over them are worth loading and storing.
const QUERIES: usize = 128;

/// A key head whose gradients are computed on tiles.
pub(in super::super) struct OnTiles<'a>(pub Head<'a>);

impl Kernel for OnTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        let head = &self.0;
        let shape = head.call.shape;
        let (wide, deep) = (shape.head_dim.div_ceil(BLOCK), shape.kv_len.div_ceil(BLOCK));
        let [keys, values] =
            [head.call.k, head.call.v].map(|view| head.rows(view, head.kv_head, 0, shape.kv_len));
        let mut sums = Sums {
            head,
            wide,
            deep,
            keys: pack(s, keys.along_channels(), Order::Words, 2 * deep, wide),
            values: pack(s, values.along_channels(), Order::Words, 2 * deep, wide),
            keys_along: pack(s, keys.along_rows(), Order::Words, 2 * wide, deep),
            scores: Scratch::new(BLOCK * deep * BLOCK),
            slopes: Scratch::new(BLOCK * deep * BLOCK),
            slope_lines: Scratch::new(2 * deep * SQUARE),
            of_queries: Scratch::new(BLOCK * wide * BLOCK),
            of_keys: Scratch::new(wide * deep * BLOCK * BLOCK),
            of_values: Scratch::new(wide * deep * BLOCK * BLOCK),
        };
        // SAFETY: the level says that there are tiles.
        let tiles = unsafe { Tiles::take() };
        let group = shape.query_heads / shape.kv_heads;
        for query_head in head.kv_head * group..(head.kv_head + 1) * group {
            for first in (0..shape.query_len).step_by(QUERIES) {
                let count = QUERIES.min(shape.query_len - first);
                sums.add(s, &tiles, Chunk::new(s, head, query_head, first, count));
            }
        }
        head.write(s, &sums.of_keys, head.dk, wide, deep);
        head.write(s, &sums.of_values, head.dv, wide, deep);
    }
}

impl<'a> Head<'a> {
    fn rows(&self, view: AttentionView<'a>, head: usize, first: usize, count: usize) -> Rows<'a> {
        Rows {
            view,
            batch: self.batch,
            head,
            first,
            count,
            head_dim: self.call.shape.head_dim,
        }
    }

    /// Writes the gradients of keys or values, summed as blocks of `[channels, keys]`.
    #[inline(always)]
    fn write<S: Simd>(&self, s: S, sums: &Scratch, to: Shared<'_, f32>, wide: usize, deep: usize) {
        let shape = self.call.shape;
        let d = shape.head_dim;
        let strides = AttentionStrides::rows_first(shape.kv_heads, shape.kv_len, d);
        for (channel, key) in (0..wide * BLOCK)
            .step_by(SIDE)
            .flat_map(|channel| {
                (0..deep * BLOCK)
                    .step_by(SIDE)
                    .map(move |key| (channel, key))
            })
            .filter(|(channel, key)| *channel < d && *key < shape.kv_len)
        {
            let block = (channel / BLOCK * deep + key / BLOCK) * BLOCK * BLOCK;
            let at = block + channel % BLOCK * BLOCK + key % BLOCK;
            let mut square = [s.zero(); SIDE];
            for (line, register) in square.iter_mut().enumerate() {
                *register = s.get(sums.as_slice(), at + line * BLOCK);
            }
            s.transpose(&mut square);
            let keys = (key..shape.kv_len).take(SIDE);
            for (key, register) in keys.zip(square) {
                // SAFETY: rows of this task's key head.
                let row = unsafe { to.part(strides.at(self.batch, self.kv_head, key), d) };
                s.set(row, channel, register);
            }
        }
    }
}

/// Some queries of one head, packed, and the gradients of their results.
struct Chunk<'a> {
    head: usize,
    first: usize,
    spans: &'a [Span],
    /// Blocks of 32 of them.
    blocks: usize,
    /// Left operands with sums over the channels.
    queries: Scratch,
    douts: Scratch,
    /// Left operands with sums over the queries.
    queries_along: Scratch,
    douts_along: Scratch,
    /// Right operands with sums over the queries.
    weights: Scratch,
    slopes: Scratch,
}

impl<'a> Chunk<'a> {
    #[inline(always)]
    fn new<S: Simd>(s: S, head: &Head<'a>, query_head: usize, first: usize, count: usize) -> Self {
        let shape = head.call.shape;
        let wide = shape.head_dim.div_ceil(BLOCK);
        let deep = shape.kv_len.div_ceil(BLOCK);
        let blocks = count.div_ceil(BLOCK);
        let [queries, douts] =
            [head.call.q, head.call.dout].map(|view| head.rows(view, query_head, first, count));
        Self {
            head: query_head,
            first,
            spans: &head.spans[head.batch * shape.query_len + first..][..count],
            blocks,
            queries: pack(s, queries.along_channels(), Order::Lines, 2 * blocks, wide),
            douts: pack(s, douts.along_channels(), Order::Lines, 2 * blocks, wide),
            queries_along: pack(s, queries.along_rows(), Order::Lines, 2 * wide, blocks),
            douts_along: pack(s, douts.along_rows(), Order::Lines, 2 * wide, blocks),
            weights: Scratch::new(2 * deep * blocks * SQUARE),
            slopes: Scratch::new(2 * deep * blocks * SQUARE),
        }
    }
}

/// What a key head has packed, and what it has summed.
struct Sums<'a, 'b> {
    head: &'b Head<'a>,
    /// Squares along the channels, and along the keys.
    wide: usize,
    deep: usize,
    /// Right operands with sums over the channels.
    keys: Scratch,
    values: Scratch,
    /// A right operand with sums over the keys.
    keys_along: Scratch,
    /// Of 32 queries, `[32, keys]`.
    scores: Scratch,
    slopes: Scratch,
    /// Of 32 queries, a left operand with sums over the keys.
    slope_lines: Scratch,
    /// Of 32 queries, `[32, channels]`.
    of_queries: Scratch,
    /// Blocks of `[channels, keys]`.
    of_keys: Scratch,
    of_values: Scratch,
}

impl Sums<'_, '_> {
    /// Adds what some queries give, and writes the gradients of these.
    #[inline(always)]
    fn add<S: Simd>(&mut self, s: S, tiles: &Tiles, mut chunk: Chunk<'_>) {
        let all = seen(chunk.spans);
        if all.start == all.end {
            return;
        }
        let (wide, deep) = (self.wide, self.deep);
        for (block, spans) in chunk.spans.chunks(BLOCK).enumerate() {
            let span = seen(spans);
            let keys = span.start / BLOCK..span.end.div_ceil(BLOCK);
            if keys.is_empty() {
                continue;
            }
            self.score(tiles, &chunk, block, keys.clone());
            for pair in 0..SIDE {
                self.slope(s, &mut chunk, block, pair, keys.clone());
            }
            for channels in 0..wide {
                let left = panels(self.slope_lines.as_slice(), deep, 0, keys.start);
                let right = panels(self.keys_along.as_slice(), deep, channels, keys.start);
                let to = self.of_queries.as_mut_slice()[channels * BLOCK..].as_mut_ptr();
                // SAFETY: squares of all blocks each, and 32 rows of sums.
                unsafe {
                    let zeros = (ZEROS.as_ptr(), 0);
                    tiles.multiply(keys.len(), left, right, zeros, (to, wide * BLOCK));
                }
            }
            self.write_queries(s, &chunk, block, spans.len());
        }
        for channels in 0..wide {
            for keys in all.start / BLOCK..all.end.div_ceil(BLOCK) {
                let at = (channels * deep + keys) * BLOCK * BLOCK;
                for (left, right, sums) in [
                    (&chunk.douts_along, &chunk.weights, &mut self.of_values),
                    (&chunk.queries_along, &chunk.slopes, &mut self.of_keys),
                ] {
                    let left = panels(left.as_slice(), chunk.blocks, channels, 0);
                    let right = panels(right.as_slice(), chunk.blocks, keys, 0);
                    let sums = sums.as_mut_slice()[at..].as_mut_ptr();
                    let from = (sums.cast_const(), BLOCK);
                    // SAFETY: squares of all blocks each, and a block of sums.
                    unsafe { tiles.multiply(chunk.blocks, left, right, from, (sums, BLOCK)) };
                }
            }
        }
    }

    /// Scores of a block of queries, and products of its results' gradients with the values.
    #[inline(always)]
    fn score(&mut self, tiles: &Tiles, chunk: &Chunk<'_>, block: usize, keys: Range<usize>) {
        let (wide, width) = (self.wide, self.deep * BLOCK);
        for keys in keys {
            for (left, right, to) in [
                (&chunk.queries, &self.keys, &mut self.scores),
                (&chunk.douts, &self.values, &mut self.slopes),
            ] {
                let left = panels(left.as_slice(), wide, block, 0);
                let right = panels(right.as_slice(), wide, keys, 0);
                let to = to.as_mut_slice()[keys * BLOCK..].as_mut_ptr();
                // SAFETY: `wide` squares each, and 32 rows of results.
                unsafe {
                    let zeros = (ZEROS.as_ptr(), 0);
                    tiles.multiply(wide, left, right, zeros, (to, width));
                }
            }
        }
    }

    /// Weights and slopes of two queries of a block, packed for the sums in which they stand.
    #[inline(always)]
    fn slope<S: Simd>(
        &mut self,
        s: S,
        chunk: &mut Chunk<'_>,
        block: usize,
        pair: usize,
        keys: Range<usize>,
    ) {
        let (deep, width) = (self.deep, self.deep * BLOCK);
        let lines = [2 * pair, 2 * pair + 1];
        let queries = lines.map(|line| self.query(chunk, block * BLOCK + line));
        for (line, query) in lines.into_iter().zip(&queries) {
            let row = &mut self.scores.as_mut_slice()[line * width..][..width];
            let row = &mut row[keys.start * BLOCK..keys.end * BLOCK];
            hide(row, keys.start * BLOCK, query.span);
        }
        let scale = self.head.call.scale;
        let (factor, scale) = (s.splat(scale * LOG2_E), s.splat(scale));
        for key in keys {
            let mut slopes = [[s.zero(); 2]; 2];
            for half in 0..2 {
                let mut weights = [s.zero(); 2];
                for (i, query) in queries.iter().enumerate() {
                    let at = lines[i] * width + key * BLOCK + half * SIDE;
                    let score = s.get(self.scores.as_slice(), at);
                    let exponent = s.sub(s.mul(score, factor), s.splat(query.sum));
                    weights[i] = exp2_bounded(s, exponent);
                    let product = s.get(self.slopes.as_slice(), at);
                    let slope = s.mul(weights[i], s.sub(product, s.splat(query.share)));
                    slopes[i][half] = s.mul(slope, scale);
                }
                let to = ((2 * key + half) * chunk.blocks + block) * SQUARE + pair * SIDE;
                let word = s.pair(weights[0], weights[1]);
                s.set(chunk.weights.as_mut_slice(), to, word);
                let word = s.pair(slopes[0][half], slopes[1][half]);
                s.set(chunk.slopes.as_mut_slice(), to, word);
            }
            for (line, slopes) in lines.into_iter().zip(slopes) {
                let to = (line / SIDE * deep + key) * SQUARE + line % SIDE * SIDE;
                let words = s.words(slopes[0], slopes[1]);
                s.set(self.slope_lines.as_mut_slice(), to, words);
            }
        }
    }

    /// What is known of a query of a chunk; one beyond its end sees nothing.
    fn query(&self, chunk: &Chunk<'_>, at: usize) -> Query {
        let AttentionGradient {
            out,
            lse,
            dout,
            shape,
            ..
        } = *self.head.call;
        let Some(span) = chunk.spans.get(at).copied() else {
            return Query {
                span: Span { start: 0, end: 0 },
                sum: f32::INFINITY,
                share: 0.0,
            };
        };
        let batch = self.head.batch;
        let query = chunk.first + at;
        let [out, dout] = [out, dout].map(|view| {
            let at = view.strides.at(batch, chunk.head, query);
            &view.data[at..at + shape.head_dim]
        });
        let index = (batch * shape.query_heads + chunk.head) * shape.query_len + query;
        Query {
            span,
            sum: lse[index] * LOG2_E,
            share: out.iter().zip(dout).map(|(out, dout)| out * dout).sum(),
        }
    }

    /// Writes the gradients of a block of queries.
    #[inline(always)]
    fn write_queries<S: Simd>(&self, s: S, chunk: &Chunk<'_>, block: usize, count: usize) {
        let shape = self.head.call.shape;
        let d = shape.head_dim;
        let strides = AttentionStrides::rows_first(shape.query_heads, shape.query_len, d);
        for line in 0..count {
            let query = chunk.first + block * BLOCK + line;
            let from = &self.of_queries.as_slice()[line * self.wide * BLOCK..];
            // SAFETY: rows of query heads that share this task's key head.
            let to = unsafe {
                let at = strides.at(self.head.batch, chunk.head, query);
                self.head.dq.part(at, d)
            };
            for p in (0..d).step_by(SIDE) {
                s.set(to, p, s.get(from, p));
            }
        }
    }
}

/// What is known of a query.
struct Query {
    span: Span,
    /// The logarithm of its sum, as an exponent of two; infinite where it sees no key.
    sum: f32,
    /// How much of each slope is common to all.
    share: f32,
}
