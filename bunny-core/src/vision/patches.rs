//! A picture cut into patches, and the first product over them.

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Tensor, backend::Backend},
};

use crate::{
    checkpoint::{Builder, Initial},
    nn::{Linear, Mode},
};

/// Maps each patch of pixels to a vector: a convolution whose stride is its kernel, computed as a
/// product over unfolded patches, which is faster and simpler on every backend.
#[derive(Module, Debug)]
pub struct PatchEmbedding<B: Backend> {
    /// The kernel as published, `[hidden, 3, patch, patch]`.
    pub weight: Param<Tensor<B, 4>>,
    /// `[hidden]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> PatchEmbedding<B> {
    pub(super) fn new(builder: &Builder<'_, B>, hidden: usize, patch: usize) -> Self {
        Self {
            weight: builder.weight("weight", [hidden, 3, patch, patch], Initial::Normal(0.02)),
            bias: builder.addend("bias", [hidden], Initial::Constant(0.0)),
        }
    }

    /// Patches in reading order; pixels beyond the last whole patch are left out.
    ///
    /// # Shapes
    /// `[pictures, 3, height, width]` → `[pictures, rows * columns, hidden]`
    pub(super) fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let [pictures, channels, height, width] = pixels.dims();
        let weight = self.weight.val();
        let [hidden, _, patch, _] = weight.dims();
        let (rows, columns) = (height / patch, width / patch);
        let patches: Tensor<B, 6> = pixels
            .narrow(2, 0, rows * patch)
            .narrow(3, 0, columns * patch)
            .reshape([pictures, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5]);
        let pixels_per_patch = channels * patch * patch;
        let patches = patches.reshape([pictures, rows * columns, pixels_per_patch]);
        let product = Linear {
            weight: Param::initialized(ParamId::new(), weight.reshape([hidden, pixels_per_patch])),
            bias: Some(self.bias.clone()),
            lora: None,
        };
        product.forward(patches, &Mode::INFERENCE)
    }
}
