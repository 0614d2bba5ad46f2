//! Which tower a checkpoint has, and how large.

use std::{fmt::Debug, ops::Deref, path::Path};

mod clip;
mod eva_clip;
mod multiscale;
mod siglip;

pub use clip::ClipConfig;
pub use eva_clip::EvaClipConfig;
pub use multiscale::MultiscaleConfig;
pub use siglip::SiglipConfig;

use serde_json::Value;

use super::{ConfigError, Fields, MlpKind};
use crate::input::image::ImageProcessor;

/// The sizes of a vision tower. What towers of all kinds have in common is said by
/// [`TowerConfig`], which this one dereferences to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum VisionConfig {
    /// SigLIP.
    Siglip(SiglipConfig),
    /// EVA02-CLIP.
    EvaClip(EvaClipConfig),
    /// OpenAI's CLIP.
    Clip(ClipConfig),
    /// SigLIP over pictures of several sizes (S²).
    Multiscale(MultiscaleConfig),
}

/// What there is to know of a vision tower, whatever its kind.
pub trait TowerConfig: Debug {
    /// What the kind of tower is called.
    fn kind(&self) -> &'static str;

    /// What a tower's folder beside a model is called.
    fn folder_name(&self) -> &'static str;

    /// The `config.json` of the tower's own folder, so that a saved model says its tower's sizes.
    fn to_json(&self) -> Value;

    /// Whether these are the sizes that a tower's name alone stands for.
    fn is_published(&self) -> bool;

    /// How pictures are prepared for such a tower.
    fn image_processor(&self) -> ImageProcessor;

    /// How the names of tensors start that a whole tower holds and Bunny never reads.
    fn unused_tensors(&self) -> Vec<String>;

    /// How the names of tensors start that a tower's files hold and that follow from its sizes.
    fn computed_tensors(&self) -> Vec<String> {
        Vec::new()
    }

    /// Side of the square picture that is prepared for it, in pixels.
    fn image_size(&self) -> usize;

    /// Side of the square that one pass reads, in pixels.
    fn pass_size(&self) -> usize {
        self.image_size()
    }

    /// Passes over one picture.
    fn passes(&self) -> usize {
        1
    }

    /// Positions of one pass: patches and, where there is one, the class token.
    fn positions(&self) -> usize;

    /// Side of a patch, in pixels.
    fn patch_size(&self) -> usize;

    /// Features of a picture: how many positions it takes in the decoder.
    fn tokens(&self) -> usize;

    /// Channels of the features.
    fn hidden_size(&self) -> usize;

    /// Channels within the layers.
    fn width(&self) -> usize {
        self.hidden_size()
    }

    /// Channels inside the MLPs.
    fn intermediate_size(&self) -> usize;

    /// The layers that take part.
    fn layers_used(&self) -> usize;

    /// Heads of a layer's attention.
    fn num_attention_heads(&self) -> usize;

    /// The shape of a layer's MLP.
    fn mlp(&self) -> MlpKind {
        MlpKind::Plain
    }
}

impl Deref for VisionConfig {
    type Target = dyn TowerConfig;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Siglip(config) => config,
            Self::EvaClip(config) => config,
            Self::Clip(config) => config,
            Self::Multiscale(config) => config,
        }
    }
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
        let tower = match tower {
            Some(tower) => Self::from_fields(tower)?,
            // A model may say its tower's sizes itself.
            None => match fields.object("vision_config")? {
                Some(tower) => Self::from_fields(&tower)?,
                None => Self::by_name(fields, name)?,
            },
        };
        match fields.boolean("use_s2", false)? {
            true => Ok(Self::Multiscale(MultiscaleConfig::of(fields, tower)?)),
            false => Ok(tower),
        }
    }

    /// The published tower called `name`.
    fn by_name(fields: &Fields, name: &str) -> Result<Self, ConfigError> {
        let last = name
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(name);
        let last = last.to_lowercase();
        if last.contains("siglip") && !last.contains("so400m") {
            // Of what size it is, its own folder alone could say.
            Err(fields.invalid(
                "mm_vision_tower",
                format!("names the tower `{name}`, which is not there: give its folder"),
            ))
        } else if last.contains("siglip") {
            Ok(Self::Siglip(SiglipConfig::so400m_patch14_384()))
        } else if last.contains("eva") {
            Ok(Self::EvaClip(EvaClipConfig::eva02_l_14_336()))
        } else if last == "clip-vit-large-patch14-336" {
            Ok(Self::Clip(ClipConfig::vit_l_14_336()))
        } else {
            Err(fields.invalid(
                "mm_vision_tower",
                format!(
                    "names `{name}`, which is neither a folder with a config.json nor a SigLIP, \
                     EVA-CLIP or clip-vit-large-patch14-336 tower"
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
        bunny_base::files::exists(&file)
            .then(|| Fields::read(file))
            .transpose()
    }

    /// The sizes that a tower's own `config.json` gives.
    pub(crate) fn from_fields(fields: &Fields) -> Result<Self, ConfigError> {
        // The configuration of a whole pair has the tower's inside.
        let inside = || {
            let vision = fields.object("vision_config")?;
            vision.ok_or_else(|| fields.invalid("vision_config", "is missing"))
        };
        match fields.string("model_type")? {
            Some("siglip_vision_model") => Ok(Self::Siglip(SiglipConfig::of(fields)?)),
            Some("siglip") => Ok(Self::Siglip(SiglipConfig::of(&inside()?)?)),
            Some("clip_vision_model") => Ok(Self::Clip(ClipConfig::of(fields)?)),
            Some("clip") => Ok(Self::Clip(ClipConfig::of(&inside()?)?)),
            None if fields.get("vision_cfg").is_some() => {
                Ok(Self::EvaClip(EvaClipConfig::of(fields)?))
            }
            other => Err(fields.invalid(
                "model_type",
                format!(
                    "is {}: a tower has `siglip_vision_model`, `siglip`, `clip_vision_model`, `clip` \
                     or EVA-CLIP's `vision_cfg`",
                    other.map_or("missing".into(), |name| format!("`{name}`"))
                ),
            )),
        }
    }

    /// [`TowerConfig::unused_tensors`] with `tower` in front of all of them.
    pub(crate) fn unused(&self, tower: &str) -> Vec<String> {
        below(tower, self.unused_tensors())
    }

    /// [`TowerConfig::computed_tensors`] with `tower` in front of all of them.
    pub(crate) fn computed(&self, tower: &str) -> Vec<String> {
        below(tower, self.computed_tensors())
    }
}

fn below(tower: &str, names: Vec<String>) -> Vec<String> {
    let names = names.into_iter();
    names.map(|name| format!("{tower}{name}")).collect()
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
