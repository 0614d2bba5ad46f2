//! What kernels for CubeCL's backends, CUDA and wgpu, have in common.
//!
//! burn's operations are one launch each, most of them one pass over the data: a norm is nine, AdamW
//! thirteen for every parameter. The kernels of this crate are one or two.

pub mod launch;
pub mod product;
pub mod sums;

use burn::tensor::{DType, backend::Backend};
use burn_cubecl::{CubeBackend, CubeRuntime, tensor::CubeTensor};

use self::product::Finish;
use super::attention::cubecl::softmax::Reach;
#[cfg(feature = "cuda")]
use super::hopper;

/// CUDA's backend.
#[cfg(feature = "cuda")]
pub type Cuda = CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>;

/// wgpu's.
#[cfg(feature = "wgpu")]
pub type Wgpu = CubeBackend<burn_cubecl::cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

/// A backend of CubeCL's.
pub trait Gpu:
    Backend<
        Device = <Self::Runtime as CubeRuntime>::CubeDevice,
        FloatTensorPrimitive = CubeTensor<Self::Runtime>,
        IntTensorPrimitive = CubeTensor<Self::Runtime>,
    >
{
    /// Where its kernels run.
    type Runtime: CubeRuntime;

    /// Whether [`multiply`](Self::multiply) takes matrices of this type.
    fn multiplies(_dtype: DType, _device: &Self::Device) -> bool {
        false
    }

    /// Multiplies by the device's own kernel, if there is one for operands and results that lie so.
    fn multiply(
        _left: &CubeTensor<Self::Runtime>,
        _right: &CubeTensor<Self::Runtime>,
        _output: &CubeTensor<Self::Runtime>,
        _finish: &Finish<Self::Runtime>,
    ) -> bool {
        false
    }

    /// Attention by the device's own kernel, if there is one for queries, keys and values that lie so:
    /// what is seen, `[batch, heads, q, head_dim]`, and what the way back needs beside it.
    fn attend(
        _inputs: [&CubeTensor<Self::Runtime>; 3],
        _reach: &Reach<Self::Runtime>,
        _scale: f32,
    ) -> Option<[CubeTensor<Self::Runtime>; 2]> {
        None
    }

    /// The gradients of the inputs of [`attend`](Self::attend), given what it gave and the gradient of
    /// what is seen; `None` where a gradient lies so that it cannot be fetched.
    fn attend_backward(
        _inputs: [&CubeTensor<Self::Runtime>; 3],
        _reach: &Reach<Self::Runtime>,
        _scale: f32,
        _outputs: [&CubeTensor<Self::Runtime>; 2],
        _gradient: &CubeTensor<Self::Runtime>,
    ) -> Option<[CubeTensor<Self::Runtime>; 3]> {
        None
    }
}

#[cfg(feature = "cuda")]
impl Gpu for Cuda {
    type Runtime = burn_cubecl::cubecl::cuda::CudaRuntime;

    fn multiplies(dtype: DType, device: &Self::Device) -> bool {
        hopper::serves(dtype, device)
    }

    fn multiply(
        left: &CubeTensor<Self::Runtime>,
        right: &CubeTensor<Self::Runtime>,
        output: &CubeTensor<Self::Runtime>,
        finish: &Finish<Self::Runtime>,
    ) -> bool {
        hopper::product(left, right, output, finish)
    }

    fn attend(
        inputs: [&CubeTensor<Self::Runtime>; 3],
        reach: &Reach<Self::Runtime>,
        scale: f32,
    ) -> Option<[CubeTensor<Self::Runtime>; 2]> {
        hopper::attend(inputs, reach, scale)
    }

    fn attend_backward(
        inputs: [&CubeTensor<Self::Runtime>; 3],
        reach: &Reach<Self::Runtime>,
        scale: f32,
        outputs: [&CubeTensor<Self::Runtime>; 2],
        gradient: &CubeTensor<Self::Runtime>,
    ) -> Option<[CubeTensor<Self::Runtime>; 3]> {
        hopper::attend_backward(inputs, reach, scale, outputs, gradient)
    }
}

#[cfg(feature = "wgpu")]
impl Gpu for Wgpu {
    type Runtime = burn_cubecl::cubecl::wgpu::WgpuRuntime;
}
