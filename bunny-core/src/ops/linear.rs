//! The product of rows with a weight.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use burn::tensor::{Tensor, backend::Backend};

use self::autodiff::LinearKernel;
use super::{Phase, place::at_place};

/// `y = x Wᵀ + b`; the weight may be held in another type than the activations. `phase` says in which
/// order a row is summed where that hangs on how many rows there are.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn linear<B: Backend>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    at_place!(B;
        plain<K> if K::takes(input.dtype(), weight.dtype()) => {
            let bias = bias.map(lower);
            raise(K::forward(phase, lower(input), lower(weight), bias, Factors::Exact))
        },
        autodiff<K> if autodiff::serves::<K>(input.dtype(), &view(&weight)) => {
            raise(autodiff::linear::<K>(&lower(input), &lower(weight), bias.map(lower)))
        },
        else => plain(input, weight, bias),
    )
}

/// [`linear`] in burn's operations.
pub fn plain<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let weight = weight.cast(input.dtype());
    let output = input.matmul(weight.transpose());
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
}

/// How the numbers of a product in f32 may be rounded on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Factors {
    /// Not at all: what answers are computed with.
    Exact,
    /// To the ten bits of TF32, where there are tensor cores: what is learnt with.
    Rounded,
}
