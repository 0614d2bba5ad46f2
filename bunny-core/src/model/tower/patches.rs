//! A picture cut into patches, and the first product over them.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use crate::nn::{Builder, Initial, Phase, Weight};

/// Maps each patch of pixels to a vector: a convolution whose stride is its kernel, computed as a
/// product over unfolded patches, which is faster and simpler on every backend.
#[derive(Module, Debug)]
pub struct PatchEmbedding<B: Backend> {
    /// The kernel as published, `[hidden, 3, patch, patch]`.
    pub weight: Weight<B, 4>,
    /// `[hidden]`; CLIP's has none.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> PatchEmbedding<B> {
    pub(super) fn new(
        builder: &Builder<'_, B>,
        hidden: usize,
        patch: usize,
        has_bias: bool,
    ) -> Self {
        Self {
            weight: builder.weight("weight", [hidden, 3, patch, patch], Initial::Normal(0.02)),
            bias: has_bias.then(|| builder.bias("bias", hidden)),
        }
    }

    /// Patches in reading order; pixels beyond the last whole patch are left out.
    ///
    /// # Shapes
    /// `[pictures, 3, height, width]` → `[pictures, rows * columns, hidden]`
    pub(super) fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let [_, _, patch, _] = self.weight.dims();
        let bias = self.bias.as_ref().map(Param::val);
        let patches = patches(pixels, patch);
        self.weight.linear(Phase::Prefill, patches, bias)
    }
}

/// Pictures cut into squares of `side` pixels, each laid out as the kernel's numbers are.
///
/// # Shapes
/// `[pictures, channels, height, width]` → `[pictures, rows * columns, channels * side * side]`
pub fn patches<B: Backend>(pixels: Tensor<B, 4>, side: usize) -> Tensor<B, 3> {
    let [pictures, channels, height, width] = pixels.dims();
    let (rows, columns) = (height / side, width / side);
    let squares: Tensor<B, 6> = pixels
        .narrow(2, 0, rows * side)
        .narrow(3, 0, columns * side)
        .reshape([pictures, channels, rows, side, columns, side])
        .permute([0, 2, 4, 1, 3, 5]);
    squares.reshape([pictures, rows * columns, channels * side * side])
}
