//! Everything a Bunny's `config.json` says, typed.

use std::path::Path;

use bunny_weights::StoredDtype;
use serde_json::{Map, Value, json};

use crate::{
    config::{
        ConfigError, DecoderConfig, Family, Fields, ProjectorConfig, VisionConfig,
        table::{self, Field, field},
    },
    input::image::Aspect,
};

/// The fields of a `config.json` that say where the parts lie, seen from its folder, that its names stand
/// for: the language model that an adapter or a projector belongs to, and the vision tower.
pub const PART_PATHS: [&str; 2] = ["bunny_base_path", "bunny_vision_tower_path"];

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
    /// The ids that end an answer, the usual one first.
    pub eos_token_ids: Vec<u32>,
    /// The id that a text begins with, where the configuration names one.
    pub bos_token_id: Option<u32>,
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
        let family = Family::of(fields)?;
        let decoder = family.decoder_config(fields)?;
        let vision_tower = vision_tower_name(fields)?.to_string();
        let vision = VisionConfig::of(fields, &vision_tower, tower)?;
        let mut config = Self {
            family,
            projector: ProjectorConfig::mlp2x_gelu(vision.hidden_size(), decoder.hidden_size),
            vision,
            vision_tower,
            image_aspect_ratio: Aspect::Square,
            tokenizer_model_max_length: decoder.max_position_embeddings,
            eos_token_ids: Vec::new(),
            bos_token_id: None,
            unfreeze_vision_tower: false,
            decoder,
        };
        table::read(FIELDS, fields, &mut config)?;
        config.decoder.validate(fields)?;
        Ok(config)
    }

    /// The model's `config.json`, its weights being stored as `dtype`, with every field that the
    /// reference reads. With `said`, the file as it was: what it says beside stays there, and so does
    /// what it says of a setting in other words.
    pub fn to_json(&self, dtype: StoredDtype, said: Option<&Map<String, Value>>) -> Value {
        let fields = said.map(|said| Fields::of("config.json", said.clone()));
        let said = fields.as_ref();
        let mut json = said.map(Fields::values).cloned().unwrap_or_default();
        // Of a whole model no part lies elsewhere.
        for field in PART_PATHS {
            json.remove(field);
        }
        // Its tower says its sizes in a folder of its own.
        json.shift_remove("vision_config");
        json.insert("model_type".into(), self.family.model_type().into());
        json.insert("architectures".into(), json!([self.family.architecture()]));
        self.family.write(&self.decoder, said, &mut json, |json| {
            table::write(FIELDS, self, said, json);
            if let VisionConfig::Multiscale(tower) = &self.vision {
                json.insert("use_s2".into(), true.into());
                json.insert("s2_scales".into(), tower.said().into());
            }
            // Said of the model that training went on from, once.
            if let Some(said) = json.get_mut("continuous_training") {
                *said = false.into();
            }
            json.insert("torch_dtype".into(), dtype.torch_name().into());
            // What transformers 5 calls it: both say the same.
            if let Some(said) = json.get_mut("dtype") {
                *said = dtype.torch_name().into();
            }
            json.insert("use_cache".into(), true.into());
        });
        json.into()
    }

    /// The model's `generation_config.json`.
    pub fn generation_json(&self) -> Value {
        json!({
            "eos_token_id": self.eos_json(),
            "pad_token_id": self.eos_token_id(),
        })
    }

    /// The id that usually ends an answer.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.eos_token_ids.first().copied()
    }

    /// One id, or the list of all.
    fn eos_json(&self) -> Value {
        match self.eos_token_ids[..] {
            [] => Value::Null,
            [id] => id.into(),
            ref ids => json!(ids),
        }
    }
}

/// What a Bunny's `config.json` says beside its language model's.
static FIELDS: &[Field<BunnyConfig>] = &[
    Field {
        name: "eos_token_id",
        read: Some(|fields, config| {
            config.eos_token_ids = fields.token_ids("eos_token_id")?;
            Ok(())
        }),
        write: |config| config.eos_json(),
    },
    Field {
        name: "bos_token_id",
        read: Some(|fields, config| {
            config.bos_token_id = fields.token_id("bos_token_id")?;
            Ok(())
        }),
        // A tokenizer without one begins where it ends.
        write: |config| config.bos_token_id.or(config.eos_token_id()).into(),
    },
    field!("mm_vision_tower" says |config| config.vision_tower.as_str().into()),
    Field {
        name: "mm_hidden_size",
        read: Some(|fields, config| {
            let channels = config.vision.hidden_size();
            match fields.count("mm_hidden_size", channels, 1 << 16)? {
                said if said == channels => Ok(()),
                said => Err(fields.invalid(
                    "mm_hidden_size",
                    format!("is {said}, but the tower's features have {channels} channels"),
                )),
            }
        }),
        write: |config| config.vision.hidden_size().into(),
    },
    Field {
        name: "mm_projector_type",
        read: Some(|fields, config| {
            let (input, output) = (config.vision.hidden_size(), config.decoder.hidden_size);
            config.projector = ProjectorConfig::of(fields, input, output)?;
            Ok(())
        }),
        write: |config| config.projector.name().into(),
    },
    field!("use_mm_proj" says |_| true.into()),
    Field {
        name: "image_aspect_ratio",
        read: Some(|fields, config| {
            config.image_aspect_ratio = match fields.string("image_aspect_ratio")? {
                Some("pad") => Aspect::Pad,
                Some("square") | None => Aspect::Square,
                Some(other) => {
                    return Err(fields.invalid(
                        "image_aspect_ratio",
                        format!("is `{other}`, must be `pad` or `square`"),
                    ));
                }
            };
            Ok(())
        }),
        write: |config| config.image_aspect_ratio.name().into(),
    },
    field!(
        "tokenizer_model_max_length" => tokenizer_model_max_length,
        count up to 1 << 24
    ),
    field!("tokenizer_padding_side" says |_| "right".into()),
    field!("unfreeze_vision_tower" => unfreeze_vision_tower, flag),
];

/// `mm_vision_tower`, else `vision_tower`: the order in which the reference looks.
pub(crate) fn vision_tower_name(fields: &Fields) -> Result<&str, ConfigError> {
    if let Some(name) = fields.string("mm_vision_tower")? {
        return Ok(name);
    }
    if let Some(name) = fields.string("vision_tower")? {
        return Ok(name);
    }
    let family = Family::of(fields)?;
    let is_bunny = fields
        .string("model_type")?
        .is_some_and(|kind| kind.starts_with("bunny-"));
    let problem = match is_bunny {
        true => "is missing: name the vision tower".into(),
        false => format!(
            "is missing: this is a language model alone (`{}`), which sees no pictures; a recipe \
             whose model_name_or_path it is makes a Bunny of it",
            family.base_type()
        ),
    };
    Err(fields.invalid("mm_vision_tower", problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::presets::PRESETS;

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
            ("use_s2", json!("yes")),
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
            ("eos_token_id", json!([50256, "end"])),
            ("rope_theta", json!(0.0)),
            ("layer_norm_eps", json!(-1e-5)),
        ] {
            let error = read(|json| json[field] = value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn what_is_no_bunny_is_told_by_what_it_is() {
        let said = |json: Value| {
            let fields = Fields::parse("config.json", &json.to_string()).unwrap();
            vision_tower_name(&fields).unwrap_err().to_string()
        };
        let alone = said(json!({"model_type": "llama"}));
        assert!(alone.contains("language model alone (`llama`)"), "{alone}");
        assert!(alone.contains("model_name_or_path"), "{alone}");
        let bunny = said(json!({"model_type": "bunny-phi"}));
        assert!(bunny.contains("name the vision tower"), "{bunny}");
        for json in [json!({"model_type": "qwen2_vl"}), json!({})] {
            let unknown = said(json);
            assert!(unknown.contains("`model_type`"), "{unknown}");
            for known in ["phi3", "stablelm", "qwen2", "minicpm", "llama", "llava"] {
                assert!(unknown.contains(known), "{known}: {unknown}");
            }
        }
    }

    #[test]
    fn what_is_to_come_is_refused_by_name() {
        for (field, value) in [
            ("rope_scaling", json!({"type": "linear"})),
            ("rope_scaling", json!({"rope_type": "yarn"})),
            ("quantization_config", json!({"quant_method": "awq"})),
        ] {
            let error = read(|json| json[field] = value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains("not supported yet"), "{error}");
        }
    }

    #[test]
    fn a_tower_that_sees_several_sizes_is_a_siglip_of_the_smallest() {
        let sees = |tower: &str, scales: Value| {
            read(|json| {
                json["mm_vision_tower"] = tower.into();
                json["mm_hidden_size"] = Value::Null;
                json["use_s2"] = true.into();
                json["s2_scales"] = scales;
            })
        };
        const SIGLIP: &str = "google/siglip-so400m-patch14-384";
        let config = sees(SIGLIP, Value::Null).unwrap();
        assert_eq!(
            [config.vision.tokens(), config.vision.hidden_size()],
            [729, 3456]
        );
        assert_eq!(config.projector.input, 3456);
        let config = sees(SIGLIP, json!("768, 384")).unwrap();
        assert_eq!(
            [config.vision.passes(), config.vision.image_size()],
            [5, 768]
        );
        for (tower, scales, fault) in [
            (SIGLIP, "384,500", "`s2_scales` has 500"),
            (SIGLIP, "384,3456", "`s2_scales` has 3456"),
            (SIGLIP, "768,1152", "`s2_scales` begins at 768"),
            (SIGLIP, "large", "`s2_scales` is `large`"),
            (SIGLIP, "", "`s2_scales` is ``"),
            (
                "QuanSun/EVA-CLIP",
                "384,768",
                "`use_s2` is for SigLIP towers, not for eva_clip",
            ),
        ] {
            let error = sees(tower, json!(scales)).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn every_published_model_reads_what_it_says_of_itself() {
        for preset in PRESETS {
            let mut config = preset.config();
            let json = config.to_json(StoredDtype::F16, None);
            let fields = Fields::parse("config.json", &json.to_string()).unwrap();
            let again = BunnyConfig::from_fields(&fields, None).unwrap();
            // A tokenizer without a beginning begins where it ends.
            config.bos_token_id = config.bos_token_id.or(config.eos_token_id());
            assert_eq!(again, config, "{}", preset.name);
        }
    }

    #[test]
    fn what_is_gone_on_from_says_so_once() {
        let said = json!({"continuous_training": true, "model_type": "bunny-phi"});
        let config = read(|json| json["continuous_training"] = true.into()).unwrap();
        let written = config.to_json(StoredDtype::F16, said.as_object());
        assert_eq!(written["continuous_training"], false);
    }

    #[test]
    fn several_ids_may_end_an_answer() {
        for (said, ids) in [
            (json!(7), vec![7]),
            (json!([7]), vec![7]),
            (json!([7, 9]), vec![7, 9]),
        ] {
            let config = read(|json| json["eos_token_id"] = said).unwrap();
            assert_eq!(config.eos_token_ids, ids);
            let written = config.to_json(StoredDtype::F16, None);
            let again = BunnyConfig::from_fields(
                &Fields::parse("config.json", &written.to_string()).unwrap(),
                None,
            );
            assert_eq!(again.unwrap().eos_token_ids, ids);
        }
    }

    #[test]
    fn rotary_angles_that_are_not_scaled_are_taken() {
        for said in [
            json!({"rope_type": "default"}),
            json!({"type": "default"}),
            json!(null),
        ] {
            read(|json| json["rope_scaling"] = said).unwrap();
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
