//! Attention over heads.

use burn::tensor::{DType, Tensor, backend::Backend};

use super::AttentionMask;
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
