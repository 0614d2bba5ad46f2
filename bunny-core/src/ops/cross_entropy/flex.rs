//! Cross-entropy by the CPU's kernels.

use burn_flex::FlexTensor;

use super::autodiff::CrossEntropyKernel;
use crate::ops::{
    autodiff::{unwrap, wrap},
    flex::{Flex, contiguous, floats, like, tensor},
};

impl CrossEntropyKernel for Flex {
    fn forward(scores: FlexTensor, targets: &[u32]) -> FlexTensor {
        let mut losses = vec![0f32; targets.len()];
        bunny_kernels::cross_entropy(floats(&contiguous(scores)), &wide(targets), &mut losses);
        total(&losses)
    }

    fn forward_with_gradient(scores: FlexTensor, targets: &[u32]) -> [FlexTensor; 2] {
        let mut gradient = floats(&contiguous(scores.clone())).to_vec();
        let mut losses = vec![0f32; targets.len()];
        bunny_kernels::cross_entropy_with_gradient(&mut gradient, &wide(targets), 1.0, &mut losses);
        [total(&losses), like(gradient, &scores)]
    }

    fn scale(gradient: FlexTensor, factor: FlexTensor) -> FlexTensor {
        let factor = floats(&contiguous(factor))[0];
        unwrap(wrap::<Flex, 2>(gradient).mul_scalar(factor))
    }
}

fn wide(targets: &[u32]) -> Vec<i64> {
    targets.iter().map(|id| i64::from(*id)).collect()
}

/// A sum that does not lose the small ones, `[1]`.
fn total(losses: &[f32]) -> FlexTensor {
    let sum = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    tensor(vec![sum as f32], [1])
}
