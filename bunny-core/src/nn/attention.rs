//! Attention over heads.

use burn::tensor::{DType, Tensor, backend::Backend};

use super::{AttentionMask, KvPass, LayerCache, Phase};
use crate::ops;

/// Attention of every query to the keys its mask shows.
///
/// A query that may look at nothing (padding) gets numbers without meaning. `weights` is the type in
/// which the layer's projections are kept: where it is bf16, a processor that multiplies such numbers
/// may round what it multiplies to it here too, as it does in those projections.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`; each key head serves `heads / kv_heads` query heads.
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    weights: DType,
) -> Tensor<B, 3> {
    let scale = (query.dims()[3] as f64).powf(-0.5);
    ops::attention(query, key, value, mask, scale, weights == DType::BF16)
}

/// Attention of the rows of a pass to what a cache holds of their sequences, after their own keys and
/// values were written there: every row looks at its own position and all before it. `weights` as in
/// [`attention`].
///
/// # Shapes
/// queries `[1, heads, rows, head_dim]`, keys and values `[1, kv_heads, rows, head_dim]` →
/// `[1, rows, heads * head_dim]`
pub(crate) fn cached_attention<B: Backend>(
    heads: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    phase: Phase,
    weights: DType,
) -> Tensor<B, 3> {
    let scale = (heads[0].dims()[3] as f64).powf(-0.5);
    ops::cached_attention(heads, layer, pass, phase, scale, weights == DType::BF16)
}
