//! The JSON schema of a recipe.

use bunny_data::toml_schema;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{BunnyRecipe, ContrastiveRecipe, LanguageRecipe, StageKind};

/// A training recipe: at least one stage. Keys above the stages are for every stage that knows them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "A training recipe")]
#[allow(dead_code, reason = "its schema is all there is of it")]
struct RecipeFile {
    /// The version of the format: 1.
    #[schemars(extend("const" = 1))]
    format_version: u32,
    /// Its name, and that of its folder in `runs/`; the file's unless given.
    name: Option<String>,
    /// A tokenizer and a language model, made from texts.
    language: Option<LanguageRecipe>,
    /// A vision tower, made from pictures and captions.
    contrastive: Option<ContrastiveRecipe>,
    /// The projector learns from captions.
    pretrain: Option<BunnyRecipe>,
    /// The language model, or adapters beside it, and the projector learn from conversations.
    finetune: Option<BunnyRecipe>,
}

/// The JSON schema of a recipe's file, made of the types that read it.
pub fn schema() -> Value {
    let mut schema = toml_schema::<RecipeFile>();
    let stages = ["LanguageRecipe", "ContrastiveRecipe", "BunnyRecipe"];
    let mut shared = Map::new();
    for stage in stages {
        let definition = &mut schema["$defs"][stage];
        definition["additionalProperties"] = false.into();
        for (key, value) in definition["properties"].as_object().into_iter().flatten() {
            // What it is unless given depends on the stage.
            let mut value = value.clone();
            if let Some(fields) = value.as_object_mut() {
                fields.remove("default");
            }
            shared.entry(key).or_insert(value);
        }
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        for (key, value) in shared {
            properties.entry(key).or_insert(value);
        }
    }
    let named = StageKind::ALL.map(|kind| serde_json::json!({"required": [kind.name()]}));
    schema["anyOf"] = named.to_vec().into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::StageRecipe;

    #[test]
    fn every_key_that_is_read_is_described() {
        let schema = schema();
        for kind in StageKind::ALL {
            let name = match kind {
                StageKind::Language => "LanguageRecipe",
                StageKind::Contrastive => "ContrastiveRecipe",
                StageKind::Pretrain | StageKind::Finetune => "BunnyRecipe",
            };
            let described = schema["$defs"][name]["properties"].as_object().unwrap();
            let keys = StageRecipe::keys(kind);
            assert_eq!(described.len(), keys.len(), "{kind}");
            for key in keys {
                let about = described[&key]["description"].as_str().unwrap_or_default();
                assert!(
                    about.ends_with(['.', '`']) && about.len() > 5,
                    "{kind}.{key}: {about}"
                );
                assert!(schema["properties"].get(&key).is_some(), "{key}");
            }
        }
    }
}
