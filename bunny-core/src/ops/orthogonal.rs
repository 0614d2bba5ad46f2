//! The matrix next to a given one whose singular values are alike, as Muon needs it.

pub use bunny_kernels::NewtonSchulz;
use burn::tensor::{DType, Tensor, backend::Backend};

use super::{Phase, linear, place::Place};

/// The matrix that a Newton-Schulz iteration makes of `matrix`: its singular vectors, with singular
/// values near 1. With `rounds` the factors of products are bf16, where that is faster.
///
/// # Shapes
/// `[rows, columns]`, f32 → the same
pub fn orthogonal<B: Backend>(
    matrix: Tensor<B, 2>,
    steps: NewtonSchulz,
    rounds: bool,
) -> Tensor<B, 2> {
    match Place::of::<B>() {
        #[cfg(feature = "flex")]
        Place::Flex if matrix.dtype() == DType::F32 => {
            use super::place::{lower, raise};
            raise(flex(lower(matrix), steps, rounds))
        }
        _ => plain(matrix, steps, rounds),
    }
}

/// [`orthogonal`] in burn's operations.
pub fn plain<B: Backend>(matrix: Tensor<B, 2>, steps: NewtonSchulz, rounds: bool) -> Tensor<B, 2> {
    let factor = |x: &Tensor<B, 2>| match rounds {
        true => x.clone().cast(DType::BF16),
        false => x.clone(),
    };
    // `a bᵀ`.
    let product = |a: &Tensor<B, 2>, b: &Tensor<B, 2>| {
        linear(Phase::Whole, factor(a), factor(b), None).cast(DType::F32)
    };
    let [rows, columns] = matrix.dims();
    let turn = |x: Tensor<B, 2>| match rows < columns {
        true => x.transpose(),
        false => x,
    };
    let tall = turn(matrix);
    let norm = tall.clone().square().sum().sqrt();
    let mut x = tall / norm.clamp_min(steps.smallest_norm).reshape([1, 1]);
    let [a, b, c] = steps.coefficients;
    for _ in 0..steps.iterations {
        let across = x.clone().transpose();
        let gram = product(&across, &across); // [short, short], symmetric
        let square = product(&gram, &gram);
        x = x.clone() * a + product(&x, &(gram * b + square * c));
    }
    turn(x)
}

#[cfg(feature = "flex")]
fn flex(matrix: burn_flex::FlexTensor, steps: NewtonSchulz, rounds: bool) -> burn_flex::FlexTensor {
    use super::flex::{contiguous, dims, floats, tensor};

    let [rows, columns] = dims(&matrix);
    let mut values = floats(&contiguous(matrix)).to_vec();
    let rounds = rounds && bunny_kernels::has_bf16_dot();
    bunny_kernels::orthogonal(&mut values, rows, columns, steps, rounds);
    tensor(values, [rows, columns])
}
