//! What the layers and the optimizer compute, each operation in the fastest way that serves the
//! backend at hand.
//!
//! One file an operation. `plain` is the operation in burn's own terms: it serves any backend,
//! carries gradients, and is what the kernels are judged by. Beside it, in a folder of the same
//! name, stand what a backend's kernels have to give and the kernels themselves: `flex`, over the
//! CPU's slices, and `cubecl`, for CUDA and wgpu, which compute in f32 whatever type their tensors
//! have.
//!
//! ```text
//! linear.rs            linear() and plain()
//! linear/autodiff.rs   trait LinearKernel, and the step of the graph that gives its gradients
//! linear/flex.rs       impl LinearKernel for Flex
//! linear/cubecl.rs     impl LinearKernel for CUDA's backend, and wgpu's
//! ```
//!
//! `place` finds out which backend is at hand. What several operations need of one stands in `flex`
//! and `gpu`; what is written for one processor alone in `hopper`.

#![cfg_attr(
    not(any(feature = "flex", feature = "cuda", feature = "wgpu")),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        unused_variables,
        reason = "no backend of the build has kernels"
    )
)]

mod activation;
mod adamw;
mod adapted_linear;
mod attention;
mod autodiff;
mod cached_attention;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda_buffer;
mod device_memory;
mod dropout;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod hardware;
#[cfg(feature = "cuda")]
mod hopper;
mod linear;
mod norm;
mod operands;
mod orthogonal;
mod packed_linear;
mod phase;
mod place;
mod rope;
mod rows;
mod sum_of_squares;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use activation::Activation;
pub use adamw::{AdamStep, adamw};
pub use adapted_linear::{Adapter, adapted_linear};
pub use attention::{AttentionMask, Mask, attention};
pub use cached_attention::{
    KvBlocks, KvCache, KvPass, KvSequence, LayerCache, cached_attention, kv_blocks, kv_row_bytes,
    narrows_cache, windowed_attention,
};
pub use cross_entropy::cross_entropy;
#[cfg(feature = "cuda")]
pub use cuda_buffer::{CudaBuffer, cuda_buffer};
pub use device_memory::device_memory;
pub use dropout::dropout;
pub(crate) use hardware::Hardware;
pub use linear::linear;
pub use norm::{layer_norm, rms_norm};
pub use operands::Operands;
pub use orthogonal::{NewtonSchulz, orthogonal};
pub use packed_linear::{
    Activations, Bits, PackedTensors, Packing, packed_linear, packed_part, packed_rows, packs,
};
pub use phase::Phase;
pub use rope::{rotate, rotate_pairs};
pub use rows::{pick_rows, token_rows};
pub use sum_of_squares::sum_of_squares;
