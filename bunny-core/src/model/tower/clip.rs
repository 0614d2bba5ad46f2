//! OpenAI's CLIP vision transformer: SigLIP's blocks behind a norm, over patches and a class token.
//!
//! Bunny reads the output of the last layer but one and drops the class token. The norm behind the
//! layers takes no part and is kept all the same, since published files hold it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{
    patches::PatchEmbedding,
    siglip::{PositionEmbedding, SiglipEncoder},
};
use crate::{
    config::ClipConfig,
    nn::{Builder, Initial, Norm},
};

/// The tower; its fields are called as in published files.
#[derive(Module, Debug)]
pub struct Clip<B: Backend> {
    /// Everything; the wrapper is `transformers`'.
    pub vision_model: ClipTransformer<B>,
}

/// Patches, class token, positions and layers.
#[derive(Module, Debug)]
pub struct ClipTransformer<B: Backend> {
    /// Patches, class token and positions.
    pub embeddings: ClipEmbeddings<B>,
    /// Before the first layer; published files spell it `pre_layrnorm`.
    pub pre_layernorm: Norm<B>,
    /// The layers that take part.
    pub encoder: SiglipEncoder<B>,
    /// Held for the files' sake; takes no part but in a pair of towers.
    pub post_layernorm: Norm<B>,
}

/// A class token before patch vectors, plus learned positions.
#[derive(Module, Debug)]
pub struct ClipEmbeddings<B: Backend> {
    /// The class token, `[hidden]`.
    pub class_embedding: Param<Tensor<B, 1>>,
    /// Patches to vectors.
    pub patch_embedding: PatchEmbedding<B>,
    /// One vector for the class token and one per patch.
    pub position_embedding: PositionEmbedding<B>,
}

impl<B: Backend> Clip<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &ClipConfig, builder: &Builder<'_, B>) -> Self {
        let blocks = &config.blocks;
        let hidden = blocks.hidden_size;
        let builder = builder.child("vision_model");
        let embeddings = builder.child("embeddings");
        let norm =
            |name: &str| Norm::layer_norm(&builder.child(name), hidden, blocks.layer_norm_eps);
        Self {
            vision_model: ClipTransformer {
                embeddings: ClipEmbeddings {
                    class_embedding: embeddings.addend(
                        "class_embedding",
                        [hidden],
                        Initial::Normal(0.02),
                    ),
                    patch_embedding: PatchEmbedding::new(
                        &embeddings.child("patch_embedding"),
                        hidden,
                        blocks.patch_size,
                        false,
                    ),
                    position_embedding: PositionEmbedding::new(
                        &embeddings.child("position_embedding"),
                        blocks.tokens() + 1,
                        hidden,
                    ),
                },
                pre_layernorm: norm("pre_layrnorm"),
                encoder: SiglipEncoder::new(blocks, &builder.child("encoder")),
                post_layernorm: norm("post_layernorm"),
            },
        }
    }

    /// The output of the last layer but one, without the class token.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, patches, hidden]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let seen = self.encode(pixels);
        let tokens = seen.dims()[1] - 1;
        seen.narrow(1, 1, tokens)
    }

    /// The output of the layers, class token first.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, 1 + patches, hidden]`
    pub(in crate::model) fn encode(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let model = &self.vision_model;
        let embeddings = &model.embeddings;
        let patches = embeddings.patch_embedding.forward(pixels);
        let [pictures, _, hidden] = patches.dims();
        let class: Tensor<B, 3> = embeddings.class_embedding.val().unsqueeze();
        let class = class.expand([pictures, 1, hidden]);
        let positions = embeddings.position_embedding.weight.val().unsqueeze();
        let embedded = Tensor::cat(vec![class, patches], 1) + positions;
        model.encoder.forward(model.pre_layernorm.forward(embedded))
    }
}
