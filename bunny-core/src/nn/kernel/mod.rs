//! What the layers compute, each in the fastest way that serves the backend at hand.
//!
//! `plain` holds every computation in burn's own operations: it serves any backend, carries
//! gradients, and is what the kernels are tested against. Some backends have something better, and
//! `primitive` finds out whether one of them is at hand: on flex those of [`bunny_kernels`], which
//! `dispatch` calls and to which `tracked` gives gradients; on CubeCL's backends those of `gpu`.

mod cached_attention;
#[cfg(feature = "flex")]
mod dispatch;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod plain;
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
mod primitive;
#[cfg(feature = "flex")]
mod tracked;

use burn::tensor::{Tensor, backend::Backend};

#[cfg(feature = "flex")]
use bunny_kernels::Rotation;
pub use bunny_kernels::{AdamStep, NewtonSchulz};
pub use cached_attention::{cached_attention, kv_blocks, narrows_cache};

#[cfg(feature = "flex")]
use self::tracked::Pairing;
use super::{Activation, AttentionMask, Phase};

/// `y = x Wᵀ + b`; the weight may be held in another type than the activations.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn linear<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    linear_in(Phase::Whole, input, weight, bias)
}

/// [`linear`] with the sums of a phase's rows.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn linear_in<B: Backend>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    // What other backends compute with hangs on the tensors alone.
    let _ = phase;
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::linear(&input, &weight, bias.as_ref(), phase)
        .or_else(|| tracked::linear(&input, &weight, bias.as_ref()))
    {
        return output;
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::linear(&input, &weight, bias.as_ref()) {
        return output;
    }
    plain::linear(input, weight, bias)
}

/// A low-rank adapter (LoRA) beside a weight.
#[derive(Debug, Clone)]
pub struct Adapter<B: Backend> {
    /// `A`, `[rank, in]`; it learns in f32 and is applied in the activations' type.
    pub lora_a: Tensor<B, 2>,
    /// `B`, `[out, rank]`, likewise.
    pub lora_b: Tensor<B, 2>,
    /// `s`.
    pub scale: f64,
    /// Which share of the adapter's input is dropped, and by which draw.
    pub dropout: Option<(f64, u64)>,
}

/// `y = x Wᵀ + b + s (dropout(x) Aᵀ) Bᵀ`.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn adapted_linear<B: Backend>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    adapter: Adapter<B>,
) -> Tensor<B, 2> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::adapted_linear(&input, &weight, bias.as_ref(), &adapter) {
        return output;
    }
    let dtype = input.dtype();
    let output = linear_in(phase, input.clone(), weight, bias);
    let input = match adapter.dropout {
        Some((probability, key)) => dropout(input, probability, key),
        None => input,
    };
    let low = linear_in(phase, input, adapter.lora_a.cast(dtype), None); // [rows, rank]
    // Scaled where there is least of it.
    let low = low.mul_scalar(adapter.scale);
    output + linear_in(phase, low, adapter.lora_b.cast(dtype), None)
}

/// Applies a nonlinearity to every element.
pub fn activate<B: Backend, const D: usize>(kind: Activation, input: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let input = match dispatch::activate(kind, input) {
        Ok(output) => return output,
        Err(input) => match tracked::activate(kind, &input) {
            Some(output) => return output,
            None => input,
        },
    };
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::activate(kind, &input) {
        return output;
    }
    plain::activate(kind, input)
}

/// Softmax of scaled scores, times the values; scores and softmax in f32. `rounds` lets factors be
/// rounded to bf16 where that is much faster.
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
    rounds: bool,
) -> Tensor<B, 3> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::attention(&query, &key, &value, mask.mask(), scale, rounds)
        .or_else(|| tracked::attention(&query, &key, &value, mask.mask(), scale, rounds))
    {
        return output;
    }
    // What other backends compute with hangs on the tensors alone.
    let _ = rounds;
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::attention(&query, &key, &value, mask, scale) {
        return output;
    }
    plain::attention(query, key, value, mask, scale)
}

/// Takes mean and variance out of each row, in f32, then scales and shifts it; what comes out is of
/// the type that goes in.
///
/// # Shapes
/// `[..., channels]`, `[channels]`, `[channels]` → `[..., channels]`
pub fn layer_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::norm(&input, &weight, Some(&bias), epsilon)
        .or_else(|| tracked::norm(&input, &weight, Some(&bias), epsilon))
    {
        return output;
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::norm(&input, &weight, Some(&bias), epsilon) {
        return output;
    }
    plain::layer_norm(input, weight, bias, epsilon)
}

/// Takes the root mean square out of each row, in f32, then scales it; what comes out is of the type
/// that goes in.
///
/// # Shapes
/// `[..., channels]`, `[channels]` → `[..., channels]`
pub fn rms_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::norm(&input, &weight, None, epsilon)
        .or_else(|| tracked::norm(&input, &weight, None, epsilon))
    {
        return output;
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::norm(&input, &weight, None, epsilon) {
        return output;
    }
    plain::rms_norm(input, weight, epsilon)
}

/// Rotates pairs of channels `(i, i + rotary_dim / 2)` of each head; channels beyond `rotary_dim`
/// pass.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, angles `[batch | 1, 1, seq, rotary_dim / 2]` (f32)
pub fn rotate<B: Backend>(
    input: Tensor<B, 4>,
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let input = match dispatch::rope(input, &cos, &sin, Pairing::Halves, Rotation::Forward) {
        Ok(output) => return output,
        Err(input) => match tracked::rotate(input, &cos, &sin, Pairing::Halves) {
            Ok(output) => return output,
            Err(input) => input,
        },
    };
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::rotate(&input, &cos, &sin) {
        return output;
    }
    plain::rotate(input, cos, sin)
}

/// Rotates pairs of channels `(2i, 2i + 1)` of each head.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, tables `[1, 1, seq, head_dim]`
pub fn rotate_pairs<B: Backend>(
    input: Tensor<B, 4>,
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let input = match dispatch::rope(input, &cos, &sin, Pairing::Neighbours, Rotation::Forward) {
        Ok(output) => return output,
        Err(input) => match tracked::rotate(input, &cos, &sin, Pairing::Neighbours) {
            Ok(output) => return output,
            Err(input) => input,
        },
    };
    plain::rotate_pairs(input, cos, sin)
}

/// The cross-entropy of rows of scores with a target each, summed; f32 in, f32 out.
///
/// # Shapes
/// `[rows, columns]`, a target a row → `[1]`
///
/// # Panics
/// When there are not as many targets as rows.
pub fn cross_entropy<B: Backend>(scores: Tensor<B, 2>, targets: &[u32]) -> Tensor<B, 1> {
    assert_eq!(scores.dims()[0], targets.len(), "a target a row");
    #[cfg(feature = "flex")]
    if let Some(sum) = dispatch::cross_entropy(&scores, targets)
        .or_else(|| tracked::cross_entropy(&scores, targets))
    {
        return sum;
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(sum) = gpu::cross_entropy(&scores, targets) {
        return sum;
    }
    plain::cross_entropy(scores, targets)
}

/// One step of AdamW in f32; gives both moments and the weight. Tensors that nobody else holds
/// change in place where they can.
///
/// # Shapes
/// `[...]` four times → `[...]` three times
pub fn adamw<B: Backend>(
    step: AdamStep,
    gradient: Tensor<B, 1>,
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
    weight: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    #[cfg(feature = "flex")]
    let [first, second] = match dispatch::adamw(step, &gradient, [first, second], &weight) {
        Ok(results) => return results,
        Err(moments) => moments,
    };
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(results) = gpu::adamw(step, &gradient, &[first.clone(), second.clone()], &weight) {
        return results;
    }
    plain::adamw(step, gradient, first, second, weight)
}

/// The matrix that a Newton-Schulz iteration makes of `matrix`: its singular vectors, with singular
/// values near 1. With `rounds` the factors of products are bf16, where that is faster.
///
/// # Shapes
/// `[rows, columns]`, f32 → the same
pub fn orthogonal<B: Backend>(
    matrix: Tensor<B, 2>,
    steps: NewtonSchulz,
    rounds: bool,
) -> Tensor<B, 2> {
    #[cfg(feature = "flex")]
    if let Some(output) = dispatch::orthogonal(&matrix, steps, rounds) {
        return output;
    }
    plain::orthogonal(matrix, steps, rounds)
}

/// Sets each element to zero or to `1 / (1 - probability)` of itself, as hashes of `key` and its place
/// say.
///
/// # Shapes
/// `[...]` → `[...]`
pub fn dropout<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    probability: f64,
    key: u64,
) -> Tensor<B, D> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::dropout(&input, probability, key) {
        return output;
    }
    plain::dropout(input, probability, key)
}

/// Rows of `source` by number, none of them twice; zeros where there is no number.
///
/// # Shapes
/// `[rows, channels]` → `[picked, channels]`
pub fn pick_rows<B: Backend>(source: Tensor<B, 2>, from: &[Option<u32>]) -> Tensor<B, 2> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::pick_rows(&source, from) {
        return output;
    }
    plain::pick_rows(source, from)
}

/// Rows of a table by number, as often as they are named.
///
/// # Shapes
/// `[vocab, channels]` → `[ids, channels]`
pub fn token_rows<B: Backend>(table: Tensor<B, 2>, ids: &[i32]) -> Tensor<B, 2> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(output) = gpu::token_rows(&table, ids) {
        return output;
    }
    plain::token_rows(table, ids)
}

/// The sum of the squares of all elements of some tensors.
pub fn sum_of_squares<B: Backend>(tensors: &[&Tensor<B, 1>]) -> f64 {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(sum) = gpu::sum_of_squares(tensors) {
        return sum;
    }
    plain::sum_of_squares(tensors)
}

/// Bytes that this process holds of a GPU's memory, pools included, and so the most that it has held
/// unless it gave some back; `None` where the device is no GPU.
pub fn device_memory<B: Backend>(device: &B::Device) -> Option<u64> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return gpu::device_memory::<B>(device);
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    {
        let _ = device;
        None
    }
}
