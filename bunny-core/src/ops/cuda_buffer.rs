//! Where a tensor lies in the memory of its CUDA device: for libraries that take pointers.

use burn::tensor::{Tensor, backend::Backend};
use burn_cubecl::{cubecl::cuda::CudaRuntime, tensor::CubeTensor};

use super::place::{Place, view};

/// A tensor's place in the memory of its CUDA device, which nothing else gets while this is held.
#[derive(Debug)]
pub struct CudaBuffer {
    pointer: u64,
    _held: CubeTensor<CudaRuntime>,
}

impl CudaBuffer {
    /// The address of the first number.
    pub fn pointer(&self) -> u64 {
        self.pointer
    }
}

/// Where the numbers of a tensor lie, one behind the other. What the device has yet to do with them is
/// not waited for: `B::sync` is.
///
/// `None` where `B` is not CUDA's backend, or the numbers lie otherwise.
pub fn cuda_buffer<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Option<CudaBuffer> {
    if Place::of::<B>() != Place::Cuda {
        return None;
    }
    let held: CubeTensor<CudaRuntime> = view(tensor);
    if !held.is_contiguous() {
        return None;
    }
    let resource = held.client.get_resource(held.handle.clone()).ok()?;
    Some(CudaBuffer {
        pointer: resource.resource().ptr,
        _held: held,
    })
}
