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
    checkpoint::{Builder, Initial},
    error::ConfigError,
    fields::Fields,
    nn::{Activation, AttentionMask, Linear, Mask, Mode, Norm, attention},
};

/// The sizes of a SigLIP tower (`transformers` `SiglipVisionConfig`).
#[derive(Debug, Clone, PartialEq)]
pub struct SiglipConfig {
    /// Channels of the features.
    pub hidden_size: usize,
    /// Channels inside the MLPs.
    pub intermediate_size: usize,
    /// Layers of the whole tower, the last one included.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Added to the variance in every norm.
    pub layer_norm_eps: f64,
    /// The MLP's nonlinearity.
    pub activation: Activation,
}

impl SiglipConfig {
    /// `google/siglip-so400m-patch14-384`.
    pub fn so400m_patch14_384() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 4304,
            num_hidden_layers: 27,
            num_attention_heads: 16,
            image_size: 384,
            patch_size: 14,
            layer_norm_eps: 1e-6,
            activation: Activation::GeluTanh,
        }
    }

    /// `google/siglip-base-patch16-224`, whose sizes are the defaults of `transformers`.
    fn base_patch16_224() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            layer_norm_eps: 1e-6,
            activation: Activation::GeluTanh,
        }
    }

    /// The sizes that a tower's `config.json` gives. What it leaves out, as published files do, has
    /// its default in `transformers`.
    ///
    /// # Errors
    /// When one is out of range, or they do not fit each other.
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let default = Self::base_patch16_224();
        let size = |field, default| fields.count(field, default, 1 << 20);
        if size("num_channels", 3)? != 3 {
            return Err(fields.invalid("num_channels", "must be 3"));
        }
        let config = Self {
            hidden_size: size("hidden_size", default.hidden_size)?,
            intermediate_size: size("intermediate_size", default.intermediate_size)?,
            num_hidden_layers: fields.count(
                "num_hidden_layers",
                default.num_hidden_layers,
                1024,
            )?,
            num_attention_heads: size("num_attention_heads", default.num_attention_heads)?,
            image_size: size("image_size", default.image_size)?,
            patch_size: size("patch_size", default.patch_size)?,
            layer_norm_eps: fields.number("layer_norm_eps", default.layer_norm_eps)?,
            activation: Activation::of(fields, "hidden_act", default.activation)?,
        };
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(fields.invalid("num_attention_heads", "must divide hidden_size"));
        }
        if config.patch_size > config.image_size {
            return Err(fields.invalid("patch_size", "must not exceed image_size"));
        }
        if config.num_hidden_layers < 2 {
            return Err(fields.invalid(
                "num_hidden_layers",
                "must be at least 2: features come from the last layer but one",
            ));
        }
        Ok(config)
    }

    /// Patches of a picture, which is also the number of features.
    pub fn tokens(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// The layers that take part.
    pub fn layers_used(&self) -> usize {
        self.num_hidden_layers - 1
    }

    /// How many parameters the tower keeps: the layers that take part, and the last norm.
    pub fn parameters(&self) -> u64 {
        let (hidden, wide) = (self.hidden_size as u64, self.intermediate_size as u64);
        let patch = (3 * self.patch_size * self.patch_size) as u64;
        let layer =
            4 * (hidden + 1) * hidden + 4 * hidden + (hidden + 1) * wide + (wide + 1) * hidden;
        (patch + 1) * hidden
            + self.tokens() as u64 * hidden
            + self.layers_used() as u64 * layer
            + 2 * hidden
    }
}

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

/// Learned positions.
#[derive(Module, Debug)]
pub struct PositionEmbedding<B: Backend> {
    /// `[patches, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct SiglipEncoder<B: Backend> {
    /// First to last but one.
    pub layers: Vec<SiglipLayer<B>>,
}

impl<B: Backend> Siglip<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let hidden = config.hidden_size;
        let builder = builder.child("vision_model");
        let embeddings = builder.child("embeddings");
        let layers = builder.child("encoder").child("layers");
        Self {
            vision_model: SiglipTransformer {
                embeddings: SiglipEmbeddings {
                    patch_embedding: PatchEmbedding::new(
                        &embeddings.child("patch_embedding"),
                        hidden,
                        config.patch_size,
                    ),
                    position_embedding: PositionEmbedding {
                        weight: embeddings.child("position_embedding").addend(
                            "weight",
                            [config.tokens(), hidden],
                            Initial::Normal(0.02),
                        ),
                    },
                },
                encoder: SiglipEncoder {
                    layers: (0..config.layers_used())
                        .map(|layer| SiglipLayer::new(config, &layers.child(layer)))
                        .collect(),
                },
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
        let [pictures, tokens, _] = patches.dims();
        let positions = model.embeddings.position_embedding.weight.val();
        let mask = AttentionMask::new(Mask::Full, pictures, tokens, tokens, &patches.device());
        let mut hidden = patches + positions.unsqueeze();
        for layer in &model.encoder.layers {
            hidden = layer.forward(hidden, &mask);
        }
        hidden
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
            },
            layer_norm2: norm("layer_norm2"),
            mlp: SiglipMlp::new(config, &builder.child("mlp")),
        }
    }

    /// # Shapes
    /// `[pictures, patches, hidden]` → the same
    pub fn forward(&self, hidden: Tensor<B, 3>, mask: &AttentionMask<B>) -> Tensor<B, 3> {
        let mode = Mode::INFERENCE; // the tower has no dropout
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
        let mode = Mode::INFERENCE; // the tower has no dropout
        let wide = self.activation.apply(self.fc1.forward(input, &mode));
        self.fc2.forward(wide, &mode)
    }
}

impl<B: Backend> SiglipAttention<B> {
    /// # Shapes
    /// `[pictures, patches, hidden]` → the same
    fn forward(&self, input: Tensor<B, 3>, mask: &AttentionMask<B>, mode: &Mode) -> Tensor<B, 3> {
        let [pictures, tokens, hidden] = input.dims();
        let heads = |projected: Tensor<B, 3>| {
            projected
                .reshape([pictures, tokens, self.heads, hidden / self.heads])
                .swap_dims(1, 2) // [pictures, heads, patches, head_dim]
        };
        let query = heads(self.q_proj.forward(input.clone(), mode));
        let key = heads(self.k_proj.forward(input.clone(), mode));
        let value = heads(self.v_proj.forward(input, mode));
        let weights = self.q_proj.weight.dtype();
        self.out_proj
            .forward(attention(query, key, value, mask, weights), mode)
    }
}
