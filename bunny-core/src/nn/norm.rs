//! LayerNorm and RMSNorm, computed in f32 whatever the activations are.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Builder, Initial};
use crate::ops;

/// Normalises each row, then scales it and, for LayerNorm, shifts it.
#[derive(Module, Debug)]
pub struct Norm<B: Backend> {
    /// `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `[channels]`; a norm with a bias is a LayerNorm, one without an RMSNorm.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
}

impl<B: Backend> Norm<B> {
    /// Mean and variance taken out, weight and bias put in.
    pub fn layer_norm(builder: &Builder<'_, B>, channels: usize, epsilon: f64) -> Self {
        Self {
            weight: builder.norm("weight", channels, Initial::Constant(1.0)),
            bias: Some(builder.norm("bias", channels, Initial::Constant(0.0))),
            epsilon,
        }
    }

    /// Root mean square taken out, weight put in.
    pub fn rms_norm(builder: &Builder<'_, B>, channels: usize, epsilon: f64) -> Self {
        Self {
            weight: builder.norm("weight", channels, Initial::Constant(1.0)),
            bias: None,
            epsilon,
        }
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// `[..., channels]` → `[..., channels]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>) -> Tensor<B, D> {
        let weight = self.weight.val();
        match &self.bias {
            Some(bias) => ops::layer_norm(input, weight, Some(bias.val()), self.epsilon),
            None => ops::rms_norm(input, weight, self.epsilon),
        }
    }
}
