//! LayerNorm and RMSNorm, computed in f32 whatever the activations are.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Builder, Initial};
use crate::ops;

/// Normalises each row of channels.
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum Norm<B: Backend> {
    /// Mean and variance taken out.
    Layer(LayerNorm<B>),
    /// The root mean square taken out.
    Rms(RmsNorm<B>),
}

/// Takes mean and variance out of each row, then scales it and, with a bias, shifts it.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `[channels]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Takes the root mean square out of each row, then scales it.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl<B: Backend> Norm<B> {
    /// A LayerNorm with a bias, whose parameters are those below `builder`.
    pub fn layer_norm(builder: &Builder<'_, B>, channels: usize, epsilon: f64) -> Self {
        Self::Layer(LayerNorm::new(builder, channels, epsilon, true))
    }

    /// An RMSNorm, whose parameter is the one below `builder`.
    pub fn rms_norm(builder: &Builder<'_, B>, channels: usize, epsilon: f64) -> Self {
        Self::Rms(RmsNorm::new(builder, channels, epsilon))
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// `[..., channels]` → `[..., channels]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Layer(norm) => norm.forward(input),
            Self::Rms(norm) => norm.forward(input),
        }
    }
}

impl<B: Backend> LayerNorm<B> {
    /// A norm whose parameters are those below `builder`; new ones change nothing.
    pub fn new(builder: &Builder<'_, B>, channels: usize, epsilon: f64, bias: bool) -> Self {
        Self {
            weight: builder.norm("weight", channels, Initial::Constant(1.0)),
            bias: bias.then(|| builder.norm("bias", channels, Initial::Constant(0.0))),
            epsilon,
        }
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// `[..., channels]` → `[..., channels]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>) -> Tensor<B, D> {
        let bias = self.bias.as_ref().map(Param::val);
        ops::layer_norm(input, self.weight.val(), bias, self.epsilon)
    }
}

impl<B: Backend> RmsNorm<B> {
    /// A norm whose parameter is the one below `builder`; a new one changes nothing.
    pub fn new(builder: &Builder<'_, B>, channels: usize, epsilon: f64) -> Self {
        Self {
            weight: builder.norm("weight", channels, Initial::Constant(1.0)),
            epsilon,
        }
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// `[..., channels]` → `[..., channels]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>) -> Tensor<B, D> {
        ops::rms_norm(input, self.weight.val(), self.epsilon)
    }
}
