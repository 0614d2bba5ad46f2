//! The squares of everything, added up.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;

use burn::tensor::{ElementConversion, Tensor, backend::Backend};

use super::place::on_gpu;

/// The sum of the squares of all elements of some tensors.
pub fn sum_of_squares<B: Backend>(tensors: &[&Tensor<B, 1>]) -> f64 {
    on_gpu!(B;
        plain<K> => {
            let tensors = tensors.iter().map(|tensor| view(tensor)).collect();
            cubecl::sum_of_squares::<K>(tensors)
        },
        else => plain(tensors),
    )
}

/// [`sum_of_squares`] in burn's operations.
pub fn plain<B: Backend>(tensors: &[&Tensor<B, 1>]) -> f64 {
    // One number a tensor on the device, and one read-back for all of them.
    let squares: Vec<Tensor<B, 1>> = tensors
        .iter()
        .map(|tensor| (*tensor).clone().powi_scalar(2).sum())
        .collect();
    if squares.is_empty() {
        return 0.0;
    }
    let squares = Tensor::cat(squares, 0).into_data();
    squares
        .iter::<f32>()
        .map(|square| square.elem::<f64>())
        .sum()
}
