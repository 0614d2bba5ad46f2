//! The product with a weight that has an adapter beside it.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;

use burn::tensor::{Tensor, backend::Backend};

use super::{Phase, dropout, linear, place::on_gpu};

/// A low-rank adapter (LoRA) beside a weight.
#[derive(Debug, Clone)]
pub struct Adapter<B: Backend> {
    /// `A`, `[rank, in]`; it learns in f32 and is applied in the activations' type.
    pub lora_a: Tensor<B, 2>,
    /// `B`, `[out, rank]`, likewise.
    pub lora_b: Tensor<B, 2>,
    /// `s`.
    pub scale: f64,
    /// Which share of the adapter's input is dropped, and by which draw.
    pub dropout: Option<(f64, u64)>,
}

/// `y = x Wᵀ + b + s (dropout(x) Aᵀ) Bᵀ`.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn adapted_linear<B: Backend>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    adapter: Adapter<B>,
) -> Tensor<B, 2> {
    on_gpu!(B;
        autodiff<K> if {
            let [a, b] = [&adapter.lora_a, &adapter.lora_b].map(view);
            let bias = bias.as_ref().map(view);
            cubecl::serves::<K>(&view(&input), &view(&weight), bias.as_ref(), &a, &b)
        } => {
            let [a, b] = [&adapter.lora_a, &adapter.lora_b].map(view);
            let scale = adapter.scale as f32;
            raise(cubecl::adapted_linear::<K>(
                &lower(input), &lower(weight), bias.map(lower), [&a, &b], scale, adapter.dropout,
            ))
        },
        else => composed(phase, input, weight, bias, adapter),
    )
}

/// The sum of what two [`linear`] products give and one of what is between them.
fn composed<B: Backend>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    adapter: Adapter<B>,
) -> Tensor<B, 2> {
    let output = linear(phase, input.clone(), weight, bias);
    output + adapter.apply(phase, input)
}

impl<B: Backend> Adapter<B> {
    /// `s (dropout(x) Aᵀ) Bᵀ`, as two [`linear`] products.
    ///
    /// # Shapes
    /// `[rows, in]` → `[rows, out]`
    pub fn apply(self, phase: Phase, input: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = input.dtype();
        let input = match self.dropout {
            Some((probability, key)) => dropout(input, probability, key),
            None => input,
        };
        let low = linear(phase, input, self.lora_a.cast(dtype), None); // [rows, rank]
        // Scaled where there is least of it.
        let low = low.mul_scalar(self.scale);
        linear(phase, low, self.lora_b.cast(dtype), None)
    }
}
