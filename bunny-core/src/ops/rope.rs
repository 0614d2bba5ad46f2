//! Rotary positions: pairs of a head's channels, turned by angles.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use bunny_kernels::Rotation;
use burn::tensor::{DType, Tensor, backend::Backend};

use self::autodiff::RotationKernel;
use super::place::at_place;

/// Rotates pairs of channels `(i, i + rotary_dim / 2)` of each head (half-split style); channels
/// beyond `rotary_dim` pass. In place where nobody else holds the tensor.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, angles `[batch | 1, 1, seq, rotary_dim / 2]` (f32)
pub fn rotate<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Tensor<B, 4> {
    match turn(input, cos, sin, Pairing::Halves) {
        Ok(output) => output,
        Err(input) => plain(input, cos, sin),
    }
}

/// Rotates pairs of channels `(2i, 2i + 1)` of each head, by tables that hold each angle twice: the
/// form of EVA-CLIP. In place where nobody else holds the tensor.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, tables `[1, 1, seq, head_dim]`
pub fn rotate_pairs<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Tensor<B, 4> {
    match turn(input, cos, sin, Pairing::Neighbours) {
        Ok(output) => output,
        Err(input) => plain_pairs(input, cos, sin),
    }
}

/// How channels are paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(i, i + rotary_dim / 2)`.
    Halves,
    /// `(2i, 2i + 1)`.
    Neighbours,
}

/// Turns heads by a kernel, or gives them back where there is none.
fn turn<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
    pairing: Pairing,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let types = [input.dtype(), cos.dtype(), sin.dtype()];
    at_place!(B;
        plain<K> if K::takes(pairing, types) => {
            let angles = [cos, sin].map(view);
            Ok(raise(K::turn(lower(input), angles, pairing, Rotation::Forward)))
        },
        autodiff<K> if K::takes(pairing, types) => {
            let [cos, sin] = [cos, sin].map(view);
            Ok(raise(autodiff::turn::<K>(lower(input), [&cos, &sin], pairing)))
        },
        else => Err(input),
    )
}

/// [`rotate`] in burn's operations.
pub fn plain<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Tensor<B, 4> {
    let dtype = input.dtype();
    let head_dim = input.dims()[3];
    let half = cos.dims()[3];
    let part = |from: usize, to: usize| input.clone().narrow(3, from, to - from);
    let first = part(0, half).cast(DType::F32);
    let second = part(half, 2 * half).cast(DType::F32);
    let rotated = [
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos.clone() + first * sin.clone(),
    ];
    let mut parts: Vec<_> = rotated.into_iter().map(|part| part.cast(dtype)).collect();
    if 2 * half < head_dim {
        parts.push(part(2 * half, head_dim));
    }
    Tensor::cat(parts, 3)
}

/// [`rotate_pairs`] in burn's operations: `x cos + turn(x) sin`, where `turn(a, b) = (-b, a)`.
pub fn plain_pairs<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [batch, heads, seq, width] = input.dims();
    let pairs: Tensor<B, 5> = input.clone().reshape([batch, heads, seq, width / 2, 2]);
    let (first, second) = (pairs.clone().narrow(4, 0, 1), pairs.narrow(4, 1, 1));
    let turned = Tensor::cat(vec![second.neg(), first], 4).reshape([batch, heads, seq, width]);
    input * cos.clone() + turned * sin.clone()
}
