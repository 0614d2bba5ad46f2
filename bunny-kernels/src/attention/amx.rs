//! Attention on tile registers (AMX): queries, keys, values and weights are rounded to `bf16`, as they
//! are wherever models are kept in it; scores, softmax and sums are `f32`.
//!
//! 32 queries meet all of their keys at once. Their scores fit the second cache, so that no maximum has
//! to be carried from some keys to the next.

mod backward;
mod forward;

pub(super) use backward::OnTiles;
pub(super) use forward::attend;

use super::{AttentionShape, AttentionView, Span};
use crate::amx::squares::Order;
use crate::amx::{SIDE, SQUARE};
use crate::lines::Floats;
use crate::product::{Layout, pack::Source};
use crate::scratch::Scratch;
use crate::simd::{Level, Simd};

/// Rows and columns that tiles multiply at a time, and numbers in a square's lines.
const BLOCK: usize = 2 * SIDE;

/// Adds to nothing.
static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// Whether tiles are there, and there are queries and channels enough to fill them by half.
pub(super) fn serve(shape: &AttentionShape, scale: f32) -> bool {
    Level::current() == Level::Tiles
        && shape.query_len >= SIDE
        && shape.head_dim > SIDE
        && scale > 0.0
}

/// Some rows of a head.
#[derive(Clone, Copy)]
struct Rows<'a> {
    view: AttentionView<'a>,
    batch: usize,
    head: usize,
    first: usize,
    count: usize,
    head_dim: usize,
}

impl<'a> Rows<'a> {
    /// As an operand with sums over the channels.
    fn along_channels(&self) -> Source<Floats<'a, f32>> {
        self.source(Layout::AlongDepth, self.count, self.head_dim)
    }

    /// As an operand with sums over the rows.
    fn along_rows(&self) -> Source<Floats<'a, f32>> {
        self.source(Layout::AcrossDepth, self.head_dim, self.count)
    }

    fn source(&self, layout: Layout, lines: usize, depth: usize) -> Source<Floats<'a, f32>> {
        let at = self.view.strides.at(self.batch, self.head, self.first);
        Source {
            data: Floats {
                data: &self.view.data[at..],
                stride: self.view.strides.row,
            },
            layout,
            lines,
            depth,
        }
    }
}

/// An operand, packed: so many panels of sixteen lines, each of so many squares.
///
/// What computes with registers stands in functions that are inlined, never in closures: those would be
/// compiled for any processor.
#[inline(always)]
fn pack<S: Simd>(
    s: S,
    source: Source<Floats<'_, f32>>,
    order: Order,
    panels: usize,
    squares: usize,
) -> Scratch {
    let mut to = Scratch::new(panels * squares * SQUARE);
    source.pack_all(s, order, squares, to.as_mut_slice());
    to
}

/// Two panels of sixteen lines, from a square of each on: what [`Tiles::multiply`] takes.
///
/// [`Tiles::multiply`]: crate::amx::Tiles::multiply
#[inline(always)]
fn panels(packed: &[f32], squares: usize, block: usize, square: usize) -> [*const f32; 2] {
    [0, 1].map(|half| packed[((2 * block + half) * squares + square) * SQUARE..].as_ptr())
}

/// The keys that any of some queries sees; none at all is none from the first on.
fn seen(spans: &[Span]) -> Span {
    spans
        .iter()
        .filter(|span| span.start < span.end)
        .copied()
        .reduce(|all, span| Span {
            start: all.start.min(span.start),
            end: all.end.max(span.end),
        })
        .unwrap_or(Span { start: 0, end: 0 })
}

/// Makes minus infinity of the scores of keys from `first` on which a query does not see.
fn hide(scores: &mut [f32], first: usize, span: Span) {
    let start = span.start.saturating_sub(first).min(scores.len());
    let end = span.end.saturating_sub(first).clamp(start, scores.len());
    scores[..start].fill(f32::NEG_INFINITY);
    scores[end..].fill(f32::NEG_INFINITY);
}
