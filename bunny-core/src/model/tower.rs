//! The vision towers: pixels to one feature vector per patch.

mod eva_clip;
mod patches;
mod siglip;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

pub use eva_clip::EvaClip;
pub use patches::{PatchEmbedding, patches};
pub use siglip::{Siglip, SiglipLayer, SiglipMlp};

use crate::{config::VisionConfig, nn::Builder};

/// A vision tower of any kind.
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum VisionTower<B: Backend> {
    /// SigLIP.
    Siglip(Siglip<B>),
    /// EVA02-CLIP.
    EvaClip(EvaClip<B>),
}

impl<B: Backend> VisionTower<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &VisionConfig, builder: &Builder<'_, B>) -> Self {
        match config {
            VisionConfig::Siglip(config) => Self::Siglip(Siglip::new(config, builder)),
            VisionConfig::EvaClip(config) => Self::EvaClip(EvaClip::new(config, builder)),
        }
    }

    /// The features of pictures: the output of the last layer but one, which is what Bunny uses of
    /// either tower.
    ///
    /// # Shapes
    /// pixels `[pictures, 3, size, size]` → `[pictures, patches, hidden]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        match self {
            Self::Siglip(tower) => tower.forward(pixels),
            Self::EvaClip(tower) => tower.forward(pixels),
        }
    }
}
