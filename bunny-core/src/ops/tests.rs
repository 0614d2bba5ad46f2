#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod gradients;
