//! The families of language models: one small file each, and a line in the list below.

mod fields;
mod llama;
mod minicpm;
mod phi;
mod phi3;
mod qwen2;
mod stablelm;

use serde_json::{Map, Value, json};

use super::{
    ConfigError, DecoderConfig, Fields,
    table::{self, Field},
};
use crate::{
    input::{conversation::Template, tokenizer::Tokenizer},
    nn::NameTable,
};

/// A family of language models: what its configuration and its tensors are called.
#[derive(Clone, Copy)]
pub struct Family(&'static Definition);

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident is $definition:path;)*) => {
        impl Family {
            $($(#[$doc])* pub const $name: Self = Self(&$definition);)*

            /// Every family that can be loaded.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

families! {
    /// Phi-1.5 and Phi-2.
    PHI is phi::PHI;
    /// StableLM-2.
    STABLELM is stablelm::STABLELM;
    /// Qwen1.5.
    QWEN2 is qwen2::QWEN2;
    /// MiniCPM.
    MINICPM is minicpm::MINICPM;
    /// Phi-3.
    PHI3 is phi3::PHI3;
    /// Llama-3.
    LLAMA is llama::LLAMA;
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
    /// Of what a file has to say, what the class of transformers has where a configuration within
    /// another leaves it out; nothing where transformers has no such class.
    class_defaults: fn() -> Option<Value>,
    names: NameTable,
}

/// Switches and objects that say nothing of what a language model computes: remarks of those who
/// wrote the file, defaults of generation, and what a Bunny's training decides.
pub(crate) const WITHOUT_EFFECT: &[&str] = &[
    "add_cross_attention",
    "auto_map",
    // The tower's weights are the checkpoint's, which they are here wherever it holds any.
    "continuous_training",
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
    "use_s2",
    "vision_config",
];

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type() == other.model_type()
    }
}

impl Eq for Family {}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.model_type())
    }
}

impl Family {
    /// The family that a configuration's `model_type` names, `bunny-` in front or not.
    ///
    /// # Errors
    /// When `model_type` is missing or unknown.
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let unknown = |problem: String| {
            let known: Vec<&str> = Self::ALL.iter().map(|family| family.base_type()).collect();
            let known = known.join(", ");
            let problem = format!("{problem} {known} (a Bunny has `bunny-` in front), or llava");
            fields.invalid("model_type", problem)
        };
        let model_type = fields
            .string("model_type")?
            .ok_or_else(|| unknown("is missing: it names the language model,".into()))?;
        let bare = model_type.strip_prefix("bunny-").unwrap_or(model_type);
        let is_named = |family: &&Self| family.0.model_types.contains(&bare);
        let family = Self::ALL.iter().find(is_named).copied();
        family.ok_or_else(|| unknown(format!("is `{model_type}`, and what is known here is")))
    }

    /// The `model_type` of a Bunny of this family.
    pub fn model_type(self) -> &'static str {
        self.0.bunny[0]
    }

    /// The `model_type` of its language models in transformers.
    pub(crate) fn base_type(self) -> &'static str {
        self.0.base[0]
    }

    /// The class a Bunny of this family has in the Python reference.
    pub fn architecture(self) -> &'static str {
        self.0.bunny[1]
    }

    /// The conversation template that models of this family are trained with.
    pub fn template(self) -> Template {
        self.0.template
    }

    /// The sizes and choices that a language model's `config.json` gives.
    ///
    /// # Errors
    /// When a field is missing or out of range, or the file asks for something that no model of this
    /// family does here.
    pub fn decoder_config(self, fields: &Fields) -> Result<DecoderConfig, ConfigError> {
        let definition = self.0;
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
        let definition = self.0;
        table::write(definition.fields, config, said, json);
        between(json);
        table::write(definition.own_fields, config, said, json);
    }

    /// The `config.json` of a language model alone, as transformers has it: over `said`, what is to be
    /// said beside.
    pub fn language_model_json(self, config: &DecoderConfig, said: Map<String, Value>) -> Value {
        let fields = Fields::of("config.json", said);
        let mut json = fields.values().clone();
        let [model_type, architecture] = self.0.base;
        json.insert("model_type".into(), model_type.into());
        json.insert("architectures".into(), json!([architecture]));
        self.write(config, Some(&fields), &mut json, |_| {});
        json.into()
    }

    /// The family of a language model within a model of transformers that is made of several, by its
    /// `model_type`, and what its class has where nothing is said; none where that class is unknown here.
    pub(crate) fn within(model_type: &str) -> Option<(Self, Map<String, Value>)> {
        let family = Self::ALL
            .iter()
            .find(|family| family.0.base[0] == model_type)?;
        match (family.0.class_defaults)()? {
            Value::Object(defaults) => Some((*family, defaults)),
            _ => None,
        }
    }

    /// The template of a model of this family that has this tokenizer: where that has no such end of an
    /// answer, the one whose answers end as its texts do.
    pub fn template_for(self, tokenizer: &Tokenizer) -> Template {
        let usual = self.template();
        let end = |template: &Template| tokenizer.token_to_id(template.end_of_text()?);
        let eos = tokenizer.special_tokens().eos;
        if end(&usual).is_some() || eos.is_none() {
            return usual;
        }
        let mut others = Template::ALL.into_iter();
        others
            .find(|template| end(template) == eos)
            .unwrap_or(usual)
    }

    /// How this family's tensors are called in published files.
    pub fn names(self) -> &'static NameTable {
        &self.0.names
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
        assert!(Family::PHI.names().is_unused("lm_head.bias"));
        assert!(!Family::STABLELM.names().is_unused("lm_head.bias"));
    }
}
