//! Attention of one query a sequence, as in decoding: keys and values stream through once.
//!
//! A task takes some neighbouring keys of one key head, for all the query heads that share it; partial
//! results are joined in the order of the keys. Where a task begins depends on positions alone, so that
//! a sequence's sums are the same bits alone and among others, and wherever its keys and values lie.

use crate::math::exp;
use crate::parallel;
use crate::register_tile::{Left, Right, multiply};
use crate::scratch::Shared;
use crate::simd::{Element, Kernel, Simd, dispatch};
use crate::weight::{WeightRef, with_elements};

/// Keys of a task.
const KEYS: usize = 256;

/// Heads and their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionHeads {
    /// Heads of the queries.
    pub query_heads: usize,
    /// Heads of keys and values; each serves `query_heads / kv_heads` neighbouring query heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

/// Keys or values of one sequence, in whatever type they are stored: the `head_dim` numbers of a
/// position side by side, the rest by these steps, counted in elements.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// The elements.
    pub data: WeightRef<'a>,
    /// From a head to the next.
    pub head: usize,
    /// From a position to the next.
    pub row: usize,
}

/// Keys and values of neighbouring positions of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct KvSegment<'a> {
    /// The keys.
    pub keys: KvRows<'a>,
    /// The values.
    pub values: KvRows<'a>,
    /// Positions.
    pub len: usize,
}

/// One sequence that goes on by a position.
#[derive(Clone, Copy, Debug)]
pub struct DecodingRow<'a> {
    /// The query, `[query_heads, head_dim]`.
    pub query: &'a [f32],
    /// The keys and values that it sees, its own among them, in the order of their positions: a
    /// prefix that others share may lie elsewhere than what is this sequence's own.
    pub segments: &'a [KvSegment<'a>],
}

/// Attention of one query for each of several sequences: `softmax(q · kᵀ · scale) · v`, for every head,
/// in `f32`, to `out`, `[rows, query_heads, head_dim]`. A query that sees no key gives zeros.
///
/// A row's result is the same bits whatever the other rows are, on any number of threads, and however
/// its keys and values are cut into segments.
///
/// # Panics
/// When a slice is too short, or `kv_heads` does not divide `query_heads`.
pub fn decode_attention(
    rows: &[DecodingRow<'_>],
    out: &mut [f32],
    heads: AttentionHeads,
    scale: f32,
) {
    let width = heads.query_heads * heads.head_dim;
    assert_eq!(out.len(), rows.len() * width, "out");
    let out = Shared::new(out);
    let queries: Vec<Query<'_>> = rows
        .iter()
        .enumerate()
        .map(|(row, of)| Query {
            q: of.query,
            q_head: heads.head_dim,
            segments: of.segments,
            out_at: row * width,
            out_head: heads.head_dim,
        })
        .collect();
    // SAFETY: every row has a part of `out` of its own.
    unsafe { attend(&queries, out, None, heads, scale) };
}

/// The query of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    /// From its first head on, and the step from a head to the next.
    pub(super) q: &'a [f32],
    pub(super) q_head: usize,
    pub(super) segments: &'a [KvSegment<'a>],
    /// Where its result begins, and the step from a head to the next.
    pub(super) out_at: usize,
    pub(super) out_head: usize,
}

impl Query<'_> {
    fn keys(&self) -> usize {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    fn check(&self, heads: AttentionHeads) {
        let AttentionHeads {
            query_heads,
            kv_heads,
            head_dim,
        } = heads;
        let end = |heads: usize, step: usize| (heads.max(1) - 1) * step + head_dim;
        assert!(self.q.len() >= end(query_heads, self.q_head), "query");
        for segment in self.segments.iter().filter(|segment| segment.len > 0) {
            for (rows, name) in [(segment.keys, "keys"), (segment.values, "values")] {
                let needs = (segment.len - 1) * rows.row + end(kv_heads, rows.head);
                assert!(rows.data.len() >= needs, "{name} are too short");
            }
        }
    }
}

/// Attends all queries; `lse`, where given, gets the logarithm of each one's sum of exponentials,
/// `[queries, query_heads]`.
///
/// # Safety
/// Every query's heads lie within `out`, and nobody else reads or writes them meanwhile; `lse` is as
/// large as is said.
pub(super) unsafe fn attend(
    queries: &[Query<'_>],
    out: Shared<'_, f32>,
    lse: Option<Shared<'_, f32>>,
    heads: AttentionHeads,
    scale: f32,
) {
    let AttentionHeads {
        query_heads,
        kv_heads,
        head_dim,
    } = heads;
    assert!(
        kv_heads > 0 && query_heads.is_multiple_of(kv_heads),
        "query heads over kv heads"
    );
    queries.iter().for_each(|query| query.check(heads));
    let group = query_heads / kv_heads;
    // The first task of each query.
    let mut firsts = Vec::with_capacity(queries.len());
    let mut tasks = 0;
    for query in queries {
        firsts.push(tasks);
        tasks += kv_heads * query.keys().div_ceil(KEYS);
    }
    // Of each task and query head of its group: the maximum, the sum, and the sum of values.
    let record = head_dim + 2;
    let mut records = vec![0.0; tasks * group * record];
    let shared = Shared::new(&mut records);
    parallel::for_each(tasks, |task| {
        let of = firsts.partition_point(|first| *first <= task) - 1;
        let query = &queries[of];
        let keys = query.keys();
        let parts = keys.div_ceil(KEYS);
        let (kv_head, part) = ((task - firsts[of]) / parts, (task - firsts[of]) % parts);
        for i in 0..group {
            let head = kv_head * group + i;
            dispatch(Part {
                q: &query.q[head * query.q_head..][..head_dim],
                segments: query.segments,
                kv_head,
                start: part * KEYS,
                end: keys.min((part + 1) * KEYS),
                scale,
                // SAFETY: this task's own records.
                record: unsafe { shared.part((task * group + i) * record, record) },
            });
        }
    });
    for (i, (query, first)) in queries.iter().zip(&firsts).enumerate() {
        let parts = query.keys().div_ceil(KEYS);
        for head in 0..query_heads {
            let (kv_head, at) = (head / group, head % group);
            let of_part = |part: usize| {
                let task = first + kv_head * parts + part;
                &records[(task * group + at) * record..][..record]
            };
            // SAFETY: the query's own, as the caller promises, and no task runs any more.
            let out = unsafe { out.part(query.out_at + head * query.out_head, head_dim) };
            let logarithm = join((0..parts).map(of_part), out);
            if let Some(lse) = lse {
                // SAFETY: as above.
                unsafe { lse.part(i * query_heads + head, 1)[0] = logarithm };
            }
        }
    }
}

/// Joins the parts of one head, and gives the logarithm of the sum of exponentials.
fn join<'a>(parts: impl Iterator<Item = &'a [f32]> + Clone, out: &mut [f32]) -> f32 {
    let maximum = parts
        .clone()
        .map(|part| part[0])
        .fold(f32::NEG_INFINITY, f32::max);
    out.fill(0.0);
    let mut sum = 0.0;
    for part in parts.filter(|part| part[1] != 0.0) {
        let alpha = (part[0] - maximum).exp();
        sum += alpha * part[1];
        for (out, value) in out.iter_mut().zip(&part[2..]) {
            *out += alpha * value;
        }
    }
    if sum == 0.0 {
        return f32::INFINITY;
    }
    out.iter_mut().for_each(|out| *out /= sum);
    maximum + sum.ln()
}

/// Some keys for one query head.
struct Part<'a> {
    /// `[head_dim]`.
    q: &'a [f32],
    segments: &'a [KvSegment<'a>],
    kv_head: usize,
    /// Positions.
    start: usize,
    end: usize,
    scale: f32,
    record: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let d = self.q.len();
        let mut scores = [f32::NEG_INFINITY; KEYS];
        let count = self.end - self.start;
        for piece in self.pieces() {
            let scores = &mut scores[piece.at..piece.at + piece.count];
            with_elements!(piece.keys.data, data => self.score(s, piece, data, scores));
        }
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
        let mut column = 0;
        while column < d {
            let left = d - column;
            column += match left / S::LANES {
                0 => self.values::<S, 1, true>(s, &scores, column),
                1..4 => self.values::<S, 1, false>(s, &scores, column),
                _ => self.values::<S, 4, false>(s, &scores, column),
            };
        }
    }
}

/// The keys of a part that lie in one segment.
#[derive(Clone, Copy)]
struct Piece<'a> {
    keys: KvRows<'a>,
    values: KvRows<'a>,
    /// The first of them in the segment, and in the part.
    first: usize,
    at: usize,
    count: usize,
}

/// The pieces of a part, in order.
struct Pieces<'a> {
    segments: core::slice::Iter<'a, KvSegment<'a>>,
    /// Positions: of the part, and where the next segment begins.
    start: usize,
    end: usize,
    position: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let segment = self.segments.next()?;
            let begins = self.position;
            self.position += segment.len;
            let from = self.start.max(begins);
            let to = self.end.min(self.position);
            if from < to {
                return Some(Piece {
                    keys: segment.keys,
                    values: segment.values,
                    first: from - begins,
                    at: from - self.start,
                    count: to - from,
                });
            }
        }
    }
}

impl<'a> Part<'a> {
    #[inline(always)]
    fn pieces(&self) -> Pieces<'a> {
        Pieces {
            segments: self.segments.iter(),
            start: self.start,
            end: self.end,
            position: 0,
        }
    }

    /// The scores of a piece's keys.
    #[inline(always)]
    fn score<S: Simd, E: Element>(&self, s: S, piece: Piece<'_>, data: &[E], scores: &mut [f32]) {
        let d = self.q.len();
        for (i, score) in scores.iter_mut().enumerate() {
            let at = self.kv_head * piece.keys.head + (piece.first + i) * piece.keys.row;
            let key = &data[at..at + d];
            let mut sum = s.zero();
            for p in (0..d).step_by(S::LANES) {
                sum = s.mul_add(s.get(self.q, p), E::get(s, key, p), sum);
            }
            *score = self.scale * s.sum(sum);
        }
    }

    /// Sums `NV` registers of values from `column` on, weighted, or what is left of one if `TAIL`; how
    /// many columns that were.
    #[inline(always)]
    fn values<S: Simd, const NV: usize, const TAIL: bool>(
        &mut self,
        s: S,
        weights: &[f32; KEYS],
        column: usize,
    ) -> usize {
        let width = if TAIL {
            self.q.len() - column
        } else {
            NV * S::LANES
        };
        let mut tile = [[s.zero(); NV]];
        for piece in self.pieces() {
            with_elements!(piece.values.data, data => {
                let at = self.kv_head * piece.values.head + piece.first * piece.values.row + column;
                let data = &data[at..];
                assert!(data.len() >= (piece.count - 1) * piece.values.row + width);
                let weights = Left {
                    from: weights[piece.at..].as_ptr(),
                    row: 0,
                    depth: 1,
                };
                let values = Right {
                    from: data.as_ptr(),
                    depth: piece.values.row,
                };
                // SAFETY: so many rows of so many values, and a weight for each.
                tile = unsafe {
                    multiply::<S, _, 1, NV, TAIL, false>(s, piece.count, weights, values, width, tile)
                };
            });
        }
        for (j, sum) in tile[0].into_iter().enumerate() {
            s.set(&mut self.record[2..], column + j * S::LANES, sum);
        }
        width
    }
}
