//! Clipping by the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` does it.

use bunny_core::ops;
use burn::tensor::backend::Backend;

use super::Gradients;

/// The Euclidean norm of all gradients as one vector.
pub fn global_norm<B: Backend>(gradients: &Gradients<B>) -> f64 {
    let gradients: Vec<_> = gradients.iter().collect();
    ops::sum_of_squares(&gradients).sqrt()
}

/// What gradients of norm `norm` are multiplied with, so that it is at most `max_norm`; `None` clips
/// nothing.
pub fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    // torch's guard against a norm of zero, kept so that results agree to the last digit.
    let factor = max_norm.map_or(1.0, |max_norm| max_norm / (norm + 1e-6));
    factor.min(1.0)
}
