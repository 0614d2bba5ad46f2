//! One step of AdamW.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

pub use bunny_kernels::AdamStep;
use burn::tensor::{DType, Tensor, backend::Backend, ops::FloatTensor};

use super::place::at_place;

/// One step of AdamW in f32; gives both moments and the weight. Moments that nobody else holds
/// change in place where they can.
///
/// # Shapes
/// `[...]` four times → `[...]` three times
pub fn adamw<B: Backend>(
    step: AdamStep,
    gradient: Tensor<B, 1>,
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
    weight: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    let all = [&gradient, &first, &second, &weight];
    let all_f32 = all.iter().all(|tensor| tensor.dtype() == DType::F32);
    at_place!(B;
        plain<K> if all_f32 => {
            let moments = [first, second].map(lower);
            K::step(step, lower(gradient), moments, lower(weight)).map(raise)
        },
        else => plain(step, gradient, first, second, weight),
    )
}

/// A backend's own step.
trait AdamKernel: Backend {
    /// [`adamw`].
    fn step(
        step: AdamStep,
        gradient: FloatTensor<Self>,
        moments: [FloatTensor<Self>; 2],
        weight: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];
}

/// [`adamw`] in burn's operations.
pub fn plain<B: Backend>(
    step: AdamStep,
    gradient: Tensor<B, 1>,
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
    weight: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    let gradient = gradient.mul_scalar(step.scale);
    let square = gradient.clone().powi_scalar(2);
    let first = first.mul_scalar(step.beta1) + gradient.mul_scalar(1.0 - step.beta1);
    let second = second.mul_scalar(step.beta2) + square.mul_scalar(1.0 - step.beta2);
    let root = second.clone().sqrt().mul_scalar(step.root);
    let direction = first.clone() / root.add_scalar(step.epsilon);
    let weight = weight.mul_scalar(step.decay) - direction.mul_scalar(step.rate);
    [first, second, weight]
}
