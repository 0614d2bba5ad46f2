//! A decoder layer's MLP: plain or gated, its first products apart or in one.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    config::{DecoderConfig, MlpKind},
    nn::{Activation, Builder, Linear, Mode},
};

/// Two or three projections around a nonlinearity.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// Into the MLP.
    pub inputs: MlpInputs<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

/// The products into an MLP, as they are published.
#[allow(
    clippy::large_enum_variant,
    reason = "a model holds few, and none is moved"
)]
#[derive(Module, Debug)]
pub enum MlpInputs<B: Backend> {
    /// One, `[intermediate, hidden]`.
    Plain(Linear<B>),
    /// What the nonlinearity opens and closes, and what is let through.
    Gated(TwoProducts<B>),
    /// Both in one, `[2 * intermediate, hidden]`, the gate first.
    Fused(Linear<B>),
}

/// A product each for the gate and for what it lets through.
#[derive(Module, Debug)]
pub struct TwoProducts<B: Backend> {
    /// What the nonlinearity opens and closes, `[intermediate, hidden]`.
    pub gate_proj: Linear<B>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
}

impl<B: Backend> MlpInputs<B> {
    fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        let wide = config.intermediate_size;
        let product = |name: &str, size| {
            let builder = builder.child(name);
            Linear::new(&builder, config.hidden_size, size, config.mlp_bias)
        };
        match (config.mlp, config.fused_products) {
            (MlpKind::Plain, _) => Self::Plain(product("up_proj", wide)),
            (MlpKind::Gated, true) => Self::Fused(product("gate_up_proj", 2 * wide)),
            (MlpKind::Gated, false) => Self::Gated(TwoProducts {
                gate_proj: product("gate_proj", wide),
                up_proj: product("up_proj", wide),
            }),
        }
    }

    pub(super) fn products_mut(&mut self) -> Vec<&mut Linear<B>> {
        match self {
            Self::Plain(one) | Self::Fused(one) => vec![one],
            Self::Gated(two) => vec![&mut two.gate_proj, &mut two.up_proj],
        }
    }

    /// # Shapes
    /// `[batch, seq, hidden]` → `[batch, seq, intermediate]`
    fn forward(&self, input: Tensor<B, 3>, activation: Activation, mode: &Mode) -> Tensor<B, 3> {
        match self {
            Self::Plain(up) => activation.apply(up.forward(input, mode)),
            Self::Gated(two) => {
                let gate = two.gate_proj.forward(input.clone(), mode);
                activation.gate(gate, two.up_proj.forward(input, mode))
            }
            Self::Fused(both) => {
                let both = both.forward(input, mode);
                let wide = both.dims()[2] / 2;
                let half = |from| both.clone().narrow(2, from, wide);
                activation.gate(half(0), half(wide))
            }
        }
    }
}

impl<B: Backend> Mlp<B> {
    pub(super) fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        Self {
            inputs: MlpInputs::new(config, builder),
            down_proj: Linear::new(
                &builder.child("down_proj"),
                config.intermediate_size,
                config.hidden_size,
                config.mlp_bias,
            ),
            activation: config.activation,
        }
    }

    /// # Shapes
    /// `[batch, seq, hidden]` → the same
    pub fn forward(&self, input: Tensor<B, 3>, mode: &Mode) -> Tensor<B, 3> {
        let wide = self.inputs.forward(input, self.activation, mode);
        self.down_proj.forward(wide, mode)
    }
}
