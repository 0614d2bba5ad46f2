//! A training recipe: the two stages and their numbers, under the names of the reference's scripts.
//!
//! ```toml
//! format_version = 1
//! name = "bunny-phi-2-siglip"
//! model_name_or_path = "microsoft/phi-2"        # above the stages: for both of them
//! vision_tower = "google/siglip-so400m-patch14-384"
//!
//! [pretrain]
//! data_path = "data/pretrain/bunny_pretrain_laion_2m.json"
//! learning_rate = 5e-4
//!
//! [finetune]
//! data_path = "data/finetune/bunny_695k.json"
//! lora_enable = true
//! learning_rate = 2e-4
//! mm_projector_lr = 2e-5
//! ```

mod keys;
mod stage;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use stage::{LossAverage, StageRecipe};

/// The version of the format that this code reads and writes.
pub const FORMAT_VERSION: i64 = 1;

/// A stage of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// The projector learns from captions.
    Pretrain,
    /// The language model, or adapters beside it, and the projector learn from conversations.
    Finetune,
}

impl StageKind {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Pretrain, Self::Finetune];

    /// Its name in recipes and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A recipe: one or both stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Where it was read from.
    pub origin: PathBuf,
    /// The stages it has, in order.
    pub stages: Vec<(StageKind, StageRecipe)>,
}

/// Why a recipe cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: line {line}: {problem}", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A value or a key cannot be used.
    #[error("{}: {place}: {problem}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The stage, and the key where it is known.
        place: String,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// An override is not of the form `stage.key=value`.
    #[error("`{given}` is no override: write stage.key=value, as in finetune.learning_rate=1e-4")]
    Override {
        /// What was given.
        given: String,
    },
}

/// A value that replaces one of a recipe: `finetune.learning_rate=1e-4`, or, for both stages,
/// `seed=7`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    stage: Option<StageKind>,
    key: String,
    value: Value,
}

impl FromStr for Override {
    type Err = RecipeError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let wrong = || RecipeError::Override {
            given: given.to_owned(),
        };
        let (name, value) = given.split_once('=').ok_or_else(wrong)?;
        let (stage, key) = match name.trim().split_once('.') {
            None => (None, name.trim()),
            Some((stage, key)) => {
                let known = StageKind::ALL.into_iter().find(|kind| kind.name() == stage);
                (Some(known.ok_or_else(wrong)?), key)
            }
        };
        if key.is_empty() {
            return Err(wrong());
        }
        // A TOML value; bare words, as paths and names are given in a shell, are text.
        let value = value.trim();
        let parsed = format!("value = {value}").parse::<Table>().ok();
        let value = parsed
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self {
            stage,
            key: key.to_owned(),
            value,
        })
    }
}

impl Recipe {
    /// Reads a recipe, with `overrides` in the place of its own values.
    ///
    /// # Errors
    /// When the file cannot be read, or holds a key or a value that cannot be used.
    pub fn read(file: impl AsRef<Path>, overrides: &[Override]) -> Result<Self, RecipeError> {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file).map_err(|source| RecipeError::Read {
            file: file.to_path_buf(),
            source,
        })?;
        Self::parse(file, &text, overrides)
    }

    /// As [`Recipe::read`], from text; `file` is named in errors.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(
        file: impl AsRef<Path>,
        text: &str,
        overrides: &[Override],
    ) -> Result<Self, RecipeError> {
        let file = file.as_ref();
        let field = |place: &str, problem: String| RecipeError::Field {
            file: file.to_path_buf(),
            place: place.to_owned(),
            problem,
        };
        let mut table = text.parse::<Table>().map_err(|error| RecipeError::Toml {
            file: file.to_path_buf(),
            line: error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            problem: error.message().to_owned(),
        })?;
        match table.remove("format_version") {
            Some(Value::Integer(FORMAT_VERSION)) => {}
            Some(Value::Integer(newer)) if newer > FORMAT_VERSION => {
                let problem = format!("is {newer}; this version reads up to {FORMAT_VERSION}");
                return Err(field("format_version", problem));
            }
            _ => return Err(field("format_version", format!("must be {FORMAT_VERSION}"))),
        }
        let name = match table.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(field("name", "must be text".into())),
            None => file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        };
        let mut stages = Vec::new();
        for kind in StageKind::ALL {
            match table.remove(kind.name()) {
                None => {}
                Some(Value::Table(stage)) => stages.push((kind, stage)),
                Some(_) => return Err(field(kind.name(), "must be a table of keys".into())),
            }
        }
        if stages.is_empty() {
            return Err(field(
                "recipe",
                "has neither [pretrain] nor [finetune]".into(),
            ));
        }
        let stages = stages.into_iter().map(|(kind, own)| {
            let mut all = table.clone();
            all.extend(own);
            for Override { stage, key, value } in overrides {
                if stage.is_none_or(|stage| stage == kind) {
                    all.insert(key.clone(), value.clone());
                }
            }
            let stage = StageRecipe::from_table(kind, all)
                .map_err(|(place, problem)| field(&format!("{kind}{place}"), problem))?;
            Ok((kind, stage))
        });
        Ok(Self {
            name,
            origin: file.to_path_buf(),
            stages: stages.collect::<Result<_, _>>()?,
        })
    }

    /// The recipe of `bunny-phi-2-siglip`, over `data/` in the published layout.
    ///
    /// # Errors
    /// When `overrides` cannot be used.
    pub fn built_in(overrides: &[Override]) -> Result<Self, RecipeError> {
        let text = include_str!("../../recipes/bunny-phi-2-siglip.toml");
        Self::parse("bunny-phi-2-siglip.toml (built in)", text, overrides)
    }
}

#[cfg(test)]
mod tests;
