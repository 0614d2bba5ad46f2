//! Kernels for the CPU: plain functions over slices, in `f32`, parallel over rayon's current pool.
//!
//! Each is written once over [`simd`]'s registers and compiled for AVX-512, AVX2 and plain code; the processor decides
//! at run time. No result depends on the number of threads.

mod linear;
mod product;
mod rows;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;
mod tile;

pub use linear::{WeightRef, linear, linear_backward_input, linear_backward_weight};
