//! Kernels for the CPU: plain functions over slices, in `f32`, parallel over rayon's current pool.
//!
//! Each is written once over [`simd`]'s registers and compiled for AVX-512, AVX2 and plain code; the processor decides
//! at run time. No result depends on the number of threads.

mod activation;
mod attention;
mod linear;
mod math;
mod parallel;
mod product;
mod rows;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;
mod tile;

pub use activation::{
    gelu_erf, gelu_erf_backward, gelu_tanh, gelu_tanh_backward, quick_gelu, quick_gelu_backward,
    silu, silu_backward, silu_mul, silu_mul_backward,
};
pub use attention::{AttentionMask, AttentionShape, AttentionStrides, AttentionView, attention};
pub use linear::{WeightRef, linear, linear_backward_input, linear_backward_weight};
