//! `config.json` of a LLaVA as transformers has it (`LlavaForConditionalGeneration`), from and to a
//! Bunny's.
//!
//! The two are one architecture under two sets of names:
//!
//! ```text
//! transformers                          Bunny
//! text_config                           the file's own fields
//! vision_config                         config.json in the tower's folder
//! vision_feature_layer -2 of n layers   always the last layer but one
//! vision_feature_select_strategy        "full" of SigLIP; "default", without the class token, of CLIP
//! preprocessor_config.json, do_pad      image_aspect_ratio "pad"
//! ```

use std::path::Path;

use bunny_base::files;
use bunny_weights::{StoredDtype, folder::GENERATION_CONFIG};
use serde_json::{Value, json};

use crate::{
    Error,
    checkpoint::folder::processor_file,
    config::{
        BunnyConfig, ClipConfig, ConfigError, DecoderConfig, Family, Fields, ProjectorKind,
        SiglipConfig, VisionConfig, WITHOUT_EFFECT,
    },
    input::image::{Aspect, ImageProcessor},
    nn::Activation,
};

/// The `model_type` of a LLaVA.
const MODEL_TYPE: &str = "llava";

/// What a configuration of transformers leaves out of its tower.
fn default_tower() -> Value {
    json!({
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    })
}

/// Fields of a LLaVA's own that are read, or that say nothing of what it computes.
const KNOWN: [&str; 8] = [
    "image_token_index",
    "multimodal_projector_bias",
    "projector_hidden_act",
    "text_config",
    "tie_word_embeddings",
    "vision_config",
    "vision_feature_layer",
    "vision_feature_select_strategy",
];

impl Fields {
    /// Reads a model's `config.json`. A LLaVA's, as transformers has it, is given in a Bunny's words,
    /// its tower's under `vision_config`; what it says of pictures and of the ends of answers comes from
    /// the files beside it.
    ///
    /// # Errors
    /// When a file cannot be read or is no JSON, or a LLaVA is one that no Bunny is.
    pub fn read_model(file: impl AsRef<Path>) -> Result<Self, Error> {
        let fields = Self::read(file)?;
        match fields.string("model_type")? {
            Some(MODEL_TYPE) => as_bunny(&fields),
            _ => Ok(fields),
        }
    }
}

/// A LLaVA's fields in a Bunny's words.
fn as_bunny(llava: &Fields) -> Result<Fields, Error> {
    llava.refuse(&["quantization_config"])?;
    llava.refuse_unknown_switches(|field| {
        KNOWN.contains(&field) || WITHOUT_EFFECT.contains(&field)
    })?;
    require_projector(llava)?;
    let text = llava.object("text_config")?;
    let kind = match &text {
        Some(text) => text.string("model_type")?.unwrap_or("llama"),
        None => "llama",
    };
    let Some((family, mut json)) = Family::within(kind) else {
        let problem = format!("is `{kind}`, a language model that is not known here");
        return Err(llava.invalid("text_config.model_type", problem).into());
    };
    let is_tied = |fields: &Fields| fields.boolean("tie_word_embeddings", false);
    let mut ties = is_tied(llava)?;
    if let Some(text) = &text {
        ties |= is_tied(text)?;
        json.extend(text.values().clone());
    }
    json.insert("tie_word_embeddings".into(), ties.into());
    json.insert("model_type".into(), family.model_type().into());
    json.insert("architectures".into(), json!([family.architecture()]));

    let vision = tower(llava)?;
    let name = match VisionConfig::from_fields(&vision)? {
        VisionConfig::Siglip(tower) if tower == SiglipConfig::so400m_patch14_384() => {
            "google/siglip-so400m-patch14-384"
        }
        VisionConfig::Clip(tower) if tower == ClipConfig::vit_l_14_336() => {
            "openai/clip-vit-large-patch14-336"
        }
        tower => tower.folder_name(),
    };
    json.insert("vision_config".into(), vision.values().clone().into());
    json.insert("mm_vision_tower".into(), name.into());
    json.insert("mm_projector_type".into(), "mlp2x_gelu".into());
    json.insert("use_mm_proj".into(), true.into());
    // Its weights are those of the checkpoint.
    json.insert("unfreeze_vision_tower".into(), true.into());

    let folder = llava.file().parent().unwrap_or(Path::new(""));
    let aspect = match processor_file(folder) {
        Some(file) => ImageProcessor::from_llava(&file)?.aspect,
        None => Aspect::Square,
    };
    json.insert("image_aspect_ratio".into(), aspect.name().into());
    let generation = folder.join(GENERATION_CONFIG);
    if files::exists(&generation) {
        let generation = Fields::read(generation)?;
        if let Some(ends) = generation.get("eos_token_id") {
            json.insert("eos_token_id".into(), ends.clone());
        }
    }
    Ok(Fields::of(llava.file(), json))
}

/// A Bunny's projector is two products with biases, and the error function's GELU between them.
fn require_projector(llava: &Fields) -> Result<(), ConfigError> {
    let field = "projector_hidden_act";
    if llava.activation(field, Activation::Gelu)? != Activation::Gelu {
        return Err(llava.invalid(field, "is not `gelu`, the only one that is read"));
    }
    match llava.boolean("multimodal_projector_bias", true)? {
        true => Ok(()),
        false => Err(llava.invalid("multimodal_projector_bias", "is false, must be true")),
    }
}

/// The tower's own fields, with as many layers as make the last but one the one whose features are
/// taken.
fn tower(llava: &Fields) -> Result<Fields, ConfigError> {
    let vision = match llava.object("vision_config")? {
        Some(vision) => vision,
        None => Fields::of(
            llava.file(),
            default_tower().as_object().cloned().unwrap_or_default(),
        ),
    };
    let kind = vision.string("model_type")?.unwrap_or("clip_vision_model");
    let strategy = llava.string("vision_feature_select_strategy")?;
    let wanted = match kind {
        "siglip_vision_model" => "full",
        "clip_vision_model" => "default",
        other => {
            let problem = format!(
                "is `{other}`, which is neither `siglip_vision_model` nor `clip_vision_model`"
            );
            return Err(vision.invalid("model_type", problem));
        }
    };
    let said = strategy.unwrap_or("default");
    if said != wanted {
        let problem = format!("is `{said}`, and of a `{kind}` only `{wanted}` is read");
        return Err(llava.invalid("vision_feature_select_strategy", problem));
    }
    // Both classes have as many where nothing is said.
    let layers = vision.count("num_hidden_layers", 12, 1023)?;
    let needed = feature_layers(llava, layers)?;
    let mut values = vision.values().clone();
    values.insert("model_type".into(), kind.into());
    values.insert("num_hidden_layers".into(), (needed + 1).into());
    Ok(Fields::of(llava.file(), values))
}

/// How many of a tower's layers its features have gone through.
fn feature_layers(llava: &Fields, layers: usize) -> Result<usize, ConfigError> {
    let field = "vision_feature_layer";
    let said = match llava.get(field) {
        None => Some(-2),
        Some(Value::Array(list)) => match &list[..] {
            [one] => one.as_i64(),
            _ => {
                return Err(llava.invalid(field, "is several layers, and those of one are read"));
            }
        },
        Some(one) => one.as_i64(),
    };
    let said = said.ok_or_else(|| llava.invalid(field, "must be a whole number"))?;
    // States are those before the first layer, and those behind each.
    let states = layers as i64 + 1;
    let at = if said < 0 {
        states.saturating_add(said)
    } else {
        said
    };
    match usize::try_from(at) {
        Ok(at) if (1..=layers).contains(&at) => Ok(at),
        _ => Err(llava.invalid(field, format!("is {said}, and there are {layers} layers"))),
    }
}

/// What of a Bunny is to be told to transformers beside its sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LlavaTokens {
    /// The id that stands for a feature of a picture.
    pub image: u32,
    /// Rows of the token table and of the head.
    pub rows: usize,
    /// Where answers end.
    pub eos: Option<u32>,
    /// Where texts begin.
    pub bos: Option<u32>,
}

impl BunnyConfig {
    /// Whether transformers' LLaVA computes what this model does.
    ///
    /// # Errors
    /// [`Error::Unexportable`] where it does not, with the part that it has no form for.
    pub fn require_llava(&self) -> Result<(), Error> {
        let refuse = |problem: String| {
            Err(Error::Unexportable {
                format: "a LLaVA of transformers",
                reason: format!("it has {problem}"),
            })
        };
        match &self.vision {
            VisionConfig::Siglip(_) | VisionConfig::Clip(_) => {}
            VisionConfig::EvaClip(_) => {
                return refuse("an EVA-CLIP tower, of which transformers has no class".into());
            }
            VisionConfig::Multiscale(_) => {
                return refuse("features of pictures at several sizes (S²)".into());
            }
        }
        match self.projector.kind {
            ProjectorKind::Mlp { depth: 2 } => Ok(()),
            _ => refuse(format!(
                "a projector `{}`: its own is always `mlp2x_gelu`",
                self.projector.name()
            )),
        }
    }

    /// The family and the language model's sizes in transformers, and what is to be multiplied into
    /// weights so that it computes the same.
    pub(super) fn in_transformers(&self) -> (Family, DecoderConfig) {
        let decoder = DecoderConfig {
            embedding_scale: 1.0,
            depth_scale: None,
            logits_width: None,
            tie_word_embeddings: false,
            ..self.decoder.clone()
        };
        // A MiniCPM is a Llama whose weights hold its scales; transformers has no class of its own for it.
        let family = match Family::within(self.family.base_type()) {
            Some((family, _)) => family,
            None => Family::LLAMA,
        };
        (family, decoder)
    }

    /// `config.json` of this model as a LLaVA, its weights being stored as `dtype`. The tower's files
    /// hold all its layers, or with `is_trimmed` only those that are read.
    pub(super) fn llava_json(
        &self,
        dtype: StoredDtype,
        tokens: LlavaTokens,
        is_trimmed: bool,
    ) -> Value {
        let (family, mut decoder) = self.in_transformers();
        decoder.vocab_size = tokens.rows;
        // What classes have where nothing is said is of other models.
        let said = json!({
            "bos_token_id": tokens.bos,
            "eos_token_id": tokens.eos,
            "pad_token_id": null,
            "torch_dtype": dtype.torch_name(),
            "use_cache": true,
        });
        let said = said.as_object().cloned().unwrap_or_default();
        let text = family.language_model_json(&decoder, said);
        let mut vision = self.vision.to_json();
        let is_siglip = matches!(self.vision, VisionConfig::Siglip(_));
        if is_siglip {
            vision["vision_use_head"] = false.into();
        }
        if is_trimmed {
            vision["num_hidden_layers"] = self.vision.layers_used().into();
        }
        json!({
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": MODEL_TYPE,
            "image_seq_length": self.vision.tokens(),
            "image_token_index": tokens.image,
            "multimodal_projector_bias": true,
            "projector_hidden_act": "gelu",
            "text_config": text,
            "tie_word_embeddings": false,
            "torch_dtype": dtype.torch_name(),
            "vision_config": vision,
            "vision_feature_layer": if is_trimmed { -1 } else { -2 },
            "vision_feature_select_strategy": if is_siglip { "full" } else { "default" },
        })
    }

    /// `processor_config.json` of this model as a LLaVA.
    pub(super) fn llava_processor_json(&self, image_token: &str) -> Value {
        let is_siglip = matches!(self.vision, VisionConfig::Siglip(_));
        json!({
            "image_token": image_token,
            // The class token, which the strategy takes away again.
            "num_additional_image_tokens": if is_siglip { 0 } else { 1 },
            "patch_size": self.vision.patch_size(),
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": if is_siglip { "full" } else { "default" },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<BunnyConfig, Error> {
        // As llava-hf/llava-1.5-7b-hf says it.
        let mut json = json!({
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100,
            "image_token_index": 32000,
            "model_type": "llava",
            "pad_token_id": 32001,
            "projector_hidden_act": "gelu",
            "text_config": {
                "_name_or_path": "lmsys/vicuna-7b-v1.5",
                "architectures": ["LlamaForCausalLM"],
                "max_position_embeddings": 4096,
                "model_type": "llama",
                "rms_norm_eps": 1e-5,
                "torch_dtype": "float16",
                "vocab_size": 32064
            },
            "tie_word_embeddings": false,
            "torch_dtype": "float16",
            "vision_config": {
                "hidden_size": 1024,
                "image_size": 336,
                "intermediate_size": 4096,
                "model_type": "clip_vision_model",
                "num_attention_heads": 16,
                "num_hidden_layers": 24,
                "patch_size": 14,
                "projection_dim": 768,
                "vocab_size": 32000
            },
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": 32064
        });
        change(&mut json);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, json.to_string()).unwrap();
        Ok(BunnyConfig::from_fields(&Fields::read_model(&file)?, None)?)
    }

    #[test]
    fn the_published_llava_is_read_with_what_its_classes_have() {
        let config = read(|_| {}).unwrap();
        assert_eq!(config.family, Family::LLAMA);
        let decoder = &config.decoder;
        let sizes = [
            decoder.hidden_size,
            decoder.intermediate_size,
            decoder.num_hidden_layers,
            decoder.num_key_value_heads,
            decoder.head_dim,
            decoder.max_position_embeddings,
        ];
        assert_eq!(sizes, [4096, 11_008, 32, 32, 128, 4096]);
        assert_eq!(decoder.rope_theta, 10_000.0);
        assert!(config.vision.is_published());
        assert_eq!(config.vision.tokens(), 576);
        assert_eq!(config.eos_token_ids, [2]);
        // What it says of its tower is what it would be without a word.
        let without = read(|json| {
            json.as_object_mut().unwrap().shift_remove("vision_config");
        });
        assert_eq!(without.unwrap(), config);
    }

    #[test]
    fn features_come_from_the_layer_that_is_named() {
        let used = |layer: Value| {
            read(|json| json["vision_feature_layer"] = layer).map(|c| c.vision.layers_used())
        };
        for (layer, expected) in [
            (json!(-2), 23),
            (json!(-1), 24),
            (json!(5), 5),
            (json!([-3]), 22),
        ] {
            assert_eq!(used(layer.clone()).unwrap(), expected, "{layer}");
        }
        for layer in [
            json!(0),
            json!(25),
            json!(-25),
            json!([-2, -3]),
            json!("last"),
            json!(i64::MIN),
        ] {
            let error = used(layer.clone()).unwrap_err().to_string();
            assert!(error.contains("`vision_feature_layer`"), "{layer}: {error}");
        }
    }

    #[test]
    fn what_no_bunny_is_is_refused_by_its_field() {
        for (field, value) in [
            ("vision_feature_select_strategy", json!("full")),
            ("projector_hidden_act", json!("silu")),
            ("multimodal_projector_bias", json!(false)),
            (
                "quantization_config",
                json!({"quant_method": "bitsandbytes"}),
            ),
            ("something_of_next_year", json!(true)),
            ("text_config", json!({"model_type": "mistral"})),
            ("vision_config", json!({"model_type": "pixtral"})),
            ("text_config", json!(3)),
        ] {
            let error = read(|json| json[field] = value).unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn a_head_is_tied_where_either_says_so() {
        assert!(!read(|_| {}).unwrap().decoder.tie_word_embeddings);
        let text = read(|json| json["text_config"]["tie_word_embeddings"] = true.into());
        assert!(text.unwrap().decoder.tie_word_embeddings);
        let whole = read(|json| json["tie_word_embeddings"] = true.into());
        assert!(whole.unwrap().decoder.tie_word_embeddings);
    }
}
