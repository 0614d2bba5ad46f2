//! The product of activations with a weight, and LoRA beside it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Mode, dropout, kernel};
use crate::checkpoint::{Builder, Initial};

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
            bias: bias.then(|| builder.addend("bias", [output], Initial::Constant(0.0))),
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
        let mut output = kernel::linear(input.clone(), self.weight.val(), bias);
        if let Some(lora) = &self.lora {
            output = output + lora.forward(input, mode);
        }
        shape[D - 1] = output.dims()[1];
        output.reshape(shape)
    }
}

impl<B: Backend> Lora<B> {
    /// What the adapter adds to the layer's output.
    ///
    /// # Shapes
    /// `[rows, in]` → `[rows, out]`
    fn forward(&self, input: Tensor<B, 2>, mode: &Mode) -> Tensor<B, 2> {
        let dtype = input.dtype();
        let input = dropout(input, self.dropout, mode, self.place);
        // The adapter learns in f32, and is applied in the activations' type.
        let low = kernel::linear(input, self.lora_a.val().cast(dtype), None); // [rows, rank]
        // Scaled where there is least of it.
        let low = low.mul_scalar(self.scale);
        kernel::linear(low, self.lora_b.val().cast(dtype), None) // [rows, out]
    }
}
