#![doc = include_str!("../README.md")]
//!
//! ## How the code is laid out
//! A kernel implements `simd::Kernel`, generic over `simd::Simd`, which is the registers of one
//! instruction set, and is dispatched to the widest that the processor has. Products with a weight
//! ([`linear`] and its gradients) either stream it, for a few rows, or pack both operands for a
//! register tile or for the tile registers of `amx`; [`quantized`] has the same for weights of eight and
//! four bits, and products of integers. [`attention`] takes the softmax as the keys go
//! by; one query a sequence, as in decoding, has a kernel of its own.

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
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod cross_entropy;
pub mod exact;
mod linear;
mod lines;
mod math;
mod norm;
mod orthogonal;
mod parallel;
mod product;
pub mod quantized;
mod register_tile;
mod rope;
pub mod rough;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;
mod weight;

pub use activation::{
    gelu_erf, gelu_erf_backward, gelu_tanh, gelu_tanh_backward, silu, silu_backward, silu_mul,
    silu_mul_backward,
};
pub use adamw::{AdamStep, adamw};
pub use attention::{
    AttentionGradient, AttentionMask, AttentionShape, AttentionStrides, AttentionView,
    CachedBlockMut, CachedBlocks, CachedSequence, CachedShape, attention, decode_attention,
    gather_heads, has_tiles, keep_rows, prefill_attention,
};
pub use cross_entropy::{IGNORED, cross_entropy, cross_entropy_with_gradient};
pub use linear::{
    Linear, add_product, has_bf16_dot, linear, linear_backward_bias, linear_backward_input,
    linear_backward_input_bf16_dot, linear_backward_weight, linear_backward_weight_bf16_dot,
    linear_bf16_dot, linear_packed, linear_streamed, stream_many,
};
pub use norm::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub use orthogonal::{NewtonSchulz, orthogonal};
pub use rope::{RopeShape, Rotation, rope, rope_interleaved};
pub use weight::WeightRef;
