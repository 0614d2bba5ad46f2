//! The families of language models: one small file each.

mod fields;
mod phi;
mod stablelm;

use serde_json::{Map, Value, json};

use super::{
    ConfigError, DecoderConfig, Fields,
    table::{self, Field},
};
use crate::{input::conversation::Template, nn::NameTable};

/// A family of language models: what its configuration and its tensors are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Phi-1.5 and Phi-2.
    Phi,
    /// StableLM-2.
    StableLm,
}

/// All there is to know of a family.
struct Definition {
    /// The `model_type`s of its language models; a Bunny's may have `bunny-` in front.
    model_types: &'static [&'static str],
    /// The `model_type` of a Bunny, and its class in the Python reference.
    bunny: [&'static str; 2],
    /// The same of the language model alone, as transformers has it.
    base: [&'static str; 2],
    /// The conversation template that its models are trained with.
    template: Template,
    /// What a file leaves out.
    defaults: fn() -> DecoderConfig,
    /// The fields of its `config.json`, in the order in which they are read and written.
    fields: &'static [Field<DecoderConfig>],
    /// Those that only this family has, which stand behind a Bunny's own.
    own_fields: &'static [Field<DecoderConfig>],
    /// Fields that must be off.
    refused: &'static [&'static str],
    names: NameTable,
}

/// Switches and objects that say nothing of what a language model computes: remarks of those who
/// wrote the file, defaults of generation, and what a Bunny's training decides.
const WITHOUT_EFFECT: &[&str] = &[
    "add_cross_attention",
    "auto_map",
    "freeze_mm_mlp_adapter",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "quantization_config",
    "remove_invalid_values",
    "return_dict",
    "return_dict_in_generate",
    "rope_parameters",
    "rope_scaling",
    "task_specific_params",
    "torchscript",
    "tune_mm_mlp_adapter",
    "unfreeze_vision_tower",
    "use_bfloat16",
    "use_cache",
    "use_mm_proj",
];

impl Family {
    /// Every family that can be loaded.
    pub const ALL: [Self; 2] = [Self::Phi, Self::StableLm];

    fn definition(self) -> &'static Definition {
        match self {
            Self::Phi => &phi::PHI,
            Self::StableLm => &stablelm::STABLELM,
        }
    }

    /// The family that a configuration's `model_type` names, `bunny-` in front or not.
    ///
    /// # Errors
    /// When `model_type` is missing, unknown, or of a family that is not supported yet.
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let model_type = fields.string("model_type")?.ok_or_else(|| {
            fields.invalid("model_type", "is missing: it names the language model")
        })?;
        let bare = model_type.strip_prefix("bunny-").unwrap_or(model_type);
        let is_named = |family: &Self| family.definition().model_types.contains(&bare);
        if let Some(family) = Self::ALL.into_iter().find(is_named) {
            return Ok(family);
        }
        match bare {
            "phi3" | "qwen" | "qwen2" | "minicpm" | "llama" => Err(ConfigError::NotSupported {
                file: fields.file().into(),
                feature: format!("`model_type` `{model_type}`"),
            }),
            _ => {
                let known = Self::ALL.map(Self::model_type).join(", ");
                Err(fields.invalid(
                    "model_type",
                    format!("is `{model_type}`, which is none of {known}"),
                ))
            }
        }
    }

    /// The `model_type` of a Bunny of this family.
    pub fn model_type(self) -> &'static str {
        self.definition().bunny[0]
    }

    /// The class a Bunny of this family has in the Python reference.
    pub fn architecture(self) -> &'static str {
        self.definition().bunny[1]
    }

    /// The conversation template that models of this family are trained with.
    pub fn template(self) -> Template {
        self.definition().template
    }

    /// The sizes and choices that a language model's `config.json` gives.
    ///
    /// # Errors
    /// When a field is missing or out of range, or the file asks for something that no model of this
    /// family does here.
    pub fn decoder_config(self, fields: &Fields) -> Result<DecoderConfig, ConfigError> {
        let definition = self.definition();
        fields.refuse(definition.refused)?;
        refuse_foreign_integers(fields)?;
        refuse_scaled_rope(fields)?;
        fields.refuse_unknown_switches(|field| {
            let all = definition.fields.iter().chain(definition.own_fields);
            WITHOUT_EFFECT.contains(&field) || all.into_iter().any(|own| own.name == field)
        })?;
        let mut config = (definition.defaults)();
        table::read(definition.fields, fields, &mut config)?;
        table::read(definition.own_fields, fields, &mut config)?;
        Ok(config)
    }

    /// Writes the fields of a language model to `json`; `between` writes those of a Bunny. What `said`,
    /// the file as it was, says in other words stays as it was said.
    pub(super) fn write(
        self,
        config: &DecoderConfig,
        said: Option<&Fields>,
        json: &mut Map<String, Value>,
        between: impl FnOnce(&mut Map<String, Value>),
    ) {
        let definition = self.definition();
        table::write(definition.fields, config, said, json);
        between(json);
        table::write(definition.own_fields, config, said, json);
    }

    /// The `config.json` of a language model alone, as transformers has it: over `said`, what is to be
    /// said beside.
    pub fn language_model_json(self, config: &DecoderConfig, said: Map<String, Value>) -> Value {
        let fields = Fields::of("config.json", said);
        let mut json = fields.values().clone();
        let [model_type, architecture] = self.definition().base;
        json.insert("model_type".into(), model_type.into());
        json.insert("architectures".into(), json!([architecture]));
        self.write(config, Some(&fields), &mut json, |_| {});
        json.into()
    }

    /// How this family's tensors are called in published files.
    pub fn names(self) -> &'static NameTable {
        &self.definition().names
    }
}

/// Refuses weights in integers of any form but `compressed-tensors`'. What is said of those is looked at
/// where the files are.
pub(crate) fn refuse_foreign_integers(fields: &Fields) -> Result<(), ConfigError> {
    let method = match fields.get("quantization_config") {
        Some(Value::Object(config)) => config.get("quant_method").and_then(Value::as_str),
        _ => None,
    };
    match method {
        Some("compressed-tensors") => Ok(()),
        _ => fields.refuse(&["quantization_config"]),
    }
}

/// Refuses rotary angles that are scaled in any way.
fn refuse_scaled_rope(fields: &Fields) -> Result<(), ConfigError> {
    let Some(scaling) = fields.object("rope_scaling")? else {
        return Ok(());
    };
    // `type` is the older word.
    let kind = match scaling.string("rope_type")? {
        Some(kind) => Some(kind),
        None => scaling.string("type")?,
    };
    match kind {
        Some("default") => Ok(()),
        _ => fields.refuse(&["rope_scaling"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_heads_bias_is_known_to_be_unused() {
        assert!(Family::Phi.names().is_unused("lm_head.bias"));
        assert!(!Family::StableLm.names().is_unused("lm_head.bias"));
    }
}
