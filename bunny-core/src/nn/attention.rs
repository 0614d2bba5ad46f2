//! Attention over heads.

use burn::tensor::{Tensor, backend::Backend};

use super::{AttentionMask, KvPass, LayerCache, Operands, Phase};
use crate::ops;

/// What a projection gives for all heads, head by head.
///
/// # Shapes
/// `[batch, seq, heads * head_dim]` → `[batch, heads, seq, head_dim]`
pub fn split_heads<B: Backend>(projected: Tensor<B, 3>, head_dim: usize) -> Tensor<B, 4> {
    let [batch, seq, channels] = projected.dims();
    projected
        .reshape([batch, seq, channels / head_dim, head_dim])
        .swap_dims(1, 2)
}

/// Attention of every query to the keys its mask shows.
///
/// A query that may look at nothing (padding) gets numbers without meaning. `operands` are
/// those of the layer's projections: what may be rounded there may be rounded here.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`; each key head serves `heads / kv_heads` query heads.
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    operands: Operands,
) -> Tensor<B, 3> {
    let scale = (query.dims()[3] as f64).powf(-0.5);
    ops::attention(query, key, value, mask, scale, operands)
}

/// Attention of the rows of a pass to what a cache holds of their sequences, after their own keys and
/// values were written there: every row looks at its own position and those before it, at all of them
/// or at a `window` of so many in all.
///
/// # Shapes
/// queries `[1, heads, rows, head_dim]`, keys and values `[1, kv_heads, rows, head_dim]` →
/// `[1, rows, heads * head_dim]`
pub(crate) fn cached_attention<B: Backend>(
    heads: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    window: Option<usize>,
    phase: Phase,
    operands: Operands,
) -> Tensor<B, 3> {
    let scale = (heads[0].dims()[3] as f64).powf(-0.5);
    match window {
        Some(window) => ops::windowed_attention(heads, layer, pass, window, phase, scale, operands),
        None => ops::cached_attention(heads, layer, pass, phase, scale, operands),
    }
}
