//! The families of language models: one small file each.

mod phi;
mod stablelm;

use serde_json::Value;

use super::{ConfigError, DecoderConfig, Fields};
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

impl Family {
    /// Every family that can be loaded.
    pub const ALL: [Self; 2] = [Self::Phi, Self::StableLm];

    /// The family that a configuration's `model_type` names, `bunny-` in front or not.
    ///
    /// # Errors
    /// When `model_type` is missing, unknown, or of a family that is not supported yet.
    pub fn of(fields: &Fields) -> Result<Self, ConfigError> {
        let model_type = fields.string("model_type")?.ok_or_else(|| {
            fields.invalid("model_type", "is missing: it names the language model")
        })?;
        let bare = model_type.strip_prefix("bunny-").unwrap_or(model_type);
        match bare {
            "phi" | "phi-msft" => Ok(Self::Phi),
            "stablelm" | "stablelm_epoch" => Ok(Self::StableLm),
            "phi3" | "qwen" | "qwen2" | "minicpm" | "llama" => Err(ConfigError::NotSupported {
                file: fields.file().into(),
                feature: format!("`model_type` `{model_type}`"),
            }),
            _ => Err(fields.invalid(
                "model_type",
                format!("is `{model_type}`, which is none of bunny-phi, bunny-stablelm"),
            )),
        }
    }

    /// The `model_type` of a Bunny of this family.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Phi => "bunny-phi",
            Self::StableLm => "bunny-stablelm",
        }
    }

    /// The class a Bunny of this family has in the Python reference.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Phi => "BunnyPhiForCausalLM",
            Self::StableLm => "BunnyStableLMForCausalLM",
        }
    }

    /// The conversation template that models of this family are trained with.
    pub fn template(self) -> Template {
        match self {
            Self::Phi | Self::StableLm => Template::Bunny,
        }
    }

    /// The sizes and choices that a language model's `config.json` gives.
    ///
    /// # Errors
    /// When a field is missing or out of range.
    pub fn decoder_config(self, fields: &Fields) -> Result<DecoderConfig, ConfigError> {
        match self {
            Self::Phi => phi::decoder_config(fields),
            Self::StableLm => stablelm::decoder_config(fields),
        }
    }

    /// The fields of `config.json` that only this family has.
    pub(crate) fn own_fields(self, config: &DecoderConfig) -> Vec<(&'static str, Value)> {
        match self {
            Self::Phi => phi::own_fields(config),
            Self::StableLm => stablelm::own_fields(config),
        }
    }

    /// How this family's tensors are called in published files.
    pub fn names(self) -> &'static NameTable {
        match self {
            Self::Phi => &phi::NAMES,
            Self::StableLm => &stablelm::NAMES,
        }
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
