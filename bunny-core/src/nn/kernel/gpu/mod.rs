//! Kernels for CubeCL's backends, CUDA and wgpu, with their gradients.
//!
//! burn's operations are one launch each, most of them one pass over the data: a norm is nine, AdamW
//! thirteen for every parameter. What is here is one or two.
//!
//! Every kernel computes in f32 whatever type its tensors have, and has the function of the same name
//! in [`plain`](super::plain) as its oracle. With the feature `fusion` the backends' tensors are of
//! another kind, and burn's operations serve.

mod activation;
mod adamw;
mod adapted;
mod attention;
mod cached;
mod cross_entropy;
mod dropout;
#[cfg(feature = "cuda")]
mod hopper;
mod launch;
mod linear;
mod norm;
mod product;
mod rope;
mod rows;
mod single_query;
mod small_tiles;
mod softmax;
mod sums;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod tracked;

use burn::{
    backend::Autodiff,
    tensor::{
        DType, Tensor,
        backend::{Backend, BackendTypes},
    },
};
use burn_cubecl::{CubeBackend, CubeRuntime, tensor::CubeTensor};

use self::{product::Finish, softmax::Reach};
use super::{AdamStep, Adapter, primitive};
use crate::nn::{Activation, AttentionMask, KvPass, LayerCache};

/// A backend of CubeCL's.
pub(super) trait Gpu:
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
impl Gpu for CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8> {
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
impl Gpu for CubeBackend<burn_cubecl::cubecl::wgpu::WgpuRuntime, f32, i32, u32> {
    type Runtime = burn_cubecl::cubecl::wgpu::WgpuRuntime;
}

/// A tensor with a place in burn's graph.
type Tracked<K> = <Autodiff<K> as BackendTypes>::FloatTensorPrimitive;

/// A tensor without one.
fn plain<B: Backend, K: Gpu, const D: usize>(
    tensor: &Tensor<B, D>,
) -> Option<CubeTensor<K::Runtime>> {
    primitive::lower(tensor)
}

/// A tensor with one.
fn tracked<B: Backend, K: Gpu, const D: usize>(tensor: &Tensor<B, D>) -> Option<Tracked<K>> {
    primitive::lower(tensor)
}

/// Asks each GPU backend that is built in: the first whose tensors these are answers.
macro_rules! on_gpu {
    ($module:ident :: $function:ident :: < $b:ty $(, $d:ident)? > ( $($argument:expr),* )) => {{
        #[cfg(feature = "cuda")]
        if let Some(output) = $module::$function::<
            $b,
            CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>
            $(, $d)?
        >($($argument),*)
        {
            return Some(output);
        }
        #[cfg(feature = "wgpu")]
        if let Some(output) = $module::$function::<
            $b,
            CubeBackend<burn_cubecl::cubecl::wgpu::WgpuRuntime, f32, i32, u32>
            $(, $d)?
        >($($argument),*)
        {
            return Some(output);
        }
        None
    }};
}

/// [`plain::linear`](super::plain::linear).
pub(super) fn linear<B: Backend>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
) -> Option<Tensor<B, 2>> {
    on_gpu!(linear::linear::<B>(input, weight, bias))
}

/// [`adapted_linear`](super::adapted_linear), where one product can be added to another.
pub(super) fn adapted_linear<B: Backend>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
    adapter: &Adapter<B>,
) -> Option<Tensor<B, 2>> {
    on_gpu!(adapted::adapted_linear::<B>(input, weight, bias, adapter))
}

/// [`plain::activate`](super::plain::activate).
pub(super) fn activate<B: Backend, const D: usize>(
    kind: Activation,
    input: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    on_gpu!(activation::activate::<B, D>(kind, input))
}

/// [`plain::layer_norm`](super::plain::layer_norm), or without a bias
/// [`plain::rms_norm`](super::plain::rms_norm).
pub(super) fn norm<B: Backend, const D: usize>(
    input: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: Option<&Tensor<B, 1>>,
    epsilon: f64,
) -> Option<Tensor<B, D>> {
    on_gpu!(norm::norm::<B, D>(input, weight, bias, epsilon as f32))
}

/// [`plain::rotate`](super::plain::rotate).
pub(super) fn rotate<B: Backend>(
    input: &Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Option<Tensor<B, 4>> {
    on_gpu!(rope::rotate::<B>(input, cos, sin))
}

/// [`plain::attention`](super::plain::attention).
pub(super) fn attention<B: Backend>(
    query: &Tensor<B, 4>,
    key: &Tensor<B, 4>,
    value: &Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
) -> Option<Tensor<B, 3>> {
    on_gpu!(attention::attention::<B>(
        query,
        key,
        value,
        mask.mask(),
        scale as f32
    ))
}

/// Writes the rows of a pass to a layer's cache; whether it could.
pub(super) fn keep_rows<B: Backend>(
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    rows: [&Tensor<B, 4>; 2],
) -> bool {
    let mut keep = || on_gpu!(cached::keep_rows::<B>(layer, pass, rows));
    keep().is_some()
}

/// Attention of one query a sequence to a layer's cache.
pub(super) fn decode_attention<B: Backend>(
    query: &Tensor<B, 4>,
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    scale: f64,
) -> Option<Tensor<B, 3>> {
    on_gpu!(cached::decode_attention::<B>(
        query,
        layer,
        pass,
        scale as f32
    ))
}

/// [`plain::dropout`](super::plain::dropout).
pub(super) fn dropout<B: Backend, const D: usize>(
    input: &Tensor<B, D>,
    probability: f64,
    key: u64,
) -> Option<Tensor<B, D>> {
    on_gpu!(dropout::dropout::<B, D>(input, probability, key))
}

/// [`plain::cross_entropy`](super::plain::cross_entropy).
pub(super) fn cross_entropy<B: Backend>(
    scores: &Tensor<B, 2>,
    targets: &[u32],
) -> Option<Tensor<B, 1>> {
    on_gpu!(cross_entropy::cross_entropy::<B>(scores, targets))
}

/// [`plain::pick_rows`](super::plain::pick_rows).
pub(super) fn pick_rows<B: Backend>(
    source: &Tensor<B, 2>,
    from: &[Option<u32>],
) -> Option<Tensor<B, 2>> {
    on_gpu!(rows::pick_rows::<B>(source, from))
}

/// [`plain::token_rows`](super::plain::token_rows).
pub(super) fn token_rows<B: Backend>(table: &Tensor<B, 2>, ids: &[i32]) -> Option<Tensor<B, 2>> {
    on_gpu!(rows::token_rows::<B>(table, ids))
}

/// [`plain::adamw`](super::plain::adamw).
pub(super) fn adamw<B: Backend>(
    step: AdamStep,
    gradient: &Tensor<B, 1>,
    moments: &[Tensor<B, 1>; 2],
    weight: &Tensor<B, 1>,
) -> Option<[Tensor<B, 1>; 3]> {
    on_gpu!(adamw::adamw::<B>(step, gradient, moments, weight))
}

/// [`plain::sum_of_squares`](super::plain::sum_of_squares).
pub(super) fn sum_of_squares<B: Backend>(tensors: &[&Tensor<B, 1>]) -> Option<f64> {
    on_gpu!(sums::sum_of_squares::<B>(tensors))
}

/// [`device_memory`](super::device_memory).
pub(super) fn device_memory<B: Backend>(device: &B::Device) -> Option<u64> {
    let at = Tensor::<B, 1>::empty([1], device);
    on_gpu!(launch::reserved_memory::<B>(&at))
}
