//! The product of activations with a weight, and LoRA beside it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Builder, Initial, Mode, dropout_key};
use crate::ops;

/// `y = x Wᵀ + b`, the weight kept as published: `[out, in]`, which is also the layout in which
/// one row of activations reads it fastest.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// An adapter that learns beside the weight.
    pub lora: Option<Lora<B>>,
}

/// A low-rank adapter (LoRA): adds `s · (dropout(x) Aᵀ) Bᵀ`, never forming a dense ΔW.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// `A`, `[rank, in]`.
    pub lora_a: Param<Tensor<B, 2>>,
    /// `B`, `[out, rank]`.
    pub lora_b: Param<Tensor<B, 2>>,
    /// `s`, which PEFT calls `lora_alpha / r`.
    pub scale: f64,
    /// Dropout on the adapter's input, in training.
    pub dropout: f64,
    /// What tells this adapter's dropout from every other's.
    pub place: u64,
}

impl<B: Backend> Linear<B> {
    /// A layer from `input` to `output` channels whose parameters are those below `builder`.
    pub fn new(builder: &Builder<'_, B>, input: usize, output: usize, bias: bool) -> Self {
        Self {
            weight: builder.weight("weight", [output, input], Initial::Normal(0.02)),
            bias: bias.then(|| builder.bias("bias", output)),
            lora: None,
        }
    }

    /// Applies the layer to the last dimension.
    ///
    /// # Shapes
    /// `[..., in]` → `[..., out]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>, mode: &Mode) -> Tensor<B, D> {
        let mut shape = input.dims();
        let channels = shape[D - 1];
        let rows: usize = shape[..D - 1].iter().product();
        let input = input.reshape([rows, channels]); // [rows, in]
        let bias = self.bias.as_ref().map(Param::val);
        let output = match &self.lora {
            Some(lora) => {
                let adapter = lora.adapter(mode);
                ops::adapted_linear(mode.phase, input, self.weight.val(), bias, adapter)
            }
            None => ops::linear(mode.phase, input, self.weight.val(), bias),
        };
        shape[D - 1] = output.dims()[1];
        output.reshape(shape)
    }
}

impl<B: Backend> Lora<B> {
    /// The adapter as it is in this pass.
    fn adapter(&self, mode: &Mode) -> ops::Adapter<B> {
        let drops = mode.training && self.dropout > 0.0;
        ops::Adapter {
            lora_a: self.lora_a.val(),
            lora_b: self.lora_b.val(),
            scale: self.scale,
            dropout: drops.then(|| (self.dropout, dropout_key(mode, self.place))),
        }
    }
}
