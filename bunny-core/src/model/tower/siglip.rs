//! SigLIP's vision transformer: pre-norm blocks over patches, no class token.
//!
//! Bunny reads the output of the last layer but one, so the last layer, the norm behind it and the
//! pooling head never take part. The norm is kept all the same, since published files hold it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::patches::PatchEmbedding;
use crate::{
    config::SiglipConfig,
    nn::{
        Activation, AttentionMask, Builder, Initial, Linear, Mask, Mode, Norm, Operands, attention,
        split_heads,
    },
};

/// The tower; its fields are called as in published files.
#[derive(Module, Debug)]
pub struct Siglip<B: Backend> {
    /// Everything; the wrapper is `transformers`'.
    pub vision_model: SiglipTransformer<B>,
}

/// Patches, positions and layers.
#[derive(Module, Debug)]
pub struct SiglipTransformer<B: Backend> {
    /// Patches and positions.
    pub embeddings: SiglipEmbeddings<B>,
    /// The layers that take part.
    pub encoder: SiglipEncoder<B>,
    /// Held for the files' sake; takes no part.
    pub post_layernorm: Norm<B>,
}

/// Patch vectors plus learned positions.
#[derive(Module, Debug)]
pub struct SiglipEmbeddings<B: Backend> {
    /// Patches to vectors.
    pub patch_embedding: PatchEmbedding<B>,
    /// One vector per patch.
    pub position_embedding: PositionEmbedding<B>,
}

/// One learned vector per place.
#[derive(Module, Debug)]
pub struct PositionEmbedding<B: Backend> {
    /// `[places, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> PositionEmbedding<B> {
    pub(super) fn new(builder: &Builder<'_, B>, places: usize, hidden: usize) -> Self {
        Self {
            weight: builder.addend("weight", [places, hidden], Initial::Normal(0.02)),
        }
    }
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct SiglipEncoder<B: Backend> {
    /// First to last but one.
    pub layers: Vec<SiglipLayer<B>>,
}

impl<B: Backend> SiglipEncoder<B> {
    pub(super) fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let layers = builder.child("layers");
        Self {
            layers: (0..config.layers_used())
                .map(|layer| SiglipLayer::new(config, &layers.layer(layer)))
                .collect(),
        }
    }

    /// # Shapes
    /// `[pictures, positions, hidden]` → the same
    pub(super) fn forward(&self, mut hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let [pictures, positions, _] = hidden.dims();
        let device = hidden.device();
        let mask = AttentionMask::new(Mask::Full, pictures, positions, positions, &device);
        for layer in &self.layers {
            hidden = layer.forward(hidden, &mask);
        }
        hidden
    }
}

impl<B: Backend> Siglip<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let hidden = config.hidden_size;
        let builder = builder.child("vision_model");
        let embeddings = builder.child("embeddings");
        Self {
            vision_model: SiglipTransformer {
                embeddings: SiglipEmbeddings {
                    patch_embedding: PatchEmbedding::new(
                        &embeddings.child("patch_embedding"),
                        hidden,
                        config.patch_size,
                        true,
                    ),
                    position_embedding: PositionEmbedding::new(
                        &embeddings.child("position_embedding"),
                        config.tokens(),
                        hidden,
                    ),
                },
                encoder: SiglipEncoder::new(config, &builder.child("encoder")),
                post_layernorm: Norm::layer_norm(
                    &builder.child("post_layernorm"),
                    hidden,
                    config.layer_norm_eps,
                ),
            },
        }
    }

    /// The output of the last layer but one.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, patches, hidden]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let model = &self.vision_model;
        let patches = model.embeddings.patch_embedding.forward(pixels);
        let positions = model.embeddings.position_embedding.weight.val();
        model.encoder.forward(patches + positions.unsqueeze())
    }
}

/// One pre-norm block.
#[derive(Module, Debug)]
pub struct SiglipLayer<B: Backend> {
    /// Before attention.
    pub layer_norm1: Norm<B>,
    /// Attention.
    pub self_attn: SiglipAttention<B>,
    /// Before the MLP.
    pub layer_norm2: Norm<B>,
    /// The MLP.
    pub mlp: SiglipMlp<B>,
}

/// Multi-head attention, biases everywhere.
#[derive(Module, Debug)]
pub struct SiglipAttention<B: Backend> {
    /// Queries.
    pub q_proj: Linear<B>,
    /// Keys.
    pub k_proj: Linear<B>,
    /// Values.
    pub v_proj: Linear<B>,
    /// Back to the residual stream.
    pub out_proj: Linear<B>,
    heads: usize,
    #[module(skip)]
    operands: Operands,
}

/// Two products around a nonlinearity.
#[derive(Module, Debug)]
pub struct SiglipMlp<B: Backend> {
    /// `[intermediate, hidden]`.
    pub fc1: Linear<B>,
    /// `[hidden, intermediate]`.
    pub fc2: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Backend> SiglipLayer<B> {
    /// A block of a tower of `config`, whose parameters are those below `builder`.
    pub fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let hidden = config.hidden_size;
        let norm =
            |name: &str| Norm::layer_norm(&builder.child(name), hidden, config.layer_norm_eps);
        let attention = builder.child("self_attn");
        let projection = |name: &str| Linear::new(&attention.child(name), hidden, hidden, true);
        Self {
            layer_norm1: norm("layer_norm1"),
            self_attn: SiglipAttention {
                q_proj: projection("q_proj"),
                k_proj: projection("k_proj"),
                v_proj: projection("v_proj"),
                out_proj: projection("out_proj"),
                heads: config.num_attention_heads,
                operands: builder.operands(),
            },
            layer_norm2: norm("layer_norm2"),
            mlp: SiglipMlp::new(config, &builder.child("mlp")),
        }
    }

    /// # Shapes
    /// `[pictures, patches, hidden]` → the same
    pub fn forward(&self, hidden: Tensor<B, 3>, mask: &AttentionMask<B>) -> Tensor<B, 3> {
        let mode = Mode::PREFILL; // the tower has no dropout
        let normed = self.layer_norm1.forward(hidden.clone());
        let hidden = hidden + self.self_attn.forward(normed, mask, &mode);
        let normed = self.layer_norm2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
}

impl<B: Backend> SiglipMlp<B> {
    /// Two products whose parameters are those below `builder`.
    pub fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        Self {
            fc1: Linear::new(&builder.child("fc1"), hidden, wide, true),
            fc2: Linear::new(&builder.child("fc2"), wide, hidden, true),
            activation: config.activation,
        }
    }

    /// # Shapes
    /// `[..., hidden]` → the same
    pub fn forward<const D: usize>(&self, input: Tensor<B, D>) -> Tensor<B, D> {
        let mode = Mode::PREFILL; // the tower has no dropout
        let wide = self.activation.apply(self.fc1.forward(input, &mode));
        self.fc2.forward(wide, &mode)
    }
}

impl<B: Backend> SiglipAttention<B> {
    /// # Shapes
    /// `[pictures, patches, hidden]` → the same
    fn forward(&self, input: Tensor<B, 3>, mask: &AttentionMask<B>, mode: &Mode) -> Tensor<B, 3> {
        let head_dim = input.dims()[2] / self.heads;
        let heads = |projected| split_heads(projected, head_dim); // [pictures, heads, patches, head_dim]
        let query = heads(self.q_proj.forward(input.clone(), mode));
        let key = heads(self.k_proj.forward(input.clone(), mode));
        let value = heads(self.v_proj.forward(input, mode));
        self.out_proj
            .forward(attention(query, key, value, mask, self.operands), mode)
    }
}
