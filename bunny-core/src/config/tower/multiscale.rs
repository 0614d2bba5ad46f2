//! A tower that looks at a picture in several sizes: S² (Shi et al., "When Do We Not Need Larger Vision
//! Models?", 2024), as Bunny's v1.1 uses it.

use serde_json::Value;

use super::{SiglipConfig, TowerConfig, VisionConfig};
use crate::{
    config::{ConfigError, Fields},
    input::image::ImageProcessor,
};

/// A SigLIP over pictures of several sizes: `use_s2` and `s2_scales` of a model's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiscaleConfig {
    /// The tower, which reads squares of the smallest size.
    pub tower: SiglipConfig,
    /// Sides of the pictures in pixels, growing; each a multiple of the first.
    pub scales: Vec<usize>,
}

/// What the reference takes where a configuration says nothing.
const SCALES: &str = "384,768,1152";

impl MultiscaleConfig {
    /// SigLIP-SO400M over 384, 768 and 1152 pixels.
    pub fn so400m_1152() -> Self {
        Self {
            tower: SiglipConfig::so400m_patch14_384(),
            scales: vec![384, 768, 1152],
        }
    }

    /// What a model's `config.json` makes of its tower.
    ///
    /// # Errors
    /// When the tower is no SigLIP, or does not go with the sizes of pictures.
    pub fn of(fields: &Fields, tower: VisionConfig) -> Result<Self, ConfigError> {
        let VisionConfig::Siglip(tower) = tower else {
            let problem = format!("is for SigLIP towers, not for {}", tower.kind());
            return Err(fields.invalid("use_s2", problem));
        };
        let said = fields.string("s2_scales")?.unwrap_or(SCALES);
        let invalid = |problem: String| fields.invalid("s2_scales", problem);
        let scales = said.split(',').map(|scale| scale.trim().parse().ok());
        let Some(mut scales): Option<Vec<usize>> = scales.collect() else {
            let problem = format!("is `{said}`, must be sides in pixels, as in `{SCALES}`");
            return Err(invalid(problem));
        };
        scales.sort_unstable();
        let smallest = scales[0];
        if smallest != tower.image_size {
            return Err(invalid(format!(
                "begins at {smallest}, but the tower reads pictures of {}",
                tower.image_size
            )));
        }
        match scales.iter().find(|scale| {
            // Beyond 8 times, a picture takes more passes than a batch of them.
            !scale.is_multiple_of(smallest) || **scale > 8 * smallest
        }) {
            None => Ok(Self { tower, scales }),
            Some(scale) => Err(invalid(format!(
                "has {scale}, which is no multiple of {smallest} up to the eighth"
            ))),
        }
    }

    /// The scales as a configuration says them.
    pub fn said(&self) -> String {
        let scales: Vec<String> = self.scales.iter().map(usize::to_string).collect();
        scales.join(",")
    }
}

impl TowerConfig for MultiscaleConfig {
    fn kind(&self) -> &'static str {
        "siglip_s2"
    }

    fn folder_name(&self) -> &'static str {
        self.tower.folder_name()
    }

    fn to_json(&self) -> Value {
        self.tower.to_json()
    }

    /// The model's own configuration says the scales.
    fn is_published(&self) -> bool {
        self.tower.is_published()
    }

    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::siglip(self.image_size())
    }

    fn unused_tensors(&self) -> Vec<String> {
        self.tower.unused_tensors()
    }

    fn image_size(&self) -> usize {
        self.scales[self.scales.len() - 1]
    }

    fn pass_size(&self) -> usize {
        self.tower.image_size
    }

    fn passes(&self) -> usize {
        let tiles = self.scales.iter().map(|scale| scale / self.scales[0]);
        tiles.map(|side| side * side).sum()
    }

    fn positions(&self) -> usize {
        self.tower.tokens()
    }

    fn patch_size(&self) -> usize {
        self.tower.patch_size
    }

    fn tokens(&self) -> usize {
        self.tower.tokens()
    }

    fn hidden_size(&self) -> usize {
        self.scales.len() * self.tower.hidden_size
    }

    fn width(&self) -> usize {
        self.tower.hidden_size
    }

    fn intermediate_size(&self) -> usize {
        self.tower.intermediate_size
    }

    fn layers_used(&self) -> usize {
        self.tower.layers_used()
    }

    fn num_attention_heads(&self) -> usize {
        self.tower.num_attention_heads
    }
}
