//! The keys of stage `contrastive`.

use std::path::{Path, PathBuf};

use bunny_core::{ConfigError, Fields, config::SiglipConfig, input::image::Aspect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    PicturePolicy, TrainingArguments,
    keys::{Fault, Keys},
    language::problem_of,
};

/// A vision tower made from nothing: a SigLIP of any size, learnt from pictures and captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContrastiveRecipe {
    /// The vision tower's sizes: the table `[contrastive.vision]`.
    pub vision: VisionSizes,
    /// The text tower's sizes: the table `[contrastive.text]`.
    pub text: TextSizes,
    /// The folder with a tokenizer; by default what stage `language` has made.
    pub tokenizer: Option<PathBuf>,
    /// The folder or archive that records' `image` paths lie in.
    pub image_folder: Option<PathBuf>,
    /// `pad` or `square`; `square` unless given, as SigLIP was trained.
    #[serde(with = "super::named")]
    #[schemars(schema_with = "super::named::aspects")]
    pub image_aspect_ratio: Option<Aspect>,
    /// A record whose picture is missing: `error` stops, `skip` leaves it out and counts it.
    pub missing_pictures: PicturePolicy,
    /// Data, rates and steps.
    #[serde(flatten)]
    pub training: TrainingArguments,
}

/// The sizes of the vision tower, under the names of transformers' `SiglipVisionConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VisionSizes {
    /// Channels of the features, and of both towers' results.
    pub hidden_size: usize,
    /// Channels inside the MLPs.
    pub intermediate_size: usize,
    /// Layers, the last one included, which Bunny leaves out.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Added to the variance in every norm.
    pub layer_norm_eps: f64,
}

/// The sizes of the text tower, under the names of transformers' `SiglipTextConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TextSizes {
    /// Channels.
    pub hidden_size: usize,
    /// Channels inside the MLPs.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Tokens of a caption: longer ones are cut, shorter ones padded.
    pub max_position_embeddings: usize,
}

impl Default for VisionSizes {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            image_size: 112,
            patch_size: 14,
            layer_norm_eps: 1e-6,
        }
    }
}

impl Default for TextSizes {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            max_position_embeddings: 64,
        }
    }
}

impl Default for ContrastiveRecipe {
    fn default() -> Self {
        Self {
            vision: VisionSizes::default(),
            text: TextSizes::default(),
            tokenizer: None,
            image_folder: None,
            image_aspect_ratio: None,
            missing_pictures: PicturePolicy::Error,
            training: TrainingArguments::default(),
        }
    }
}

impl Keys for ContrastiveRecipe {
    fn full() -> Self {
        Self {
            tokenizer: Some("x".into()),
            image_folder: Some("x".into()),
            image_aspect_ratio: Some(Aspect::Square),
            training: TrainingArguments::full(),
            ..Self::default()
        }
    }
}

impl ContrastiveRecipe {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.training.check()?;
        let wrong = |key: &str, problem: String| Err((format!(".{key}"), problem));
        if self.training.per_device_train_batch_size < 2 {
            let problem = "must be at least 2: a pair is told from others of its batch";
            return wrong("per_device_train_batch_size", problem.into());
        }
        if let Err(error) = self.vision.siglip_config() {
            return wrong("vision", problem_of(&error));
        }
        let text = &self.text;
        let sizes = [
            ("hidden_size", text.hidden_size),
            ("intermediate_size", text.intermediate_size),
            ("num_hidden_layers", text.num_hidden_layers),
            ("num_attention_heads", text.num_attention_heads),
            ("max_position_embeddings", text.max_position_embeddings),
        ];
        if let Some((key, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return wrong(&format!("text.{key}"), "must be at least 1".into());
        }
        if !text.hidden_size.is_multiple_of(text.num_attention_heads) {
            return wrong("text.num_attention_heads", "must divide hidden_size".into());
        }
        Ok(())
    }

    /// How pictures are made square.
    pub(crate) fn aspect(&self) -> Aspect {
        self.image_aspect_ratio.unwrap_or(Aspect::Square)
    }
}

impl VisionSizes {
    /// The tower of this size.
    ///
    /// # Errors
    /// When sizes do not fit each other.
    pub fn siglip_config(&self) -> Result<SiglipConfig, ConfigError> {
        let mut json = serde_json::to_value(self).expect("sizes are numbers");
        json["hidden_act"] = json!("gelu_pytorch_tanh");
        let file = Path::new("[contrastive.vision]");
        SiglipConfig::of(&Fields::parse(file, &json.to_string())?)
    }
}

impl TextSizes {
    /// The text tower's layers, in the form of a vision tower's.
    pub(crate) fn layers(&self, layer_norm_eps: f64) -> SiglipConfig {
        SiglipConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            layer_norm_eps,
            ..SiglipConfig::so400m_patch14_384()
        }
    }
}
