//! The nonlinearities, and the gate of gated MLPs.

mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use burn::tensor::{Tensor, activation, backend::Backend};

use self::autodiff::ActivationKernel;
use super::place::at_place;

/// The nonlinearities of this family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// GELU with tanh: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * sigmoid(1.702 x)`: CLIP's short form of GELU.
    QuickGelu,
}

/// How much steeper [`Activation::QuickGelu`] is than [`Activation::Silu`]:
/// `quick_gelu(x) = silu(1.702 x) / 1.702`.
const STEEPNESS: f32 = 1.702;

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GeluTanh, Self::Gelu, Self::Silu, Self::QuickGelu];

    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GeluTanh => "gelu_new",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::QuickGelu => "quick_gelu",
        }
    }

    /// Applies the nonlinearity to every element, in place where nobody else holds the tensor.
    ///
    /// # Shapes
    /// `[...]` → `[...]`
    pub fn apply<B: Backend, const D: usize>(self, input: Tensor<B, D>) -> Tensor<B, D> {
        at_place!(B;
            plain<K> if K::takes(input.dtype()) => raise(K::forward(self, lower(input))),
            autodiff<K> if K::takes(input.dtype()) => {
                raise(autodiff::activate::<K>(self, &lower(input)))
            },
            else => self.plain(input),
        )
    }

    /// [`apply`](Self::apply) in burn's operations.
    pub(super) fn plain<B: Backend, const D: usize>(self, input: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            // (1 + tanh(u)) / 2 = sigmoid(2u), which is cheaper and never overflows.
            Self::GeluTanh => {
                const TWICE_ROOT: f64 = 1.595_769_121_605_730_8; // 2 * sqrt(2 / pi)
                let square = input.clone().powi_scalar(2);
                let twice = input.clone() * square.mul_scalar(0.044715).add_scalar(1.0);
                input * activation::sigmoid(twice.mul_scalar(TWICE_ROOT))
            }
            Self::Gelu => activation::gelu(input),
            Self::Silu => activation::silu(input),
            Self::QuickGelu => {
                let steep = input.clone().mul_scalar(STEEPNESS);
                input * activation::sigmoid(steep)
            }
        }
    }

    /// What a gated MLP makes of its two products: the nonlinearity of `gate`, times `up`.
    ///
    /// # Shapes
    /// `[...]`, `[...]` → `[...]`
    pub fn gate<B: Backend, const D: usize>(
        self,
        gate: Tensor<B, D>,
        up: Tensor<B, D>,
    ) -> Tensor<B, D> {
        let same = gate.dtype() == up.dtype() && gate.dims() == up.dims();
        at_place!(B;
            plain<K> if same && K::gates(self, gate.dtype()) => {
                raise(K::gate(self, lower(gate), lower(up)))
            },
            autodiff<K> if same && K::gates(self, gate.dtype()) => {
                raise(autodiff::gate::<K>(self, &lower(gate), &lower(up)))
            },
            else => self.apply(gate) * up,
        )
    }
}
