//! What kind of hardware a device is, as far as number types and sizes depend on it.

use std::any::Any;

use burn::tensor::backend::Backend;

/// Hardware that is known here, through whichever wrapper of burn's it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardware {
    /// The processor, through burn-flex: its products read 16-bit weights and multiply in f32.
    #[cfg(feature = "flex")]
    Processor,
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda,
    /// An adapter of wgpu's.
    #[cfg(feature = "wgpu")]
    Wgpu {
        /// Bytes that a kernel can read as one.
        largest_buffer: usize,
    },
    /// Any other.
    Other,
}

impl Hardware {
    /// What `device` is.
    pub fn of<B: Backend>(device: &B::Device) -> Self {
        let device: &dyn Any = device;
        #[cfg(feature = "flex")]
        if device.is::<burn_flex::FlexDevice>() {
            return Self::Processor;
        }
        #[cfg(feature = "cuda")]
        if device.is::<burn_cuda::CudaDevice>() {
            return Self::Cuda;
        }
        #[cfg(feature = "wgpu")]
        if let Some(device) = device.downcast_ref::<burn_wgpu::WgpuDevice>() {
            use burn_cubecl::cubecl::{Runtime, wgpu::WgpuRuntime};

            let client = WgpuRuntime::client(device);
            let largest = client.properties().memory.max_page_size;
            // Kernels count in 32 bits.
            let largest_buffer = largest.min(1 << 31) as usize;
            return Self::Wgpu { largest_buffer };
        }
        let _ = device;
        Self::Other
    }
}
