//! LayerNorm and RMSNorm, in f32 whatever the activations are.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use burn::tensor::{DType, Tensor, backend::Backend};

use self::autodiff::NormKernel;
use super::place::at_place;

/// Takes mean and variance out of each row, in f32, then scales it and, with a bias, shifts it; what
/// comes out is of the type that goes in.
///
/// # Shapes
/// `[..., channels]`, `[channels]`, `[channels]` → `[..., channels]`
pub fn layer_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
) -> Tensor<B, D> {
    let taken = Taken {
        centre: true,
        epsilon: epsilon as f32,
    };
    match kernel(&input, &weight, bias.as_ref(), taken) {
        Some(output) => output,
        None => plain_layer_norm(input, weight, bias, epsilon),
    }
}

/// Takes the root mean square out of each row, in f32, then scales it; what comes out is of the type
/// that goes in.
///
/// # Shapes
/// `[..., channels]`, `[channels]` → `[..., channels]`
pub fn rms_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let taken = Taken {
        centre: false,
        epsilon: epsilon as f32,
    };
    match kernel(&input, &weight, None, taken) {
        Some(output) => output,
        None => plain_rms_norm(input, weight, epsilon),
    }
}

/// What a norm takes out of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// The mean, before the root mean square of what is left.
    pub centre: bool,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Either norm by a kernel, where there is one.
fn kernel<B: Backend, const D: usize>(
    input: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: Option<&Tensor<B, 1>>,
    taken: Taken,
) -> Option<Tensor<B, D>> {
    let is_f32 = |tensor: &Tensor<B, 1>| tensor.dtype() == DType::F32;
    let parameters_fit = is_f32(weight) && bias.is_none_or(is_f32);
    at_place!(B;
        plain<K> if parameters_fit && K::takes(input.dtype()) => {
            Some(raise(K::forward(view(input), view(weight), bias.map(view), taken).0))
        },
        autodiff<K> if parameters_fit && K::takes(input.dtype()) => {
            let (input, weight, bias) = (view(input), view(weight), bias.map(view));
            Some(raise(autodiff::norm::<K>(&input, &weight, bias, taken)))
        },
        else => None,
    )
}

/// [`layer_norm`] in burn's operations.
pub fn plain_layer_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
) -> Tensor<B, D> {
    let dtype = input.dtype();
    let input = input.cast(DType::F32);
    let centred = input.clone() - input.mean_dim(D - 1);
    let variance = centred.clone().powi_scalar(2).mean_dim(D - 1);
    let output = centred / variance.add_scalar(epsilon).sqrt() * weight.unsqueeze();
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
    .cast(dtype)
}

/// [`rms_norm`] in burn's operations.
pub fn plain_rms_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let dtype = input.dtype();
    let input = input.cast(DType::F32);
    let square = input.clone().powi_scalar(2).mean_dim(D - 1);
    (input / square.add_scalar(epsilon).sqrt() * weight.unsqueeze()).cast(dtype)
}
