//! Attention to no more than the last positions that were read, from a cache.
//!
//! ```text
//! positions        0 1 2 3 4 5 6
//! row 2, window 4  1 1 1                 sees all before it: as without a window
//! row 6, window 4        . . . 1 1 1 1   by burn's operations
//! ```
//!
//! Few sequences grow beyond a window (2,047 positions in Phi-3), so no kernel is made for them; rows
//! that it hides nothing from are read as ever.

use burn::tensor::{Tensor, backend::Backend};

use super::{KvPass, LayerCache, cached_attention, keep_rows, kv_cache::Span, whole};
use crate::ops::{AttentionMask, Mask, Operands, Phase, attention};

/// [`cached_attention`], where a row sees no more than `window` positions, its own included.
///
/// # Shapes
/// As [`cached_attention`]'s.
pub fn windowed_attention<B: Backend>(
    heads: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    window: usize,
    phase: Phase,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    let is_short = |span: &Span| span.past + span.count <= window;
    if pass.spans().iter().all(is_short) {
        return cached_attention(heads, layer, pass, phase, scale, operands);
    }
    let (mut outputs, mut row) = (Vec::new(), 0);
    for span in pass.spans() {
        let near = window.saturating_sub(span.past).min(span.count);
        for (first, count) in [(0, near), (near, span.count - near)] {
            if count == 0 {
                continue;
            }
            let rows = heads.clone().map(|all| all.narrow(2, row, count));
            let part = pass.of(part(pass, span, first, count));
            outputs.push(match first + count <= near {
                true => cached_attention(rows, layer, &part, phase, scale, operands),
                false => far(rows, layer, &part, window, scale, operands),
            });
            row += count;
        }
    }
    match outputs.len() {
        1 => outputs.remove(0),
        _ => Tensor::cat(outputs, 1),
    }
}

/// `count` rows of a sequence's part, from its `first` on.
fn part<B: Backend>(pass: &KvPass<B>, span: &Span, first: usize, count: usize) -> Span {
    let past = span.past + first;
    let blocks = (past + count).div_ceil(pass.blocks().positions);
    Span {
        table: span.table[..blocks].to_vec(),
        past,
        count,
    }
}

/// What the rows of one sequence see that stand further on than the window reaches back.
fn far<B: Backend>(
    [query, key, value]: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    window: usize,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    keep_rows(layer, pass, [&key, &value]);
    let span = &pass.spans()[0];
    // Blocks of which the first row sees nothing, and so no other.
    let positions = pass.blocks().positions;
    let passed = (span.past + 1).saturating_sub(window) / positions;
    let seen = Span {
        table: span.table[passed..].to_vec(),
        past: span.past - passed * positions,
        count: span.count,
    };
    let [key, value] = layer
        .stores_mut()
        .map(|store| whole(store, &seen).cast(query.dtype()));
    let keys = seen.past + seen.count;
    let mask = AttentionMask::new(Mask::CAUSAL, 1, seen.count, keys, &query.device());
    attention(
        query,
        key,
        value,
        &mask.within(Some(window)),
        scale,
        operands,
    )
}
