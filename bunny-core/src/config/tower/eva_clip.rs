//! The sizes of an EVA02-CLIP tower.

use serde_json::{Map, Value, json};

use super::TowerConfig;
use crate::{
    config::{
        ConfigError, Fields, MlpKind,
        table::{self, Field, field},
    },
    input::image::ImageProcessor,
};

/// The sizes of an EVA-CLIP tower (`vision_cfg` of EVA-CLIP's model configurations).
#[derive(Debug, Clone, PartialEq)]
pub struct EvaClipConfig {
    /// Channels of the features.
    pub width: usize,
    /// Blocks of the whole tower, the last one included.
    pub layers: usize,
    /// Channels of a head.
    pub head_width: usize,
    /// Channels inside the MLPs.
    pub intermediate_size: usize,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Side of the grid, in patches, whose positions the rotary angles are stretched over.
    pub rope_grid: usize,
}

impl EvaClipConfig {
    /// `EVA02_CLIP_L_336_psz14_s6B`.
    pub fn eva02_l_14_336() -> Self {
        Self {
            width: 1024,
            layers: 24,
            head_width: 64,
            intermediate_size: 2730,
            image_size: 336,
            patch_size: 14,
            rope_grid: 16,
        }
    }

    /// Reads a model configuration in EVA-CLIP's own form.
    pub(super) fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let cfg = fields
            .object("vision_cfg")?
            .ok_or_else(|| fields.invalid("vision_cfg", "is missing"))?;
        for needed in NEEDED {
            if !cfg.boolean(needed, true)? {
                return Err(ConfigError::NotSupported {
                    file: cfg.file().into(),
                    feature: format!("an EVA-CLIP tower without `{needed}`"),
                });
            }
        }
        if cfg.boolean("postnorm", false)? {
            return Err(ConfigError::NotSupported {
                file: cfg.file().into(),
                feature: "an EVA-CLIP tower with `postnorm`".into(),
            });
        }
        cfg.refuse_unknown_switches(|field| {
            WITHOUT_EFFECT.contains(&field) || FIELDS.iter().any(|own| own.name == field)
        })?;
        let mut config = Self::eva02_l_14_336();
        table::read(FIELDS, &cfg, &mut config)?;
        if config.patch_size > config.image_size {
            return Err(cfg.invalid("patch_size", "must not exceed image_size"));
        }
        if config.layers < 2 {
            return Err(cfg.invalid("layers", "must be at least 2: the last one is skipped"));
        }
        if !config.width.is_multiple_of(config.head_width) || !config.head_width.is_multiple_of(4) {
            return Err(cfg.invalid("head_width", "must divide width and be a multiple of 4"));
        }
        Ok(config)
    }

    /// Patches along one side.
    pub(crate) fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches of a picture, which is also the number of features.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// The blocks that take part.
    pub fn layers_used(&self) -> usize {
        self.layers - 1
    }
}

impl TowerConfig for EvaClipConfig {
    fn kind(&self) -> &'static str {
        "eva_clip"
    }

    fn folder_name(&self) -> &'static str {
        "eva-clip-tower"
    }

    fn to_json(&self) -> Value {
        let mut cfg = Map::new();
        table::write(FIELDS, self, None, &mut cfg);
        json!({ "vision_cfg": cfg })
    }

    fn is_published(&self) -> bool {
        *self == Self::eva02_l_14_336()
    }

    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::eva_clip(self.image_size)
    }

    fn unused_tensors(&self) -> Vec<String> {
        vec![
            format!("model.blocks.{}.", self.layers_used()),
            "model.norm.".into(),
            "model.head.".into(),
            "model.rope.".into(),
        ]
    }

    /// Rotary tables, which all blocks share and each is saved with.
    fn computed_tensors(&self) -> Vec<String> {
        (0..self.layers)
            .map(|block| format!("model.blocks.{block}.attn.rope.freqs_"))
            .chain(["model.rope.freqs_".into()])
            .collect()
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    /// The class token goes along through the blocks.
    fn positions(&self) -> usize {
        self.tokens() + 1
    }

    fn patch_size(&self) -> usize {
        self.patch_size
    }

    fn tokens(&self) -> usize {
        self.tokens()
    }

    fn hidden_size(&self) -> usize {
        self.width
    }

    fn intermediate_size(&self) -> usize {
        self.intermediate_size
    }

    fn layers_used(&self) -> usize {
        self.layers_used()
    }

    fn num_attention_heads(&self) -> usize {
        self.width / self.head_width
    }

    fn mlp(&self) -> MlpKind {
        MlpKind::Gated
    }
}

/// What every tower of this kind has.
const NEEDED: [&str; 3] = ["rope", "naiveswiglu", "subln"];

/// Which implementation computes the same.
const WITHOUT_EFFECT: [&str; 2] = ["xattn", "fusedLN"];

static FIELDS: &[Field<EvaClipConfig>] = &[
    field!("image_size" => image_size, count up to 1 << 20),
    field!("layers" => layers, count up to 1024),
    field!("width" => width, count up to 1 << 20),
    field!("head_width" => head_width, count up to 1 << 20),
    Field {
        name: "mlp_ratio",
        read: Some(|cfg, config| {
            let ratio = cfg.number("mlp_ratio", 2.6667)?;
            config.intermediate_size = (ratio * config.width as f64) as usize;
            Ok(())
        }),
        write: |config| (config.intermediate_size as f64 / config.width as f64).into(),
    },
    field!("patch_size" => patch_size, count up to 1 << 20),
    field!("rope" says |_| true.into()),
    Field {
        name: "pt_hw_seq_len",
        read: Some(|cfg, config| {
            config.rope_grid = match cfg.boolean("intp_freq", true)? {
                true => cfg.count("pt_hw_seq_len", config.rope_grid, 1 << 20)?,
                false => config.grid(),
            };
            Ok(())
        }),
        write: |config| config.rope_grid.into(),
    },
    field!("intp_freq" says |_| true.into()),
    field!("naiveswiglu" says |_| true.into()),
    field!("subln" says |_| true.into()),
];
