//! The vision towers: pixels to one feature vector per patch.

mod clip;
mod eva_clip;
mod multiscale;
mod patches;
mod siglip;

use burn::{
    module::Module,
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

pub use clip::Clip;
pub use eva_clip::EvaClip;
pub use multiscale::Multiscale;
pub use patches::{PatchEmbedding, patches};
pub use siglip::{Siglip, SiglipLayer, SiglipMlp};

use crate::{config::VisionConfig, input::image::Pixels, nn::Builder};

/// Pictures of one size as one tensor, f32.
///
/// # Shapes
/// each `[3, height, width]` → `[pictures, 3, height, width]`
pub fn stack_pixels<'p, B: Backend>(
    pictures: impl IntoIterator<Item = &'p Pixels>,
    device: &B::Device,
) -> Tensor<B, 4> {
    let (mut count, mut size) = (0, [0; 2]);
    let mut pixels = Vec::new();
    for picture in pictures {
        count += 1;
        size = [picture.height, picture.width];
        pixels.extend_from_slice(&picture.data);
    }
    let [height, width] = size;
    let data = TensorData::new(pixels, [count, 3, height, width]);
    Tensor::from_data(data, (device, DType::F32))
}

/// A vision tower of any kind.
#[allow(
    clippy::large_enum_variant,
    reason = "a model holds few, and none is moved"
)]
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum VisionTower<B: Backend> {
    /// SigLIP.
    Siglip(Siglip<B>),
    /// EVA02-CLIP.
    EvaClip(EvaClip<B>),
    /// OpenAI's CLIP.
    Clip(Clip<B>),
    /// SigLIP over pictures of several sizes.
    Multiscale(Multiscale<B>),
}

impl<B: Backend> VisionTower<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &VisionConfig, builder: &Builder<'_, B>) -> Self {
        match config {
            VisionConfig::Siglip(config) => Self::Siglip(Siglip::new(config, builder)),
            VisionConfig::EvaClip(config) => Self::EvaClip(EvaClip::new(config, builder)),
            VisionConfig::Clip(config) => Self::Clip(Clip::new(config, builder)),
            VisionConfig::Multiscale(config) => Self::Multiscale(Multiscale::new(config, builder)),
        }
    }

    /// The features of pictures: the output of the last layer but one, which is what Bunny uses of
    /// any tower.
    ///
    /// # Shapes
    /// pixels `[pictures, 3, size, size]` → `[pictures, patches, hidden]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        match self {
            Self::Siglip(tower) => tower.forward(pixels),
            Self::EvaClip(tower) => tower.forward(pixels),
            Self::Clip(tower) => tower.forward(pixels),
            Self::Multiscale(tower) => tower.forward(pixels),
        }
    }
}
