//! The sizes of an EVA02-CLIP tower.

use crate::config::{ConfigError, Fields};

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
        let published = Self::eva02_l_14_336();
        let cfg = fields
            .object("vision_cfg")?
            .ok_or_else(|| fields.invalid("vision_cfg", "is missing"))?;
        for needed in ["rope", "naiveswiglu", "subln"] {
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
        let size = |field, default| cfg.count(field, default, 1 << 20);
        let width = size("width", published.width)?;
        let image_size = size("image_size", published.image_size)?;
        let patch_size = size("patch_size", published.patch_size)?;
        let grid = image_size / patch_size;
        let config = Self {
            width,
            layers: cfg.count("layers", published.layers, 1024)?,
            head_width: size("head_width", published.head_width)?,
            intermediate_size: (cfg.number("mlp_ratio", 2.6667)? * width as f64) as usize,
            image_size,
            patch_size,
            rope_grid: if cfg.boolean("intp_freq", true)? {
                size("pt_hw_seq_len", published.rope_grid)?
            } else {
                grid
            },
        };
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
