//! How much of a device is held.

use burn::tensor::backend::Backend;

use super::place::on_gpu;

/// Bytes that this process holds of a GPU's memory, pools included, and so the most that it has held
/// unless it gave some back; `None` where the device is no GPU.
pub fn device_memory<B: Backend>(device: &B::Device) -> Option<u64> {
    let _ = device;
    on_gpu!(B;
        plain<K> => {
            let here = burn::tensor::Tensor::<B, 1>::empty([1], device);
            super::gpu::launch::reserved_memory::<K>(&lower(here))
        },
        else => None,
    )
}
