//! Which tower a checkpoint has, and how large.

use std::path::Path;

mod eva_clip;
mod siglip;

pub use eva_clip::EvaClipConfig;
pub use siglip::SiglipConfig;

use super::{ConfigError, Fields};

/// The sizes of a vision tower.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionConfig {
    /// SigLIP.
    Siglip(SiglipConfig),
    /// EVA02-CLIP.
    EvaClip(EvaClipConfig),
}

impl VisionConfig {
    /// The tower called `name`: from its own configuration when there is one, else with the
    /// published sizes.
    ///
    /// Its own configuration says which kind of tower it is. Without one the last part of the name
    /// does (never the folders above it, which the reference also searches).
    pub(crate) fn of(
        fields: &Fields,
        name: &str,
        tower: Option<&Fields>,
    ) -> Result<Self, ConfigError> {
        if let Some(tower) = tower {
            return Self::from_fields(tower);
        }
        let last = name
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(name);
        let last = last.to_lowercase();
        if last.contains("siglip") {
            Ok(Self::Siglip(SiglipConfig::so400m_patch14_384()))
        } else if last.contains("eva") {
            Ok(Self::EvaClip(EvaClipConfig::eva02_l_14_336()))
        } else {
            Err(fields.invalid(
                "mm_vision_tower",
                format!(
                    "names `{name}`, which is neither a folder with a config.json nor a SigLIP or \
                     EVA-CLIP tower"
                ),
            ))
        }
    }

    /// Reads a tower's own `config.json`.
    ///
    /// # Errors
    /// When it is unreadable, of an unknown kind, or has sizes out of range.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_fields(&Fields::read(file)?)
    }

    /// What a tower's folder says of it, if it says anything.
    pub(crate) fn fields_in(folder: &Path) -> Result<Option<Fields>, ConfigError> {
        let file = folder.join("config.json");
        file.exists().then(|| Fields::read(file)).transpose()
    }

    fn from_fields(fields: &Fields) -> Result<Self, ConfigError> {
        match fields.string("model_type")? {
            Some("siglip_vision_model") => Ok(Self::Siglip(SiglipConfig::of(fields)?)),
            // The configuration of a whole SigLIP has the tower's inside.
            Some("siglip") => match fields.object("vision_config")? {
                Some(vision) => Ok(Self::Siglip(SiglipConfig::of(&vision)?)),
                None => Err(fields.invalid("vision_config", "is missing")),
            },
            None if fields.get("vision_cfg").is_some() => {
                Ok(Self::EvaClip(EvaClipConfig::of(fields)?))
            }
            other => Err(fields.invalid(
                "model_type",
                format!(
                    "is {}: a tower has `siglip_vision_model`, `siglip` or EVA-CLIP's `vision_cfg`",
                    other.map_or("missing".into(), |name| format!("`{name}`"))
                ),
            )),
        }
    }

    /// How the names of tensors start that a whole tower holds and Bunny never reads, `tower` being
    /// in front of all of the tower's.
    pub(crate) fn unused(&self, tower: &str) -> Vec<String> {
        let starts: Vec<String> = match self {
            Self::Siglip(config) => vec![
                format!("vision_model.encoder.layers.{}.", config.layers_used()),
                "vision_model.head.".into(),
                "vision_model.embeddings.position_ids".into(),
            ],
            Self::EvaClip(config) => vec![
                format!("model.blocks.{}.", config.layers_used()),
                "model.norm.".into(),
                "model.head.".into(),
                "model.rope.".into(),
            ],
        };
        starts
            .into_iter()
            .map(|start| format!("{tower}{start}"))
            .collect()
    }

    /// How the names of tensors start that a tower's files hold and that follow from its sizes,
    /// `tower` being in front of all of the tower's.
    pub(crate) fn computed(&self, tower: &str) -> Vec<String> {
        match self {
            Self::Siglip(_) => Vec::new(),
            // Rotary tables, which all blocks share and each is saved with.
            Self::EvaClip(config) => (0..config.layers)
                .map(|block| format!("{tower}model.blocks.{block}.attn.rope.freqs_"))
                .chain([format!("{tower}model.rope.freqs_")])
                .collect(),
        }
    }

    /// Whether these are the sizes that a tower's name alone stands for.
    pub(crate) fn is_published(&self) -> bool {
        match self {
            Self::Siglip(config) => *config == SiglipConfig::so400m_patch14_384(),
            Self::EvaClip(config) => *config == EvaClipConfig::eva02_l_14_336(),
        }
    }

    /// What a tower's folder beside a model is called.
    pub(crate) fn folder_name(&self) -> &'static str {
        match self {
            Self::Siglip(_) => "siglip-tower",
            Self::EvaClip(_) => "eva-clip-tower",
        }
    }

    /// Channels of the features.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Siglip(config) => config.hidden_size,
            Self::EvaClip(config) => config.width,
        }
    }

    /// Side of the square picture, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Siglip(config) => config.image_size,
            Self::EvaClip(config) => config.image_size,
        }
    }

    /// Features of a picture: how many positions it takes in the decoder.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Siglip(config) => config.tokens(),
            Self::EvaClip(config) => config.tokens(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Activation;

    #[test]
    fn what_a_siglip_does_not_say_is_the_default_of_transformers() {
        // All that google/siglip-base-patch16-224 says of its vision tower.
        let said = r#"{"model_type": "siglip", "vision_config":
            {"model_type": "siglip_vision_model", "patch_size": 16}}"#;
        let fields = Fields::parse("config.json", said).unwrap();
        let VisionConfig::Siglip(tower) = VisionConfig::from_fields(&fields).unwrap() else {
            panic!("a SigLIP")
        };
        let expected = SiglipConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            layer_norm_eps: 1e-6,
            activation: Activation::GeluTanh,
        };
        assert_eq!(tower, expected);
    }

    #[test]
    fn the_tower_of_the_published_models_says_its_sizes() {
        // As google/siglip-so400m-patch14-384 has them.
        let said = r#"{"model_type": "siglip", "vision_config":
            {"hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
             "model_type": "siglip_vision_model", "num_attention_heads": 16,
             "num_hidden_layers": 27, "patch_size": 14}}"#;
        let fields = Fields::parse("config.json", said).unwrap();
        assert!(VisionConfig::from_fields(&fields).unwrap().is_published());
    }
}
