//! What a pair of towers is, which puts pictures and captions into one space of vectors: CLIP, SigLIP.

use std::path::Path;

use serde_json::Map;

use super::{
    ClipConfig, ConfigError, Fields, SiglipConfig,
    table::{self, Field, field},
};
use crate::nn::Activation;

/// Whose pair it is: they differ in what makes one vector of a picture and of a caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PairKind {
    /// `transformers`' `CLIPModel`: OpenAI's, and LAION's, which have another nonlinearity.
    Clip,
    /// `transformers`' `SiglipModel`.
    Siglip,
}

/// The sizes of a pair of towers.
#[derive(Debug, Clone, PartialEq)]
pub struct PairConfig {
    /// Whose it is.
    pub kind: PairKind,
    /// The vision tower. All of its layers take part, the last one too.
    pub vision: SiglipConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Numbers in a vector.
    pub projection_dim: usize,
}

/// The sizes of a text tower (`transformers`' `CLIPTextConfig`, `SiglipTextConfig`).
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Tokens of a caption, at most.
    pub max_position_embeddings: usize,
    /// The token whose place a CLIP reads a caption's vector from. Of 2, which older files say whatever
    /// the tokenizer has, `transformers` takes the largest id in its stead.
    pub eos_token_id: usize,
    /// Its layers, which are those of a vision tower; size of picture and patch say nothing.
    pub layers: SiglipConfig,
}

/// The id of the end of text in files that were written before it counted for anything.
const OLD_EOS: usize = 2;

impl PairConfig {
    /// Reads the `config.json` of a `CLIPModel` or a `SiglipModel`. What a file leaves out has its
    /// default in `transformers`.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or its sizes do not fit each other.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::of(&Fields::read(file)?)
    }

    /// The same of fields that were read already.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let part = |name: &str| -> Result<Fields, ConfigError> {
            let object = fields.object(name)?;
            Ok(object.unwrap_or_else(|| Fields::of(fields.file(), Map::new())))
        };
        let (vision, text) = (part("vision_config")?, part("text_config")?);
        let config = match fields.string("model_type")? {
            Some("clip") => Self {
                kind: PairKind::Clip,
                vision: ClipConfig::of(&vision)?.blocks,
                text: TextConfig::of(&text, TextConfig::clip_vit_b_32())?,
                projection_dim: fields.count("projection_dim", 512, 1 << 16)?,
            },
            Some("siglip") => {
                if !vision.boolean("vision_use_head", true)? {
                    return Err(vision.invalid("vision_use_head", "must be true"));
                }
                let vision = SiglipConfig::of(&vision)?;
                let text_config = TextConfig::of(&text, TextConfig::siglip_base())?;
                let hidden = text_config.layers.hidden_size;
                let projection_dim = text.count("projection_size", hidden, 1 << 16)?;
                if projection_dim != vision.hidden_size {
                    let problem = "must be the vision tower's hidden_size";
                    return Err(text.invalid("projection_size", problem));
                }
                Self {
                    kind: PairKind::Siglip,
                    vision,
                    text: text_config,
                    projection_dim,
                }
            }
            _ => {
                let problem =
                    "must be clip or siglip: of a model that has a tower for captions, too";
                return Err(fields.invalid("model_type", problem));
            }
        };
        Ok(config)
    }
}

impl TextConfig {
    /// `openai/clip-vit-base-patch32`'s, whose sizes are the defaults of `transformers`.
    fn clip_vit_b_32() -> Self {
        Self {
            vocab_size: 49_408,
            max_position_embeddings: 77,
            eos_token_id: 49_407,
            layers: SiglipConfig {
                hidden_size: 512,
                intermediate_size: 2048,
                num_hidden_layers: 12,
                num_attention_heads: 8,
                ..ClipConfig::vit_l_14_336().blocks
            },
        }
    }

    /// `google/siglip-base-patch16-224`'s, whose sizes are the defaults of `transformers`.
    fn siglip_base() -> Self {
        Self {
            vocab_size: 32_000,
            max_position_embeddings: 64,
            eos_token_id: 49_407,
            layers: SiglipConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                ..SiglipConfig::so400m_patch14_384()
            },
        }
    }

    fn of(fields: &Fields, mut config: Self) -> Result<Self, ConfigError> {
        table::read(FIELDS, fields, &mut config)?;
        let layers = &config.layers;
        if !layers
            .hidden_size
            .is_multiple_of(layers.num_attention_heads)
        {
            return Err(fields.invalid("num_attention_heads", "must divide hidden_size"));
        }
        Ok(config)
    }

    /// How many of a caption's ids a CLIP reads: up to its first end of text, that one included. Behind
    /// it nothing counts, since no place sees those after it.
    pub fn read_of(&self, ids: &[i32]) -> usize {
        let end = match self.eos_token_id {
            OLD_EOS => ids.iter().copied().max(),
            id => i32::try_from(id).ok(),
        };
        let place = end.and_then(|end| ids.iter().position(|id| *id == end));
        place.map_or(ids.len(), |place| place + 1)
    }
}

static FIELDS: &[Field<TextConfig>] = &[
    field!("vocab_size" => vocab_size, count up to 1 << 24),
    field!("max_position_embeddings" => max_position_embeddings, count up to 1 << 16),
    field!("eos_token_id" => eos_token_id, count up to 1 << 24),
    field!("hidden_size" => layers.hidden_size, count up to 1 << 20),
    field!("intermediate_size" => layers.intermediate_size, count up to 1 << 20),
    field!("num_hidden_layers" => layers.num_hidden_layers, count up to 1024),
    field!("num_attention_heads" => layers.num_attention_heads, count up to 1 << 20),
    field!("layer_norm_eps" => layers.layer_norm_eps, number),
    Field {
        name: "hidden_act",
        read: Some(|fields, config| {
            let before: Activation = config.layers.activation;
            config.layers.activation = fields.activation("hidden_act", before)?;
            Ok(())
        }),
        write: |config| config.layers.activation.name().into(),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PairConfig, ConfigError> {
        PairConfig::of(&Fields::parse("config.json", json)?)
    }

    /// The fields that `openai/clip-vit-large-patch14` and `laion/CLIP-ViT-H-14-laion2B-s32B-b79K` say.
    #[test]
    fn published_files_say_what_differs_from_b_32() {
        let large = read(
            r#"{"model_type": "clip", "projection_dim": 768,
                "text_config": {"hidden_size": 768, "intermediate_size": 3072,
                                "num_attention_heads": 12, "eos_token_id": 2},
                "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14,
                                  "num_attention_heads": 16, "num_hidden_layers": 24}}"#,
        )
        .unwrap();
        assert_eq!((large.kind, large.projection_dim), (PairKind::Clip, 768));
        assert_eq!(large.vision.tokens(), 256);
        assert_eq!(large.text.layers.activation, Activation::QuickGelu);
        assert_eq!(large.text.max_position_embeddings, 77);
        // Of an end that older files do not know, the largest id stands.
        assert_eq!(large.text.read_of(&[49406, 5, 49407, 49407, 7]), 3);

        let huge = read(
            r#"{"model_type": "clip", "projection_dim": 1024,
                "text_config": {"hidden_act": "gelu", "eos_token_id": 9},
                "vision_config": {"hidden_act": "gelu"}}"#,
        )
        .unwrap();
        assert_eq!(huge.vision.activation, Activation::Gelu);
        assert_eq!(huge.text.layers.activation, Activation::Gelu);
        assert_eq!(huge.text.read_of(&[1, 30, 9, 30]), 3);
    }

    #[test]
    fn what_is_no_pair_is_refused_by_name() {
        for (json, field) in [
            (r#"{"model_type": "phi"}"#, "model_type"),
            (r#"{}"#, "model_type"),
            (
                r#"{"model_type": "siglip", "vision_config": {"hidden_size": 384}}"#,
                "projection_size",
            ),
            (
                r#"{"model_type": "clip", "text_config": {"num_attention_heads": 7}}"#,
                "num_attention_heads",
            ),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
