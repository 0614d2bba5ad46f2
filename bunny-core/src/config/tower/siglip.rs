//! The sizes of a SigLIP tower.

use crate::{
    config::{ConfigError, Fields},
    nn::Activation,
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
            activation: fields.activation("hidden_act", default.activation)?,
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
}
