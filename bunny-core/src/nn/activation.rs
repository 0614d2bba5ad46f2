//! The nonlinearities.

use burn::tensor::{Tensor, backend::Backend};

use super::kernel;

/// The nonlinearities of this family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// GELU with tanh: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
}

impl Activation {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GeluTanh => "gelu_new",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
        }
    }

    /// Applies the nonlinearity to every element.
    ///
    /// # Shapes
    /// `[...]` → `[...]`
    pub fn apply<B: Backend, const D: usize>(self, input: Tensor<B, D>) -> Tensor<B, D> {
        kernel::activate(self, input)
    }
}
