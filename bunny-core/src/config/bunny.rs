//! Everything a Bunny's `config.json` says, typed.

use std::path::Path;

use crate::{
    config::{ConfigError, DecoderConfig, Family, Fields, ProjectorConfig, VisionConfig},
    input::image::Aspect,
};

/// The sizes and choices that make a Bunny: a vision tower, a projector and a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct BunnyConfig {
    /// The family of the language model.
    pub family: Family,
    /// The language model.
    pub decoder: DecoderConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// What maps the tower's features into the decoder's embedding space.
    pub projector: ProjectorConfig,
    /// The tower's weights as named by `mm_vision_tower`: a hub id or a folder.
    pub vision_tower: String,
    /// How pictures are made square.
    pub image_aspect_ratio: Aspect,
    /// The longest sequence, pictures expanded, that training kept (`tokenizer_model_max_length`).
    pub tokenizer_model_max_length: usize,
    /// The id that ends an answer.
    pub eos_token_id: Option<u32>,
    /// The tower was trained too, so that its weights are those of the checkpoint.
    pub unfreeze_vision_tower: bool,
}

impl BunnyConfig {
    /// Reads a checkpoint's `config.json`, and the tower's own configuration from `tower_folder`
    /// when one is given.
    ///
    /// # Errors
    /// When a file is unreadable, a field is missing or out of range, or the model is of a kind
    /// that is unknown or not supported yet.
    pub fn read(file: impl AsRef<Path>, tower_folder: Option<&Path>) -> Result<Self, ConfigError> {
        let tower = tower_folder.map_or(Ok(None), VisionConfig::fields_in)?;
        Self::from_fields(&Fields::read(file)?, tower.as_ref())
    }

    /// As [`BunnyConfig::read`], from fields already read: the checkpoint's and its tower's own.
    ///
    /// # Errors
    /// As [`BunnyConfig::read`].
    pub fn from_fields(fields: &Fields, tower: Option<&Fields>) -> Result<Self, ConfigError> {
        for feature in ["use_s2", "continuous_training"] {
            if fields.boolean(feature, false)? {
                return Err(ConfigError::NotSupported {
                    file: fields.file().into(),
                    feature: format!("`{feature}`"),
                });
            }
        }
        let family = Family::of(fields)?;
        let decoder = family.decoder_config(fields)?;
        let vision_tower = vision_tower_name(fields)?.to_string();
        let vision = VisionConfig::of(fields, &vision_tower, tower)?;
        let mm_hidden_size = fields.count("mm_hidden_size", vision.hidden_size(), 1 << 16)?;
        if mm_hidden_size != vision.hidden_size() {
            return Err(fields.invalid(
                "mm_hidden_size",
                format!(
                    "is {mm_hidden_size}, but the tower's features have {} channels",
                    vision.hidden_size()
                ),
            ));
        }
        let projector = ProjectorConfig::of(fields, vision.hidden_size(), decoder.hidden_size)?;
        let image_aspect_ratio = match fields.string("image_aspect_ratio")? {
            Some("pad") => Aspect::Pad,
            Some("square") | None => Aspect::Square,
            Some(other) => {
                return Err(fields.invalid(
                    "image_aspect_ratio",
                    format!("is `{other}`, must be `pad` or `square`"),
                ));
            }
        };
        let tokenizer_model_max_length = fields.count(
            "tokenizer_model_max_length",
            decoder.max_position_embeddings,
            1 << 24,
        )?;
        let config = Self {
            family,
            vision,
            projector,
            vision_tower,
            image_aspect_ratio,
            tokenizer_model_max_length,
            eos_token_id: fields.token_id("eos_token_id")?,
            unfreeze_vision_tower: fields.boolean("unfreeze_vision_tower", false)?,
            decoder,
        };
        config.decoder.validate(fields)?;
        Ok(config)
    }
}

/// `mm_vision_tower`, else `vision_tower`: the order in which the reference looks.
pub(crate) fn vision_tower_name(fields: &Fields) -> Result<&str, ConfigError> {
    match fields.string("mm_vision_tower")? {
        Some(name) => Ok(name),
        None => fields
            .string("vision_tower")?
            .ok_or_else(|| fields.invalid("mm_vision_tower", "is missing: name the vision tower")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<BunnyConfig, ConfigError> {
        let mut json = json!({
            "model_type": "bunny-phi",
            "vocab_size": 51200,
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "partial_rotary_factor": 0.4,
            "resid_pdrop": 0.1,
            "mm_vision_tower": "google/siglip-so400m-patch14-384",
            "mm_hidden_size": 1152,
            "image_aspect_ratio": "pad",
        });
        change(&mut json);
        let fields = Fields::parse("config.json", &json.to_string())?;
        BunnyConfig::from_fields(&fields, None)
    }

    #[test]
    fn the_published_fields_make_the_published_model() {
        let config = read(|_| {}).unwrap();
        let published = DecoderConfig {
            vocab_size: 51200,
            ..DecoderConfig::phi_2()
        };
        assert_eq!(config.decoder, published);
        assert_eq!(config.vision.tokens(), 729);
        assert_eq!(config.projector.name(), "mlp2x_gelu");
    }

    #[test]
    fn the_tower_is_told_by_the_last_part_of_its_name() {
        let tower =
            |name: &str| read(|json| json["mm_vision_tower"] = name.into()).map(|c| c.vision);
        // "design" and "evaluation" are folders; the reference takes them for towers.
        let siglip = tower("evaluation/siglip-so400m-patch14-384").unwrap();
        assert_eq!(siglip.tokens(), 729);
        assert!(tower("design/resnet").is_err());
    }

    #[test]
    fn every_field_out_of_range_is_named() {
        for (field, value) in [
            ("model_type", json!("bunny-hare")),
            ("hidden_size", json!(0)),
            ("hidden_size", json!("wide")),
            ("hidden_size", json!(null)),
            ("num_attention_heads", json!(7)),
            ("num_key_value_heads", json!(5)),
            ("partial_rotary_factor", json!(0.0)),
            ("resid_pdrop", json!(1.5)),
            ("hidden_act", json!("relu6")),
            ("mm_hidden_size", json!(1024)),
            ("mm_projector_type", json!("mlp0x_gelu")),
            ("image_aspect_ratio", json!("anyres")),
            ("eos_token_id", json!(-1)),
        ] {
            let error = read(|json| json[field] = value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn what_is_to_come_is_refused_by_name() {
        for (field, value) in [
            ("use_s2", json!(true)),
            ("continuous_training", json!(true)),
            ("model_type", json!("bunny-phi3")),
            ("rope_scaling", json!({"type": "linear"})),
        ] {
            let error = read(|json| json[field] = value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains("not supported yet"), "{error}");
        }
    }

    #[test]
    fn an_unknown_projector_lists_the_known_ones() {
        let error = read(|json| json["mm_projector_type"] = "ldp".into()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("none of linear, mlpNx_gelu, identity")
        );
    }
}
