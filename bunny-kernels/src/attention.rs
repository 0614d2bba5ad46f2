//! Attention without a matrix of scores: the softmax is taken as the keys go by (Dao et al., *FlashAttention*, 2022).

#[cfg(target_arch = "x86_64")]
mod amx;
mod backward;
mod block;
mod cached;
mod decode;
mod forward;
#[cfg(test)]
mod tests;

use crate::parallel;
use crate::scratch::Shared;
#[cfg(target_arch = "x86_64")]
use crate::simd::Level;

pub use backward::AttentionGradient;
pub use cached::{
    CachedBlockMut, CachedBlocks, CachedSequence, CachedShape, decode_attention, gather_heads,
    keep_rows, prefill_attention,
};

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Heads of the queries.
    pub query_heads: usize,
    /// Heads of keys and values; each serves `query_heads / kv_heads` neighbouring query heads.
    pub kv_heads: usize,
    /// Queries of a sequence: its last positions.
    pub query_len: usize,
    /// Keys of a sequence.
    pub kv_len: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

/// Where the heads of a tensor lie: the `head_dim` numbers of one row side by side, the rest by these steps, counted
/// in elements. Views into a cache or into a fused projection are as good as tensors of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionStrides {
    /// From a sequence to the next.
    pub batch: usize,
    /// From a head to the next.
    pub head: usize,
    /// From a position to the next.
    pub row: usize,
}

impl AttentionStrides {
    /// Of a contiguous `[batch, heads, rows, head_dim]`.
    pub fn heads_first(heads: usize, rows: usize, head_dim: usize) -> Self {
        Self {
            batch: heads * rows * head_dim,
            head: rows * head_dim,
            row: head_dim,
        }
    }

    /// Of a contiguous `[batch, rows, heads, head_dim]`, as a projection leaves it.
    pub fn rows_first(heads: usize, rows: usize, head_dim: usize) -> Self {
        Self {
            batch: rows * heads * head_dim,
            head: head_dim,
            row: heads * head_dim,
        }
    }

    pub(crate) fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.batch + head * self.head + row * self.row
    }

    /// Whether two of so many rows of `width` share an element.
    pub(crate) fn overlap(&self, batch: usize, heads: usize, rows: usize, width: usize) -> bool {
        let mut steps = [(self.batch, batch), (self.head, heads), (self.row, rows)];
        steps.sort_unstable();
        let mut reach = width;
        for (step, count) in steps.into_iter().filter(|(_, count)| *count > 1) {
            if step < reach {
                return true;
            }
            reach += step * (count - 1);
        }
        false
    }

    /// Elements from the first to the last, so many of each.
    pub(crate) fn extent(&self, batch: usize, heads: usize, rows: usize, head_dim: usize) -> usize {
        if batch * heads * rows == 0 {
            0
        } else {
            self.at(batch - 1, heads - 1, rows - 1) + head_dim
        }
    }
}

/// Heads in memory.
#[derive(Clone, Copy, Debug)]
pub struct AttentionView<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// How they lie.
    pub strides: AttentionStrides,
}

/// Which keys a query sees. Query `i` stands at position `kv_len - query_len + i`:
///
/// ```text
/// Causal, one sequence           starts = [2]            Segments of 0 0 1 1 1
/// query_len 3, kv_len 5          (left padding)
///   1 1 1 . .                      . . 1 . .               1 . . . .
///   1 1 1 1 .                      . . 1 1 .               1 1 . . .
///   1 1 1 1 1                      . . 1 1 1               . . 1 . .
///                                                          . . 1 1 .
///                                                          . . 1 1 1
/// ```
///
/// A query that sees no key gives zeros.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'a> {
    /// Every key.
    None,
    /// The keys up to its own position; with `starts`, `[batch]`, not those before the sequence's start.
    Causal {
        /// The first key of each sequence.
        starts: Option<&'a [usize]>,
    },
    /// The keys up to its own position that belong to its segment, a run of equal ids in `[batch, kv_len]`.
    Segments(&'a [u32]),
}

/// The keys that a query sees, from the first to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

impl AttentionMask<'_> {
    /// The spans of all queries, `[batch, query_len]`.
    fn spans(&self, shape: &AttentionShape) -> Vec<Span> {
        let AttentionShape {
            batch,
            query_len,
            kv_len,
            ..
        } = *shape;
        let mut spans = Vec::with_capacity(batch * query_len);
        for b in 0..batch {
            let mut start = match self {
                Self::Causal {
                    starts: Some(starts),
                } => starts[b],
                _ => 0,
            };
            let mut causal = |position: usize, starts_segment: bool| {
                if starts_segment {
                    start = position;
                }
                Span {
                    start,
                    end: position + 1,
                }
            };
            match self {
                Self::None => spans.extend((0..query_len).map(|_| Span {
                    start: 0,
                    end: kv_len,
                })),
                Self::Causal { .. } => {
                    spans.extend(
                        (kv_len - query_len..kv_len).map(|position| causal(position, false)),
                    );
                }
                Self::Segments(ids) => {
                    let ids = &ids[b * kv_len..(b + 1) * kv_len];
                    let all = (0..kv_len).map(|p| causal(p, p > 0 && ids[p] != ids[p - 1]));
                    spans.extend(all.skip(kv_len - query_len));
                }
            }
        }
        spans
    }

    fn check(&self, shape: &AttentionShape) {
        let AttentionShape {
            batch,
            query_len,
            kv_len,
            ..
        } = *shape;
        match self {
            Self::None => return,
            Self::Causal { starts } => {
                assert!(starts.is_none_or(|starts| starts.len() == batch), "starts")
            }
            Self::Segments(ids) => assert_eq!(ids.len(), batch * kv_len, "segment ids"),
        }
        assert!(
            query_len <= kv_len,
            "more queries than keys under a causal mask"
        );
    }
}

impl AttentionShape {
    fn check(
        &self,
        queries: &[(&str, usize, AttentionStrides)],
        keys: &[(&str, usize, AttentionStrides)],
    ) {
        let Self {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = *self;
        assert!(
            kv_heads > 0 && query_heads.is_multiple_of(kv_heads),
            "query heads over kv heads"
        );
        assert!(kv_len < 1 << 24, "more keys than f32 counts");
        for (name, len, strides) in queries {
            assert!(
                *len >= strides.extent(batch, query_heads, query_len, head_dim),
                "{name} is too short"
            );
        }
        for (name, len, strides) in keys {
            assert!(
                *len >= strides.extent(batch, kv_heads, kv_len, head_dim),
                "{name} is too short"
            );
        }
    }
}

/// Whether [`attention`] of many queries may run on tile registers (AMX), when it may round.
pub fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Level::current() == Level::Tiles;
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `out = softmax(q · kᵀ · scale + mask) · v`, for every head, in `f32`.
///
/// `lse`, when given, gets the logarithm of each query's sum of exponentials, `[batch, query_heads, query_len]`, which
/// the gradient needs; infinity for a query that sees no key.
///
/// `rounds` lets factors be rounded to `bf16`, where the processor is much faster with them.
///
/// # Panics
/// When a slice is too short for its strides, or the mask does not fit the shape.
pub fn attention(
    q: AttentionView<'_>,
    k: AttentionView<'_>,
    v: AttentionView<'_>,
    out: &mut [f32],
    out_strides: AttentionStrides,
    shape: AttentionShape,
    scale: f32,
    mask: AttentionMask<'_>,
    rounds: bool,
    lse: Option<&mut [f32]>,
) {
    shape.check(
        &[
            ("q", q.data.len(), q.strides),
            ("out", out.len(), out_strides),
        ],
        &[
            ("k", k.data.len(), k.strides),
            ("v", v.data.len(), v.strides),
        ],
    );
    let AttentionShape {
        batch,
        query_heads,
        query_len,
        head_dim,
        ..
    } = shape;
    assert!(
        !out_strides.overlap(batch, query_heads, query_len, head_dim),
        "out: rows lie over one another"
    );
    mask.check(&shape);
    if let Some(lse) = &lse {
        assert_eq!(
            lse.len(),
            shape.batch * shape.query_heads * shape.query_len,
            "lse"
        );
    }
    let spans = mask.spans(&shape);
    let call = Call {
        q,
        k,
        v,
        out: Shared::new(out),
        out_strides,
        shape,
        scale,
        spans: &spans,
        lse: lse.map(Shared::new),
    };
    #[cfg(target_arch = "x86_64")]
    if rounds && amx::serve(&shape, scale) {
        return amx::attend(&call);
    }
    // Elsewhere nothing is won by rounding.
    let _ = rounds;
    if shape.query_len == 1 {
        decode::attend(&call)
    } else {
        forward::attend(&call)
    }
}

/// Some queries of one head: what a task computes.
#[derive(Clone, Copy)]
struct Queries<'a> {
    call: &'a Call<'a>,
    batch: usize,
    head: usize,
    first: usize,
    /// Of each of the queries.
    spans: &'a [Span],
}

/// Shares the queries of all heads out among tasks, `most` at a time.
fn share_out(call: &Call<'_>, most: usize, task: impl Fn(Queries<'_>) + Sync + Send) {
    let shape = call.shape;
    let blocks = shape.query_len.div_ceil(most);
    parallel::for_each(shape.batch * shape.query_heads * blocks, |index| {
        let (head, first) = (index / blocks, index % blocks * most);
        let queries = most.min(shape.query_len - first);
        let (batch, head) = (head / shape.query_heads, head % shape.query_heads);
        task(Queries {
            call,
            batch,
            head,
            first,
            spans: &call.spans[batch * shape.query_len + first..][..queries],
        });
    });
}

/// A checked call of [`attention`].
#[derive(Clone, Copy)]
struct Call<'a> {
    q: AttentionView<'a>,
    k: AttentionView<'a>,
    v: AttentionView<'a>,
    out: Shared<f32>,
    out_strides: AttentionStrides,
    shape: AttentionShape,
    scale: f32,
    spans: &'a [Span],
    lse: Option<Shared<f32>>,
}
