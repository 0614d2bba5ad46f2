//! Attention to keys and values that are kept in blocks of positions, of sequences that are each as
//! long as they are.
//!
//! What a query sees depends on its own sequence alone, to the bit: neither other sequences nor how
//! many queries come at once change the order of its sums.

mod kept;

use self::kept::{Kept, widen};
use super::block::{self, Rows};
use super::{AttentionMask, AttentionShape, AttentionStrides, AttentionView, Call, forward};
use crate::math::exp;
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch, prefetch};
use half::{bf16, f16};

pub use self::kept::{gather_heads, keep_rows};

/// Keys and values in memory: pairs of blocks, each `[kv_heads, positions, head_dim]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CachedBlocks<'a> {
    /// Single precision.
    F32(&'a [[&'a [f32]; 2]]),
    /// Half precision.
    F16(&'a [[&'a [f16]; 2]]),
    /// The upper half of single precision.
    Bf16(&'a [[&'a [bf16]; 2]]),
    /// Bytes with sign, and in front of each row its scale: see [`CachedShape::row_bytes`].
    Int8(&'a [[&'a [i8]; 2]]),
}

/// A block that is written to.
#[derive(Debug)]
#[non_exhaustive]
pub enum CachedBlockMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Half precision.
    F16(&'a mut [f16]),
    /// The upper half of single precision.
    Bf16(&'a mut [bf16]),
    /// Bytes with sign, and in front of each row its scale.
    Int8(&'a mut [i8]),
}

/// A sequence whose last positions are queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedSequence {
    /// The first of its pairs of blocks; the others follow.
    pub first_block: usize,
    /// Its positions, those of the queries included.
    pub len: usize,
    /// The row of its first query; the others follow.
    pub first_row: usize,
    /// How many queries it has.
    pub queries: usize,
}

/// Sizes that all sequences share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedShape {
    /// Heads of the queries.
    pub query_heads: usize,
    /// Heads of keys and values; each serves `query_heads / kv_heads` neighbouring query heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Positions of a block: a multiple of [`CachedShape::GRAIN`].
    pub positions: usize,
}

impl CachedShape {
    /// What the positions of a block are a multiple of: keys that are looked at together lie in one.
    pub const GRAIN: usize = block::KEYS;

    /// Bytes of a row of `head_dim` numbers in eight bits: first the four of its scale, an `f32`, then the
    /// codes, up to the next multiple of four. A number is its code times the scale.
    pub const fn row_bytes(head_dim: usize) -> usize {
        4 + head_dim.next_multiple_of(4)
    }

    fn check<E: Kept>(
        &self,
        q: AttentionView<'_>,
        blocks: &[[&[E]; 2]],
        sequences: &[CachedSequence],
        out: &[f32],
    ) {
        let (heads, d) = (self.query_heads, self.head_dim);
        assert!(
            self.kv_heads > 0 && heads.is_multiple_of(self.kv_heads),
            "query heads over kv heads"
        );
        assert!(
            self.positions > 0 && self.positions.is_multiple_of(Self::GRAIN),
            "positions of a block"
        );
        let numbers = self.block_elements::<E>();
        assert!(
            blocks.iter().flatten().all(|block| block.len() >= numbers),
            "a block is too short"
        );
        for sequence in sequences {
            let rows = sequence.first_row + sequence.queries;
            assert!(sequence.queries <= sequence.len, "more queries than keys");
            assert!(sequence.len < 1 << 24, "more keys than f32 counts");
            let wanted = sequence.first_block + sequence.len.div_ceil(self.positions);
            assert!(wanted <= blocks.len(), "more positions than blocks");
            let extent = q.strides.extent(1, heads, rows, d);
            assert!(q.data.len() >= extent, "q is too short");
            assert!(out.len() >= rows * heads * d, "out is too short");
        }
    }

    /// Elements of a block.
    fn block_elements<E: Kept>(&self) -> usize {
        self.kv_heads * self.positions * E::row(self.head_dim)
    }

    /// Where the numbers of a position of a head begin in a block.
    #[inline(always)]
    fn at<E: Kept>(&self, head: usize, position: usize) -> usize {
        (head * self.positions + position) * E::row(self.head_dim) + E::AHEAD
    }

    /// Where the numbers of `count` positions of a head begin, by a pointer to all of their rows.
    ///
    /// # Panics
    /// When the block does not hold them.
    #[inline(always)]
    fn rows<E: Kept>(&self, block: &[E], head: usize, position: usize, count: usize) -> *const E {
        let first = self.at::<E>(head, position) - E::AHEAD;
        let rows = &block[first..][..count * E::row(self.head_dim)];
        rows.as_ptr().wrapping_add(E::AHEAD)
    }

    /// How results lie: `[rows, query_heads, head_dim]`.
    fn out_strides(&self) -> AttentionStrides {
        AttentionStrides::rows_first(self.query_heads, 0, self.head_dim)
    }
}

/// What the queries of prompts see, `out` being `[rows, query_heads, head_dim]`: each query looks at
/// its own position and at those before it.
///
/// # Panics
/// When a slice is too short, or the positions of a block are no multiple of [`CachedShape::GRAIN`].
pub fn prefill_attention(
    q: AttentionView<'_>,
    blocks: CachedBlocks<'_>,
    sequences: &[CachedSequence],
    out: &mut [f32],
    shape: CachedShape,
    scale: f32,
) {
    match blocks {
        CachedBlocks::F32(blocks) => prefill(q, blocks, sequences, out, shape, scale),
        CachedBlocks::F16(blocks) => prefill(q, blocks, sequences, out, shape, scale),
        CachedBlocks::Bf16(blocks) => prefill(q, blocks, sequences, out, shape, scale),
        CachedBlocks::Int8(blocks) => prefill(q, blocks, sequences, out, shape, scale),
    }
}

fn prefill<E: Kept>(
    q: AttentionView<'_>,
    blocks: &[[&[E]; 2]],
    sequences: &[CachedSequence],
    out: &mut [f32],
    shape: CachedShape,
    scale: f32,
) {
    shape.check(q, blocks, sequences, out);
    let out_strides = shape.out_strides();
    let nothing = AttentionView {
        data: &[],
        strides: out_strides,
    };
    for sequence in sequences {
        let own = AttentionShape {
            batch: 1,
            query_heads: shape.query_heads,
            kv_heads: shape.kv_heads,
            query_len: sequence.queries,
            kv_len: sequence.len,
            head_dim: shape.head_dim,
        };
        let spans = AttentionMask::Causal { starts: None }.spans(&own);
        let rows = |which| Paged {
            blocks: &blocks[sequence.first_block..],
            which,
            shape,
        };
        let first = out_strides.at(0, 0, sequence.first_row);
        let call = Call {
            q: AttentionView {
                data: &q.data[q.strides.at(0, 0, sequence.first_row)..],
                strides: q.strides,
            },
            // They are not side by side.
            k: nothing,
            v: nothing,
            out: Shared::new(&mut out[first..]),
            out_strides,
            shape: own,
            scale,
            spans: &spans,
            lse: None,
        };
        forward::attend_to(&call, rows(0), rows(1));
    }
}

/// The keys, or the values, of a sequence in blocks.
struct Paged<'a, E> {
    blocks: &'a [[&'a [E]; 2]],
    which: usize,
    shape: CachedShape,
}

impl<E> Clone for Paged<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Paged<'_, E> {}

impl<E: Kept> Rows for Paged<'_, E> {
    fn scratch(d: usize) -> usize {
        match E::floats([].as_ptr()) {
            Some(_) => 0,
            None => block::KEYS * d,
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd>(
        &self,
        s: S,
        _: usize,
        head: usize,
        first: usize,
        count: usize,
        scratch: *mut f32,
    ) -> (*const f32, usize) {
        let (d, positions) = (self.shape.head_dim, self.shape.positions);
        let block = self.blocks[first / positions][self.which];
        let row = E::row(d);
        let numbers = self.shape.rows(block, head, first % positions, count);
        if let Some(floats) = E::floats(numbers) {
            return (floats, d);
        }
        // Rows without a scale are one run.
        let (runs, length) = match E::AHEAD {
            0 => (1, count * d),
            _ => (count, d),
        };
        for run in 0..runs {
            // SAFETY: as many numbers there, and room for them as the caller promises.
            unsafe {
                let (from, to) = (numbers.add(run * row), scratch.add(run * d));
                widen(s, from, length, to);
            }
        }
        (scratch.cast_const(), d)
    }
}

/// Keys of a task of decoding.
const KEYS: usize = 256;

/// What the last position of each sequence sees, `out` being `[rows, query_heads, head_dim]`: keys and
/// values stream through once.
///
/// A task takes some keys of one key head, for all the query heads that share it; partial results are
/// joined in the order of the keys.
///
/// # Panics
/// As [`prefill_attention`], and when a sequence has not one query.
pub fn decode_attention(
    q: AttentionView<'_>,
    blocks: CachedBlocks<'_>,
    sequences: &[CachedSequence],
    out: &mut [f32],
    shape: CachedShape,
    scale: f32,
) {
    let single = sequences.iter().all(|sequence| sequence.queries == 1);
    assert!(single, "a query a sequence");
    match blocks {
        CachedBlocks::F32(blocks) => decode(q, blocks, sequences, out, shape, scale),
        CachedBlocks::F16(blocks) => decode(q, blocks, sequences, out, shape, scale),
        CachedBlocks::Bf16(blocks) => decode(q, blocks, sequences, out, shape, scale),
        CachedBlocks::Int8(blocks) => decode(q, blocks, sequences, out, shape, scale),
    }
}

fn decode<E: Kept>(
    q: AttentionView<'_>,
    blocks: &[[&[E]; 2]],
    sequences: &[CachedSequence],
    out: &mut [f32],
    shape: CachedShape,
    scale: f32,
) {
    shape.check(q, blocks, sequences, out);
    let CachedShape {
        query_heads,
        kv_heads,
        head_dim: d,
        ..
    } = shape;
    // Of each part and query head: the maximum, the sum, and the sum of values.
    let record = d + 2;
    let parts_of = |sequence: &CachedSequence| sequence.len.div_ceil(KEYS);
    let mut parts = Vec::new();
    let mut firsts = Vec::with_capacity(sequences.len());
    let mut count = 0;
    for (at, sequence) in sequences.iter().enumerate() {
        firsts.push(count);
        parts.extend((0..parts_of(sequence)).map(|part| (at, part)));
        count += parts_of(sequence) * query_heads;
    }
    let mut records = vec![0.0; count * record];
    let shared = Shared::new(&mut records);
    let group = query_heads / kv_heads;
    parallel::for_each(parts.len() * kv_heads, |task| {
        let ((at, part), kv_head) = (parts[task / kv_heads], task % kv_heads);
        let sequence = sequences[at];
        for head in kv_head * group..(kv_head + 1) * group {
            // The others of the group find all of it in the cache.
            let is_first = head == kv_head * group;
            let place = firsts[at] + head * parts_of(&sequence) + part;
            let from = q.strides.at(0, head, sequence.first_row);
            dispatch(Part {
                query: &q.data[from..][..d],
                blocks: &blocks[sequence.first_block..],
                kv_head,
                start: part * KEYS,
                end: sequence.len.min((part + 1) * KEYS),
                is_first,
                shape,
                scale,
                // SAFETY: this task's own record.
                record: unsafe { shared.part(place * record, record) },
            });
        }
    });
    let out = Shared::new(out);
    parallel::for_each(sequences.len(), |at| {
        let (sequence, parts) = (sequences[at], parts_of(&sequences[at]));
        for head in 0..query_heads {
            let first = (firsts[at] + head * parts) * record;
            let to = shape.out_strides().at(0, head, sequence.first_row);
            // SAFETY: within what was checked, and each sequence has a row of its own.
            let to = unsafe { out.part(to, d) };
            join(&records[first..first + parts * record], record, to);
        }
    });
}

/// Joins the parts of one head.
fn join(records: &[f32], record: usize, out: &mut [f32]) {
    let maximum = records
        .chunks_exact(record)
        .map(|part| part[0])
        .fold(f32::NEG_INFINITY, f32::max);
    out.fill(0.0);
    let mut sum = 0.0;
    for part in records.chunks_exact(record) {
        let alpha = (part[0] - maximum).exp();
        sum += alpha * part[1];
        for (out, value) in out.iter_mut().zip(&part[2..]) {
            *out += alpha * value;
        }
    }
    out.iter_mut().for_each(|out| *out /= sum);
}

/// Some keys for one query.
struct Part<'a, E> {
    query: &'a [f32],
    blocks: &'a [[&'a [E]; 2]],
    kv_head: usize,
    start: usize,
    end: usize,
    /// Whether it is the first to read these keys.
    is_first: bool,
    shape: CachedShape,
    scale: f32,
    record: &'a mut [f32],
}

impl<E: Kept> Part<'_, E> {
    /// The keys from `at` on that lie in one block: how many, and where they begin.
    #[inline(always)]
    fn run(&self, at: usize, which: usize) -> (usize, *const E) {
        let positions = self.shape.positions;
        let within = at % positions;
        let count = (positions - within).min(self.end - at);
        let block = self.blocks[at / positions][which];
        (count, self.shape.rows(block, self.kv_head, within, count))
    }

    /// What is read next: the values, while the keys from `at` on go by, or while the values do, the
    /// keys of the next head.
    #[inline(always)]
    fn next(&self, at: usize, which: usize) -> Option<*const E> {
        let positions = self.shape.positions;
        let block = self.blocks[at / positions];
        let [first, of_next] = [0, 1].map(|head| {
            let head = self.kv_head + head;
            self.shape.at::<E>(head, at % positions)
        });
        let next = match which {
            0 => block[1].as_ptr().wrapping_add(first),
            _ => block[0].as_ptr().wrapping_add(of_next),
        };
        self.is_first.then_some(next)
    }
}

impl<E: Kept> Kernel for Part<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut scores = [f32::NEG_INFINITY; KEYS];
        let mut at = self.start;
        while at < self.end {
            let (count, keys) = Part::run(&self, at, 0);
            let next = self.next(at, 0);
            let scores = &mut scores[at - self.start..][..count];
            // SAFETY: as many keys, each as long as the query.
            unsafe { score(s, self.query, keys, self.scale, scores, next) };
            at += count;
        }
        let count = self.end - self.start;
        let mut maximum = s.splat(f32::NEG_INFINITY);
        for i in (0..count).step_by(S::LANES) {
            maximum = s.max(s.get(&scores, i), maximum);
        }
        let maximum = s.greatest(maximum);
        let mut sum = s.zero();
        for i in (0..count).step_by(S::LANES) {
            let weight = exp(s, s.sub(s.get(&scores, i), s.splat(maximum)));
            s.set(&mut scores, i, weight);
            sum = s.add(sum, weight);
        }
        self.record[0] = maximum;
        self.record[1] = s.sum(sum);
        let mut at = self.start;
        while at < self.end {
            let (count, values) = Part::run(&self, at, 1);
            let next = self.next(at, 1);
            let weights = &mut scores[at - self.start..][..count];
            // SAFETY: as many values, each as long as the sums.
            unsafe {
                if E::AHEAD > 0 {
                    let row = E::row(self.shape.head_dim);
                    for (i, weight) in weights.iter_mut().enumerate() {
                        *weight *= E::scale(values.add(i * row));
                    }
                }
                weigh(s, weights, values, &mut self.record[2..], next);
            }
            at += count;
        }
    }
}

/// Asks for so many numbers.
#[inline(always)]
fn fetch<E>(from: *const E, count: usize) {
    const LINE: usize = 64;
    for at in (0..count).step_by(LINE / size_of::<E>()) {
        prefetch(from.wrapping_add(at));
    }
}

/// The products of a query with some keys, times `scale`, while what is read next is fetched.
///
/// # Safety
/// There are as many keys as scores, one after the other.
#[inline(always)]
unsafe fn score<S: Simd, E: Kept>(
    s: S,
    query: &[f32],
    keys: *const E,
    scale: f32,
    scores: &mut [f32],
    next: Option<*const E>,
) {
    const AT_ONCE: usize = 4;
    let row = E::row(query.len());
    let mut key = 0;
    // SAFETY: keys below the number of scores.
    unsafe {
        while key + AT_ONCE <= scores.len() {
            if let Some(next) = next {
                fetch(next.wrapping_add(key * row), AT_ONCE * row);
            }
            let sums = products::<S, E, AT_ONCE>(s, query, keys.add(key * row));
            for i in 0..AT_ONCE {
                scores[key + i] = scale * s.sum(sums[i]) * E::scale(keys.add((key + i) * row));
            }
            key += AT_ONCE;
        }
        while key < scores.len() {
            let [sum] = products::<S, E, 1>(s, query, keys.add(key * row));
            scores[key] = scale * s.sum(sum) * E::scale(keys.add(key * row));
            key += 1;
        }
    }
}

/// The products of a query with `N` keys, lane by lane, scales apart.
///
/// # Safety
/// There are as many keys.
#[inline(always)]
unsafe fn products<S: Simd, E: Kept, const N: usize>(
    s: S,
    query: &[f32],
    keys: *const E,
) -> [S::V; N] {
    let (d, row) = (query.len(), E::row(query.len()));
    let mut sums = [s.zero(); N];
    let mut p = 0;
    // SAFETY: within the query and the keys.
    unsafe {
        while p + S::LANES <= d {
            let query = s.load(query.as_ptr().add(p));
            for i in 0..N {
                sums[i] = s.mul_add(query, E::load(s, keys.add(i * row + p)), sums[i]);
            }
            p += S::LANES;
        }
        if p < d {
            let query = s.load_head(query.as_ptr().add(p), d - p);
            for i in 0..N {
                let key = E::load_head(s, keys.add(i * row + p), d - p);
                sums[i] = s.mul_add(query, key, sums[i]);
            }
        }
    }
    sums
}

/// Adds the values, each times its weight, while what is read next is fetched.
///
/// # Safety
/// There are as many values as weights, one after the other, each as long as `sums`.
#[inline(always)]
unsafe fn weigh<S: Simd, E: Kept>(
    s: S,
    weights: &[f32],
    values: *const E,
    sums: &mut [f32],
    mut next: Option<*const E>,
) {
    let (d, row) = (sums.len(), E::row(sums.len()));
    let mut column = 0;
    // SAFETY: whole vectors within the values, and the head of one for what is left.
    unsafe {
        while column < d {
            let to = sums.as_mut_ptr().add(column);
            let from = values.add(column);
            column += match (d - column) / S::LANES {
                0 => {
                    let left = d - column;
                    let mut sum = s.load_head(to, left);
                    for (i, weight) in weights.iter().enumerate() {
                        let value = E::load_head(s, from.add(i * row), left);
                        sum = s.mul_add(s.splat(*weight), value, sum);
                    }
                    s.store_head(to, left, sum);
                    left
                }
                1 => columns::<S, E, 1>(s, weights, from, row, to, next),
                2 => columns::<S, E, 2>(s, weights, from, row, to, next),
                3 => columns::<S, E, 3>(s, weights, from, row, to, next),
                4 => columns::<S, E, 4>(s, weights, from, row, to, next),
                5 => columns::<S, E, 5>(s, weights, from, row, to, next),
                _ => columns::<S, E, 6>(s, weights, from, row, to, next),
            };
            next = None;
        }
    }
}

/// [`weigh`] for `NV` vectors of columns; gives how many columns they are.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn columns<S: Simd, E: Kept, const NV: usize>(
    s: S,
    weights: &[f32],
    values: *const E,
    step: usize,
    to: *mut f32,
    next: Option<*const E>,
) -> usize {
    let mut sums = [s.zero(); NV];
    // SAFETY: as the caller promises.
    unsafe {
        for j in 0..NV {
            sums[j] = s.load(to.add(j * S::LANES));
        }
        for (i, weight) in weights.iter().enumerate() {
            if let Some(next) = next {
                fetch(next.wrapping_add(i * step), step);
            }
            let weight = s.splat(*weight);
            for j in 0..NV {
                let value = E::load(s, values.add(i * step + j * S::LANES));
                sums[j] = s.mul_add(weight, value, sums[j]);
            }
        }
        for j in 0..NV {
            s.store(to.add(j * S::LANES), sums[j]);
        }
    }
    NV * S::LANES
}

#[cfg(test)]
mod tests;
