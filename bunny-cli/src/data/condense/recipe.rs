//! What `data condense` follows: a TOML with a table for each verb it runs.
//!
//! ```toml
//! format_version = 1
//! name = "laion-2m"
//!
//! [embed]
//! images = "laion"
//! model = "openai/clip-vit-large-patch14"
//!
//! [coreset]
//! sample = 2_000_000
//!
//! [train]
//! recipe = "bunny-phi-2-siglip"
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bunny_data::{parse_toml, toml_schema};
use bunny_train::recipe::beside;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    data::{coreset::SelectionArgs, embed::PairsArgs},
    train::StageName,
};

/// The version of the format that this code reads.
const FORMAT_VERSION: u32 = 1;

/// From pictures with captions to what is worth learning from, and to what has learnt from it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CondenseRecipe {
    /// 1.
    pub format_version: u32,
    /// Its name, and that of its folder in `runs/`.
    pub name: String,
    /// How pictures and captions become embeddings: as the flags of `data embed`.
    pub embed: PairsArgs,
    /// How those are selected that are learnt from: as the flags of `data coreset`.
    #[serde(default)]
    pub coreset: SelectionArgs,
    /// What learns from them; nothing without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainKeys>,
}

/// What learns from what was selected.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainKeys {
    /// A recipe of `train`: a file, or a name of `recipe list`. What was selected is the data of its
    /// stage `pretrain`, whatever it names.
    pub recipe: PathBuf,
    /// This stage of it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// Values in the place of its own, as `train --set` takes them: `"finetune.learning_rate=1e-4"`.
    #[serde(default)]
    pub set: Vec<String>,
}

impl CondenseRecipe {
    /// Reads a recipe. Paths start in the current folder, or, where nothing is there, in the recipe's.
    ///
    /// # Errors
    /// When it cannot be read, or holds a key or a value that cannot be used.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let mut recipe = Self::parse(file, &text)?;
        if let Some(folder) = file.parent() {
            recipe.find_beside(folder);
        }
        Ok(recipe)
    }

    /// The same from text that lies nowhere; `file` is named in errors.
    ///
    /// # Errors
    /// As [`CondenseRecipe::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        let recipe: Self = parse_toml(file, text)?;
        if recipe.format_version != FORMAT_VERSION {
            bail!(
                "{}: format_version is {}; this version reads {FORMAT_VERSION}",
                file.display(),
                recipe.format_version
            );
        }
        let usable = recipe.coreset.options().validate();
        usable.with_context(|| format!("{}: [coreset]", file.display()))?;
        Ok(recipe)
    }

    fn find_beside(&mut self, folder: &Path) {
        let find =
            |path: &mut PathBuf| *path = beside(folder, path).unwrap_or_else(|| path.clone());
        find(&mut self.embed.images);
        self.embed.records.iter_mut().for_each(find);
        // A model may also be named by an id.
        if let Some(model) = beside(folder, Path::new(&self.embed.model)) {
            self.embed.model = model.to_string_lossy().into_owned();
        }
        self.coreset.centroids.iter_mut().for_each(find);
        self.coreset.start_from.iter_mut().for_each(find);
        if let Some(train) = &mut self.train {
            find(&mut train.recipe);
        }
    }
}

/// The JSON schema of such a file, made of the types that read it.
pub fn schema() -> Value {
    let mut schema = toml_schema::<CondenseRecipe>();
    rename_flags(&mut schema);
    schema
}

/// Calls flags by the names that their keys have: `--start-from` is `start_from` in a file.
fn rename_flags(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = without_flags(text);
            }
            fields.values_mut().for_each(rename_flags);
        }
        Value::Array(items) => items.iter_mut().for_each(rename_flags),
        _ => {}
    }
}

fn without_flags(text: &str) -> String {
    let mut parts = text.split("--");
    let mut renamed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c != '-' && !c.is_ascii_lowercase());
        let (flag, rest) = part.split_at(end.unwrap_or(part.len()));
        // Within code is the flag of another verb.
        match renamed.matches('`').count() % 2 {
            0 => renamed += &format!("`{}`", flag.replace('-', "_")),
            _ => renamed += &format!("--{flag}"),
        }
        renamed += rest;
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_as_keys() {
        assert_eq!(
            without_flags("or those of --start-from, or `train --set`; half-open"),
            "or those of `start_from`, or `train --set`; half-open"
        );
        let schema = schema().to_string();
        assert!(
            !schema.replace("train --set", "").contains("--"),
            "{schema}"
        );
    }

    #[test]
    fn what_cannot_be_is_told_with_line_and_key() {
        let said = |more: &str| {
            let text = format!(
                "format_version = 1\nname = \"x\"\n[embed]\nimages = \"a\"\nmodel = \"m\"\n{more}"
            );
            let error = CondenseRecipe::parse(Path::new("x.toml"), &text).unwrap_err();
            format!("{error:#}")
        };
        assert_eq!(
            said("[coreset]\ntreshold = 0.9"),
            "x.toml: line 7: unknown key `treshold`; the nearest known one is `threshold`"
        );
        let range = said("[coreset]\nscore_window = \"60-40\"");
        assert!(range.starts_with("x.toml: line 7: ") && range.contains("40-60"));
        assert!(said("batch = 0").starts_with("x.toml: line 6: "));
        let threshold = said("[coreset]\nthreshold = 2.0");
        assert!(threshold.starts_with("x.toml: [coreset]: --threshold: "));
    }
}
