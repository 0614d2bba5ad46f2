//! What the forward and the backward pass share: a block of queries against some keys.
//!
//! Scores are kept transposed, `[key, query]`: keys and values are then read where they lie, a lane is a query, and
//! what is known of each query (its maximum, its sum, its span) is an ordinary vector.

use super::{AttentionView, Span};
use crate::register_tile::{Left, Right, multiply};
use crate::simd::{Level, MAX_LANES, Simd};

/// Vectors of queries in a block.
pub(super) const VECTORS: usize = 3;
/// Keys that a block looks at together.
pub(super) const KEYS: usize = 128;
/// The most queries in a block.
pub(super) const MOST: usize = VECTORS * MAX_LANES;

/// Queries in a block, with this processor's registers.
pub(super) fn queries() -> usize {
    VECTORS * Level::current().lanes()
}

/// Keys or values, some rows of a head at a time.
pub(super) trait Rows: Copy {
    /// Floats that [`rows`](Self::rows) may write, of heads of `d` numbers.
    fn scratch(d: usize) -> usize;

    /// Where rows `first..first + count` of a head begin, `first` being a multiple of [`KEYS`] behind
    /// the first that is looked at and `count` at most as many, and the step from one to the next.
    ///
    /// # Safety
    /// The rows are there, and `scratch` has room for as many floats as [`scratch`](Self::scratch)
    /// says.
    unsafe fn rows<S: Simd>(
        &self,
        s: S,
        batch: usize,
        head: usize,
        first: usize,
        count: usize,
        scratch: *mut f32,
    ) -> (*const f32, usize);
}

impl Rows for AttentionView<'_> {
    fn scratch(_: usize) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn rows<S: Simd>(
        &self,
        _: S,
        batch: usize,
        head: usize,
        first: usize,
        _: usize,
        _: *mut f32,
    ) -> (*const f32, usize) {
        (row(self, batch, head, first), self.strides.row)
    }
}

/// Where `row` of a head begins. Computing it touches nothing.
pub(super) fn row(view: &AttentionView<'_>, batch: usize, head: usize, row: usize) -> *const f32 {
    view.data
        .as_ptr()
        .wrapping_add(view.strides.at(batch, head, row))
}

/// Rows of `d` numbers as `[d, width]`, times `scale`.
///
/// # Safety
/// `count` rows from `from` on with stride `step`, and room for the result.
#[inline(always)]
pub(super) unsafe fn pack(
    from: *const f32,
    step: usize,
    count: usize,
    d: usize,
    scale: f32,
    to: *mut f32,
    width: usize,
) {
    for i in 0..count {
        for p in 0..d {
            // SAFETY: as the caller promises.
            unsafe { *to.add(p * width + i) = *from.add(i * step + p) * scale };
        }
    }
}

/// The products of `count` keys with packed queries, `[key, query]`.
///
/// # Safety
/// As many rows of `d` numbers at `keys`, `[d, NV vectors]` at `queries`, and room for the result.
#[inline(always)]
pub(super) unsafe fn products<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    keys: Left,
    count: usize,
    d: usize,
    queries: *const f32,
    to: *mut f32,
) {
    let width = NV * S::LANES;
    let queries = Right {
        from: queries,
        depth: width,
    };
    let mut key = 0;
    // SAFETY: whole tiles, and single keys for what is left.
    unsafe {
        while key + MR <= count {
            let keys = Left {
                from: keys.from.add(key * keys.row),
                ..keys
            };
            let tile =
                multiply::<S, MR, NV, false, false>(s, d, keys, queries, 0, [[s.zero(); NV]; MR]);
            for i in 0..MR {
                for j in 0..NV {
                    s.store(to.add((key + i) * width + j * S::LANES), tile[i][j]);
                }
            }
            key += MR;
        }
        while key < count {
            let keys = Left {
                from: keys.from.add(key * keys.row),
                ..keys
            };
            let [tile] =
                multiply::<S, 1, NV, false, false>(s, d, keys, queries, 0, [[s.zero(); NV]]);
            for j in 0..NV {
                s.store(to.add(key * width + j * S::LANES), tile[j]);
            }
            key += 1;
        }
    }
}

/// Which keys the queries of a block see.
pub(super) struct Bounds<S: Simd, const NV: usize> {
    start: [S::V; NV],
    end: [S::V; NV],
    /// Outside, no query sees a key.
    pub(super) outer: Span,
    /// Inside, every query sees every key.
    inner: Span,
}

impl<S: Simd, const NV: usize> Bounds<S, NV> {
    #[inline(always)]
    pub(super) fn new(s: S, spans: &[Span]) -> Self {
        let (mut starts, mut ends) = ([0.0; MOST], [0.0; MOST]);
        let (mut outer, mut inner) = (spans[0], spans[0]);
        for (i, span) in spans.iter().enumerate() {
            (starts[i], ends[i]) = (span.start as f32, span.end as f32);
            outer = Span {
                start: outer.start.min(span.start),
                end: outer.end.max(span.end),
            };
            inner = Span {
                start: inner.start.max(span.start),
                end: inner.end.min(span.end),
            };
        }
        let mut bounds = Self {
            start: [s.zero(); NV],
            end: [s.zero(); NV],
            outer,
            inner,
        };
        for j in 0..NV {
            bounds.start[j] = s.get(&starts, j * S::LANES);
            bounds.end[j] = s.get(&ends, j * S::LANES);
        }
        bounds
    }

    /// Makes minus infinity of the scores that the mask hides, of `count` keys from `first` on.
    ///
    /// # Safety
    /// As many scores at `scores`.
    #[inline(always)]
    pub(super) unsafe fn hide(&self, s: S, first: usize, count: usize, scores: *mut f32) {
        if first >= self.inner.start && first + count <= self.inner.end {
            return;
        }
        let hidden = s.splat(f32::NEG_INFINITY);
        for i in 0..count {
            let key = s.splat((first + i) as f32);
            for j in 0..NV {
                // SAFETY: as the caller promises.
                unsafe {
                    let at = scores.add((i * NV + j) * S::LANES);
                    let score = s.select_lt(key, self.end[j], s.load(at), hidden);
                    s.store(at, s.select_lt(key, self.start[j], hidden, score));
                }
            }
        }
    }
}
