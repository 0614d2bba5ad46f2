//! Kernels for the CPU: plain functions over slices, in `f32`, parallel over rayon's current pool.
//!
//! Each is written once over the registers of `simd` and compiled for AVX-512, AVX2 and plain code; the processor decides
//! at run time. No result depends on the number of threads.

#![allow(
    clippy::needless_range_loop,
    reason = "registers are arrays of a known size, whose loops unroll by index"
)]
#![allow(
    clippy::too_many_arguments,
    reason = "a kernel is called with its slices and their sizes"
)]

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod linear;
mod math;
mod norm;
mod orthogonal;
mod pack;
mod parallel;
mod product;
mod rope;
mod rows;
mod scratch;
mod simd;
#[cfg(target_arch = "x86_64")]
mod squares;
#[cfg(test)]
mod testing;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub use activation::{
    gelu_erf, gelu_erf_backward, gelu_tanh, gelu_tanh_backward, silu, silu_backward, silu_mul,
    silu_mul_backward,
};
pub use adamw::adamw;
pub use attention::{
    AttentionGradient, AttentionMask, AttentionShape, AttentionStrides, AttentionView,
    CachedBlockMut, CachedBlocks, CachedSequence, CachedShape, attention, decode_attention,
    gather_heads, has_tiles, keep_rows, prefill_attention,
};
pub use cross_entropy::{IGNORED, cross_entropy, cross_entropy_with_gradient};
pub use linear::{
    WeightRef, has_bf16_dot, linear, linear_backward_bias, linear_backward_input,
    linear_backward_input_bf16_dot, linear_backward_weight, linear_backward_weight_bf16_dot,
    linear_bf16_dot, linear_packed, linear_streamed,
};
pub use norm::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub use orthogonal::orthogonal;
pub use rope::{RopeShape, Rotation, rope, rope_interleaved};
