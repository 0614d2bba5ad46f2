//! Muon's direction: the momentum of a matrix's gradient with its singular values made alike.
//!
//! A gradient has few strong directions and many weak ones, and AdamW follows its entries one by one.
//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) steps as far
//! along each singular vector as along any other. Steps have the size of AdamW's (Liu et al., "Muon is
//! Scalable for LLM Training", 2025), so that one learning rate serves for both.

use bunny_core::nn::kernel::{self, NewtonSchulz};
use burn::tensor::{Tensor, backend::Backend};

/// How much of the momentum stays from step to step.
pub const MOMENTUM: f64 = 0.95;

/// Jordan's, who gave up an exact 1 for speed: all from 0.01 to 1 ends between 0.68 and 1.14. A
/// gradient of zeros has no direction.
const STEPS: NewtonSchulz = NewtonSchulz {
    iterations: 5,
    coefficients: [3.4445, -4.7750, 2.0315],
    smallest_norm: 1e-7,
};

/// What a learning rate is multiplied with for a matrix of this shape: AdamW's steps are about 0.2 of
/// the rate in every entry, those of an orthogonal matrix the root of its longer side's inverse.
pub fn rate_factor([rows, columns]: [usize; 2]) -> f64 {
    0.2 * (rows.max(columns) as f64).sqrt()
}

/// What [`direction`] costs, in multiplications of an iteration.
pub fn cost([rows, columns]: [usize; 2]) -> usize {
    let (long, short) = (rows.max(columns), rows.min(columns));
    short * short * (2 * long + short)
}

/// A matrix with the singular vectors of `momentum`, and singular values from 0.68 to 1.14 in the
/// place of all that are above a hundredth of its norm. With `rounds` the factors of products are bf16, as
/// torch's are.
///
/// # Shapes
/// `[rows, columns]`, f32 → the same
pub fn direction<B: Backend>(momentum: Tensor<B, 2>, rounds: bool) -> Tensor<B, 2> {
    kernel::orthogonal(momentum, STEPS, rounds)
}
