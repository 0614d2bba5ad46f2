//! Attention: a softmax of scaled scores, times the values.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod cubecl;
#[cfg(feature = "flex")]
mod flex;
mod mask;

use burn::tensor::{Bool, DType, Tensor, activation, backend::Backend};

use self::autodiff::AttentionKernel;
pub use self::mask::{AttentionMask, Mask};
use super::{Operands, place::at_place};

/// Softmax of scaled scores, times the values; scores and softmax in f32.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`; each key head serves `heads / kv_heads` query heads.
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    let types = [query.dtype(), key.dtype(), value.dtype()];
    // Kernels know nothing of windows, which few rows are long enough to need.
    if mask.is_cut() {
        return plain(query, key, value, mask, scale);
    }
    at_place!(B;
        plain<K> if K::takes(types) => {
            let inputs = [query, key, value].map(lower);
            raise(K::forward(inputs, mask.mask(), scale as f32, operands))
        },
        autodiff<K> if K::takes(types) => {
            let [query, key, value] = [query, key, value].map(lower);
            let inputs = [&query, &key, &value];
            raise(autodiff::attention::<K>(inputs, mask.mask(), scale as f32, operands))
        },
        else => plain(query, key, value, mask, scale),
    )
}

/// Queries handled at a time: bounds the scores held at once.
const QUERY_CHUNK: usize = 512;

/// [`attention`] in burn's operations, nothing rounded.
pub fn plain<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
) -> Tensor<B, 3> {
    plain_hiding(query, key, value, mask.hidden(), scale)
}

/// [`plain`] to all keys but those that are `hidden`, `[batch | 1, 1, q, kv]`.
pub fn plain_hiding<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    hidden: Option<Tensor<B, 4, Bool>>,
    scale: f64,
) -> Tensor<B, 3> {
    let dtype = query.dtype();
    let [batch, heads, queries, head_dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    let group = heads / kv_heads;
    // Scores that overflow a half (Phi-2's do) must not be formed in one.
    let key = key.cast(DType::F32).swap_dims(2, 3); // [batch, kv_heads, head_dim, kv]
    let value = value.cast(DType::F32);
    let query = query.cast(DType::F32).mul_scalar(scale);
    let chunks = (0..queries).step_by(QUERY_CHUNK).map(|first| {
        let count = QUERY_CHUNK.min(queries - first);
        // Each key head serves its group of query heads as more rows of one product.
        let query = query.clone().narrow(2, first, count).reshape([
            batch,
            kv_heads,
            group * count,
            head_dim,
        ]);
        let mut scores = query
            .matmul(key.clone())
            .reshape([batch, heads, count, keys]);
        if let Some(hidden) = &hidden {
            let hidden = hidden.clone().narrow(2, first, count);
            scores = scores.mask_fill(hidden.expand([batch, heads, count, keys]), f32::MIN);
        }
        activation::softmax(scores, 3)
            .reshape([batch, kv_heads, group * count, keys])
            .matmul(value.clone())
            .reshape([batch, heads, count, head_dim])
    });
    let outputs = Tensor::cat(chunks.collect(), 2); // [batch, heads, q, head_dim]
    outputs
        .swap_dims(1, 2)
        .reshape([batch, queries, heads * head_dim])
        .cast(dtype)
}
