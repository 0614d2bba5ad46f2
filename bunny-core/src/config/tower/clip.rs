//! The sizes of a tower of OpenAI's CLIP.

use serde_json::{Map, Value, json};

use super::{SiglipConfig, TowerConfig};
use crate::{
    config::{
        ConfigError, Fields,
        table::{self, Field, field},
    },
    input::image::ImageProcessor,
    nn::Activation,
};

/// The sizes of a CLIP tower (`transformers` `CLIPVisionConfig`).
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    /// Layers, pictures and nonlinearity: CLIP's blocks are SigLIP's.
    pub blocks: SiglipConfig,
}

impl ClipConfig {
    /// `openai/clip-vit-large-patch14-336`.
    pub fn vit_l_14_336() -> Self {
        Self {
            blocks: SiglipConfig {
                hidden_size: 1024,
                intermediate_size: 4096,
                num_hidden_layers: 24,
                num_attention_heads: 16,
                image_size: 336,
                patch_size: 14,
                layer_norm_eps: 1e-5,
                activation: Activation::QuickGelu,
            },
        }
    }

    /// `openai/clip-vit-base-patch32`, whose sizes are the defaults of `transformers`.
    fn vit_b_32() -> Self {
        Self {
            blocks: SiglipConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                image_size: 224,
                patch_size: 32,
                ..Self::vit_l_14_336().blocks
            },
        }
    }

    /// The sizes that a tower's `config.json` gives. What it leaves out, as published files do, has
    /// its default in `transformers`.
    ///
    /// # Errors
    /// When one is out of range, or they do not fit each other.
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let mut config = Self::vit_b_32();
        table::read(FIELDS, fields, &mut config)?;
        config.blocks.check(fields)?;
        Ok(config)
    }
}

impl TowerConfig for ClipConfig {
    fn kind(&self) -> &'static str {
        "clip"
    }

    fn folder_name(&self) -> &'static str {
        "clip-tower"
    }

    fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("model_type".into(), "clip_vision_model".into());
        json.insert("architectures".into(), json!(["CLIPVisionModel"]));
        table::write(FIELDS, self, None, &mut json);
        json.into()
    }

    fn is_published(&self) -> bool {
        *self == Self::vit_l_14_336()
    }

    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::clip(self.blocks.image_size)
    }

    fn unused_tensors(&self) -> Vec<String> {
        vec![
            format!("vision_model.encoder.layers.{}.", self.layers_used()),
            "vision_model.embeddings.position_ids".into(),
        ]
    }

    fn image_size(&self) -> usize {
        self.blocks.image_size
    }

    /// The class token goes along through the layers.
    fn positions(&self) -> usize {
        self.tokens() + 1
    }

    fn patch_size(&self) -> usize {
        self.blocks.patch_size
    }

    fn tokens(&self) -> usize {
        self.blocks.tokens()
    }

    fn hidden_size(&self) -> usize {
        self.blocks.hidden_size
    }

    fn intermediate_size(&self) -> usize {
        self.blocks.intermediate_size
    }

    fn layers_used(&self) -> usize {
        self.blocks.layers_used()
    }

    fn num_attention_heads(&self) -> usize {
        self.blocks.num_attention_heads
    }
}

static FIELDS: &[Field<ClipConfig>] = &[
    field!("hidden_size" => blocks.hidden_size, count up to 1 << 20),
    field!("intermediate_size" => blocks.intermediate_size, count up to 1 << 20),
    field!("num_hidden_layers" => blocks.num_hidden_layers, count up to 1024),
    field!("num_attention_heads" => blocks.num_attention_heads, count up to 1 << 20),
    Field {
        name: "num_channels",
        read: Some(
            |fields, _| match fields.count("num_channels", 3, 1 << 20)? {
                3 => Ok(()),
                _ => Err(fields.invalid("num_channels", "must be 3")),
            },
        ),
        write: |_| 3.into(),
    },
    field!("image_size" => blocks.image_size, count up to 1 << 20),
    field!("patch_size" => blocks.patch_size, count up to 1 << 20),
    field!("hidden_act" => blocks.activation, activation),
    field!("layer_norm_eps" => blocks.layer_norm_eps, number),
    field!("attention_dropout" says |_| 0.0.into()),
];
