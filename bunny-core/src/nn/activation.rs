//! The nonlinearities.

use burn::tensor::{Tensor, backend::Backend};

use super::kernel;
use crate::{error::ConfigError, fields::Fields};

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
    /// Reads the activation's name from `field`.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn of(fields: &Fields, field: &str, default: Self) -> Result<Self, ConfigError> {
        match fields.string(field)? {
            None => Ok(default),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Self::GeluTanh),
            Some("gelu") => Ok(Self::Gelu),
            Some("silu" | "swish") => Ok(Self::Silu),
            Some(other) => Err(fields.invalid(
                field,
                format!("is `{other}`, which is none of gelu_new, gelu_pytorch_tanh, gelu, silu"),
            )),
        }
    }

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
