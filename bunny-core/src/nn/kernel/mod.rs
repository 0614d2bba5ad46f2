//! What the layers compute, each in the fastest way that serves the backend at hand.
//!
//! [`plain`] holds every computation in burn's own operations: it serves any backend, carries
//! gradients, and is what the kernels are tested against. [`dispatch`] alone knows which backends
//! have something better.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod dispatch;
mod plain;

use burn::tensor::{Tensor, backend::Backend};

use super::{Activation, AttentionMask};

pub use plain::{layer_norm, rms_norm, rotate};

/// `y = x Wᵀ + b`; the weight may be held in another type than the activations.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn linear<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::linear(&input, &weight, bias.as_ref()) {
        return output;
    }
    plain::linear(input, weight, bias)
}

/// Applies a nonlinearity to every element.
pub fn activate<B: Backend, const D: usize>(kind: Activation, input: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let input = match dispatch::activate(kind, input) {
        Ok(output) => return output,
        Err(input) => input,
    };
    plain::activate(kind, input)
}

/// Softmax of scaled scores, times the values; scores and softmax in f32.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
) -> Tensor<B, 3> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::attention(&query, &key, &value, mask.mask(), scale) {
        return output;
    }
    plain::attention(query, key, value, mask, scale)
}
