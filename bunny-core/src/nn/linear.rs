//! The product of activations with a weight, and LoRA beside it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Builder, Initial, Mode, Observer, Weight, dropout_key};
use crate::ops;

/// `y = x Wᵀ + b`, the weight kept as published: `[out, in]`, which is also the layout in which
/// one row of activations reads it fastest.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Weight<B>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// An adapter that learns beside the weight.
    pub lora: Option<Lora<B>>,
    /// Who takes down what goes into it, and its number there.
    #[module(skip)]
    pub(crate) observer: Option<(Observer, usize)>,
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
            observer: None,
        }
    }

    /// Applies the layer to the last dimension.
    ///
    /// # Shapes
    /// `[..., in]` → `[..., out]`
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>, mode: &Mode) -> Tensor<B, D> {
        if let Some((observer, product)) = &self.observer {
            observer.note(*product, &input);
        }
        let bias = self.bias.as_ref().map(Param::val);
        match &self.lora {
            Some(lora) => {
                let adapter = lora.adapter(mode);
                self.weight.adapted_linear(mode.phase, input, bias, adapter)
            }
            None => self.weight.linear(mode.phase, input, bias),
        }
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
