//! The cross-entropy of scores.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use burn::tensor::{DType, Int, Tensor, TensorData, activation, backend::Backend};

use self::autodiff::CrossEntropyKernel;
use super::place::at_place;

/// The cross-entropy of rows of scores with a target each, summed: over rows,
/// `ln Σ e^scores - scores[target]`; f32 in, f32 out.
///
/// # Shapes
/// `[rows, columns]`, a target a row → `[1]`
///
/// # Panics
/// When there are not as many targets as rows.
pub fn cross_entropy<B: Backend>(scores: Tensor<B, 2>, targets: &[u32]) -> Tensor<B, 1> {
    assert_eq!(scores.dims()[0], targets.len(), "a target a row");
    at_place!(B;
        plain<K> if scores.dtype() == DType::F32 => raise(K::forward(lower(scores), targets)),
        autodiff<K> if scores.dtype() == DType::F32 => {
            raise(autodiff::cross_entropy::<K>(lower(scores), targets))
        },
        else => plain(scores, targets),
    )
}

/// [`cross_entropy`] in burn's operations.
pub fn plain<B: Backend>(scores: Tensor<B, 2>, targets: &[u32]) -> Tensor<B, 1> {
    let ids: Vec<i32> = targets.iter().map(|id| *id as i32).collect();
    let ids = TensorData::new(ids, [targets.len(), 1]);
    let ids: Tensor<B, 2, Int> = Tensor::from_data(ids, &scores.device());
    let log_shares = activation::log_softmax(scores, 1);
    log_shares.gather(1, ids).sum().neg()
}
