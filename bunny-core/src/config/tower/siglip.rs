//! The sizes of a SigLIP tower.

use serde_json::{Map, Value, json};

use super::TowerConfig;
use crate::{
    config::{
        ConfigError, Fields,
        table::{self, Field, field},
    },
    input::image::ImageProcessor,
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
        let mut config = Self::base_patch16_224();
        table::read(FIELDS, fields, &mut config)?;
        config.check(fields)?;
        Ok(config)
    }

    /// Checks what the sizes demand of each other; `fields` is named in errors.
    pub(super) fn check(&self, fields: &Fields) -> Result<(), ConfigError> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(fields.invalid("num_attention_heads", "must divide hidden_size"));
        }
        if self.patch_size > self.image_size {
            return Err(fields.invalid("patch_size", "must not exceed image_size"));
        }
        if self.num_hidden_layers < 2 {
            return Err(fields.invalid(
                "num_hidden_layers",
                "must be at least 2: features come from the last layer but one",
            ));
        }
        Ok(())
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

impl TowerConfig for SiglipConfig {
    fn kind(&self) -> &'static str {
        "siglip"
    }

    fn folder_name(&self) -> &'static str {
        "siglip-tower"
    }

    fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("model_type".into(), "siglip_vision_model".into());
        json.insert("architectures".into(), json!(["SiglipVisionModel"]));
        table::write(FIELDS, self, None, &mut json);
        json.into()
    }

    fn is_published(&self) -> bool {
        *self == Self::so400m_patch14_384()
    }

    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::siglip(self.image_size)
    }

    fn unused_tensors(&self) -> Vec<String> {
        vec![
            format!("vision_model.encoder.layers.{}.", self.layers_used()),
            "vision_model.head.".into(),
            "vision_model.embeddings.position_ids".into(),
        ]
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn positions(&self) -> usize {
        self.tokens()
    }

    fn patch_size(&self) -> usize {
        self.patch_size
    }

    fn tokens(&self) -> usize {
        self.tokens()
    }

    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn intermediate_size(&self) -> usize {
        self.intermediate_size
    }

    fn layers_used(&self) -> usize {
        self.layers_used()
    }

    fn num_attention_heads(&self) -> usize {
        self.num_attention_heads
    }
}

static FIELDS: &[Field<SiglipConfig>] = &[
    field!("hidden_size" => hidden_size, count up to 1 << 20),
    field!("intermediate_size" => intermediate_size, count up to 1 << 20),
    field!("num_hidden_layers" => num_hidden_layers, count up to 1024),
    field!("num_attention_heads" => num_attention_heads, count up to 1 << 20),
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
    field!("image_size" => image_size, count up to 1 << 20),
    field!("patch_size" => patch_size, count up to 1 << 20),
    Field {
        name: "hidden_act",
        read: Some(|fields, config| {
            config.activation = fields.activation("hidden_act", config.activation)?;
            Ok(())
        }),
        write: |config| match config.activation {
            // As `transformers` calls it in towers.
            Activation::GeluTanh => "gelu_pytorch_tanh".into(),
            other => other.name().into(),
        },
    },
    field!("layer_norm_eps" => layer_norm_eps, number),
    field!("attention_dropout" says |_| 0.0.into()),
];
