//! A training recipe: stages and their numbers, under the names of the reference's scripts.
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
//!
//! Two more stages make the parts that a Bunny is made of, where they are not taken from others:
//! `[language]` and `[contrastive]`; the later stages find what these have made by themselves.

mod bunny;
mod contrastive;
mod keys;
mod language;
mod named;
mod schema;
mod training;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bunny_base::escape::for_message;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use bunny::{BunnyRecipe, LossAverage};
pub use contrastive::{ContrastiveRecipe, TextSizes, VisionSizes};
pub use language::{LanguageRecipe, PhiSizes};
pub use schema::schema;
pub use training::{Optim, PicturePolicy, Reporter, SchedulerKind, TrainingArguments};

use keys::{Fault, Keys, unknown_key};

use crate::trainable::TrainableParts;

/// The version of the format that this code reads and writes.
pub const FORMAT_VERSION: i64 = 1;

/// A stage of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StageKind {
    /// A tokenizer and a language model are made from texts.
    Language,
    /// A vision tower is made from pictures and captions.
    Contrastive,
    /// The projector learns from captions.
    Pretrain,
    /// The language model, or adapters beside it, and the projector learn from conversations.
    Finetune,
}

impl StageKind {
    /// All of them, in order: the tower's captions are read with the language model's tokenizer.
    pub const ALL: [Self; 4] = [
        Self::Language,
        Self::Contrastive,
        Self::Pretrain,
        Self::Finetune,
    ];

    /// Its name in recipes and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Contrastive => "contrastive",
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

/// The keys of a stage of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum StageRecipe {
    /// `[language]`.
    Language(LanguageRecipe),
    /// `[contrastive]`.
    Contrastive(ContrastiveRecipe),
    /// `[pretrain]` or `[finetune]`.
    Bunny(BunnyRecipe),
}

impl StageRecipe {
    fn keys(kind: StageKind) -> Vec<String> {
        match kind {
            StageKind::Language => LanguageRecipe::keys(),
            StageKind::Contrastive => ContrastiveRecipe::keys(),
            StageKind::Pretrain | StageKind::Finetune => BunnyRecipe::keys(),
        }
    }

    fn from_table(kind: StageKind, table: Table) -> Result<Self, Fault> {
        Ok(match kind {
            StageKind::Language => {
                let stage = LanguageRecipe::from_table(table)?;
                stage.check()?;
                Self::Language(stage)
            }
            StageKind::Contrastive => {
                let stage = ContrastiveRecipe::from_table(table)?;
                stage.check()?;
                Self::Contrastive(stage)
            }
            StageKind::Pretrain | StageKind::Finetune => {
                let mut stage = BunnyRecipe::from_table(table)?;
                stage.fill(kind);
                stage.check()?;
                Self::Bunny(stage)
            }
        })
    }

    /// Takes paths that lead nowhere from here to start in `folder`, where they do lead to something.
    fn find_beside(&mut self, folder: &Path) {
        let found = |path: &Path| beside(folder, path);
        let find = |path: &mut PathBuf| *path = found(path).unwrap_or_else(|| path.clone());
        // A model may also be named by an id.
        let find_model = |name: &mut String| {
            if let Some(path) = found(Path::new(&*name)) {
                *name = path.to_string_lossy().into_owned();
            }
        };
        let training = match self {
            Self::Language(stage) => {
                stage.tokenizer.iter_mut().for_each(find);
                &mut stage.training
            }
            Self::Contrastive(stage) => {
                stage.tokenizer.iter_mut().for_each(find);
                stage.image_folder.iter_mut().for_each(find);
                &mut stage.training
            }
            Self::Bunny(stage) => {
                stage.image_folder.iter_mut().for_each(find);
                find_model(&mut stage.model_name_or_path);
                let others = [
                    &mut stage.vision_tower,
                    &mut stage.pretrain_mm_mlp_adapter,
                    &mut stage.init_adapter,
                ];
                others.into_iter().flatten().for_each(find_model);
                &mut stage.training
            }
        };
        find(&mut training.data_path);
        training.eval_data_path.iter_mut().for_each(find);
    }

    /// What every stage is told.
    pub fn training(&self) -> &TrainingArguments {
        match self {
            Self::Language(stage) => &stage.training,
            Self::Contrastive(stage) => &stage.training,
            Self::Bunny(stage) => &stage.training,
        }
    }

    /// The folder or archive of its pictures, if it has any.
    pub fn image_folder(&self) -> Option<&Path> {
        match self {
            Self::Language(_) => None,
            Self::Contrastive(stage) => stage.image_folder.as_deref(),
            Self::Bunny(stage) => stage.image_folder.as_deref(),
        }
    }
}

/// A recipe: one stage or several.
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
    #[error("{}: line {line}: {}", file.display(), for_message(problem))]
    Toml {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A value or a key cannot be used.
    #[error("{}: {}: {}", file.display(), for_message(place), for_message(problem))]
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
    /// An override is for a stage that there is not.
    #[error("{}", no_stage(stage))]
    StageRecipe {
        /// What was given.
        stage: String,
    },
}

/// A value that replaces one of a recipe: `finetune.learning_rate=1e-4`,
/// `language.model.hidden_size=96`, or, for all stages that know the key, `seed=7`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    stage: Option<StageKind>,
    key: String,
    value: Value,
}

impl Override {
    /// A text for a key of a stage.
    pub fn text(stage: StageKind, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            stage: Some(stage),
            key: key.into(),
            value: Value::String(text.into()),
        }
    }

    /// Puts the value in its place, which may be within a table of the stage.
    fn apply(&self, table: &mut Table) {
        let (mut table, mut key) = (table, self.key.as_str());
        while let Some((outer, inner)) = key.split_once('.') {
            let slot = table
                .entry(outer)
                .or_insert_with(|| Value::Table(Table::new()));
            if !slot.is_table() {
                *slot = Value::Table(Table::new());
            }
            let Value::Table(next) = slot else { return };
            (table, key) = (next, inner);
        }
        table.insert(key.to_owned(), self.value.clone());
    }
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
                let unknown = || RecipeError::StageRecipe {
                    stage: stage.to_owned(),
                };
                (Some(known.ok_or_else(unknown)?), key)
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
    /// Reads a recipe, with `overrides` in the place of its own values. Paths start in the current folder,
    /// or, where nothing is there, in the recipe's.
    ///
    /// # Errors
    /// When the file cannot be read, or holds a key or a value that cannot be used.
    pub fn read(file: impl AsRef<Path>, overrides: &[Override]) -> Result<Self, RecipeError> {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file).map_err(|source| RecipeError::Read {
            file: file.to_path_buf(),
            source,
        })?;
        let mut recipe = Self::parse(file, &text, overrides)?;
        if let Some(folder) = file.parent() {
            let stages = recipe.stages.iter_mut();
            stages.for_each(|(_, stage)| stage.find_beside(folder));
        }
        Ok(recipe)
    }

    /// As [`Recipe::read`], from text that lies nowhere; `file` is named in errors.
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
        let kinds: Vec<StageKind> = stages.iter().map(|(kind, _)| *kind).collect();
        check_shared(&kinds, &table, overrides).map_err(|(place, problem)| {
            field(
                match place.trim_start_matches('.') {
                    "" => "recipe",
                    place => place,
                },
                problem,
            )
        })?;
        let stages = stages.into_iter().map(|(kind, own)| {
            let known = StageRecipe::keys(kind);
            let mut all = table.clone();
            all.retain(|key, _| known.iter().any(|known| known == key));
            all.extend(own);
            for change in overrides {
                let shared = change.stage.is_none() && known.contains(&change.key);
                if shared || change.stage == Some(kind) {
                    change.apply(&mut all);
                }
            }
            let stage = StageRecipe::from_table(kind, all)
                .and_then(|stage| check_sources(kind, stage, &kinds))
                .map_err(|(place, problem)| field(&format!("{kind}{place}"), problem))?;
            Ok((kind, stage))
        });
        Ok(Self {
            name,
            origin: file.to_path_buf(),
            stages: stages.collect::<Result<_, _>>()?,
        })
    }

    /// Where its stages' folders go unless something else is said.
    pub fn folder(&self) -> PathBuf {
        Path::new("runs").join(&self.name)
    }

    /// The same with stages that take what an earlier one has made finding it in `out`, where each
    /// stage has a folder of its name, unless they name something else. A `pretrain` in which more
    /// than the projector learns leaves a whole model, which `finetune` then starts from.
    #[must_use]
    pub fn with_results_in(mut self, out: &Path) -> Self {
        let has = |wanted| self.stages.iter().any(|(kind, _)| *kind == wanted);
        let made = |kind: StageKind| has(kind).then(|| out.join(kind.name()));
        let language = made(StageKind::Language);
        let tower = made(StageKind::Contrastive);
        let pretrain = made(StageKind::Pretrain);
        let is_whole = self.stages.iter().any(|(kind, stage)| match stage {
            StageRecipe::Bunny(stage) => {
                *kind == StageKind::Pretrain && stage.trainable_parts() != TrainableParts::PRETRAIN
            }
            _ => false,
        });
        for (kind, stage) in &mut self.stages {
            match stage {
                StageRecipe::Language(_) => {}
                StageRecipe::Contrastive(stage) => {
                    stage.tokenizer = stage.tokenizer.take().or_else(|| language.clone());
                }
                StageRecipe::Bunny(stage) => {
                    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
                    if let (true, Some(language)) = (stage.model_name_or_path.is_empty(), &language)
                    {
                        stage.model_name_or_path = text(language);
                    }
                    stage.vision_tower = stage
                        .vision_tower
                        .take()
                        .or_else(|| tower.as_ref().map(text));
                    if let (StageKind::Finetune, Some(pretrain)) = (*kind, &pretrain) {
                        match is_whole {
                            true => stage.model_name_or_path = text(pretrain),
                            false => {
                                stage
                                    .pretrain_mm_mlp_adapter
                                    .get_or_insert_with(|| text(pretrain));
                            }
                        }
                    }
                }
            }
        }
        self
    }

    /// The recipe of `bunny-phi-2-siglip`, over `data/` in the published layout.
    ///
    /// # Errors
    /// When `overrides` cannot be used.
    pub fn built_in(overrides: &[Override]) -> Result<Self, RecipeError> {
        let text = include_str!("../recipes/bunny-phi-2-siglip.toml");
        Self::parse("bunny-phi-2-siglip.toml (built in)", text, overrides)
    }
}

/// `path` in `folder`, if there is something, and nothing where `path` leads from here.
pub fn beside(folder: &Path, path: &Path) -> Option<PathBuf> {
    let there = folder.join(path);
    let is_named = !path.as_os_str().is_empty() && path.is_relative();
    (is_named && !path.exists() && there.exists()).then_some(there)
}

/// What is said of a stage that there is not.
fn no_stage(given: &str) -> String {
    let names = StageKind::ALL.map(StageKind::name).join(", ");
    format!("there is no stage `{given}`; stages are {names}")
}

/// Keys above the stages, and overrides for all of them, are known to a stage at least; overrides for
/// one stage are for one that the recipe has.
fn check_shared(kinds: &[StageKind], table: &Table, overrides: &[Override]) -> Result<(), Fault> {
    let keys: Vec<String> = kinds
        .iter()
        .flat_map(|kind| StageRecipe::keys(*kind))
        .collect();
    let stages = StageKind::ALL.iter().map(|kind| kind.name());
    let known: Vec<&str> = keys.iter().map(String::as_str).chain(stages).collect();
    let is_unknown = |key: &&String| !known.contains(&key.as_str());
    // A table above the stages can only be meant for one of them. It is looked for first: without it
    // keys of its own are unknown as well.
    let mut tables = table.iter().filter(|(_, value)| value.is_table());
    if let Some((stage, _)) = tables.find(|(key, _)| is_unknown(key)) {
        return Err((String::new(), no_stage(stage)));
    }
    if kinds.is_empty() {
        let problem = "has none of [language], [contrastive], [pretrain], [finetune]";
        return Err((String::new(), problem.into()));
    }
    let absent = overrides.iter().find_map(|change| {
        let stage = change.stage.filter(|stage| !kinds.contains(stage))?;
        Some((stage, &change.key))
    });
    if let Some((stage, key)) = absent {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let problem = format!(
            "this recipe has no stage {stage} for it; it has {}",
            kinds.join(", ")
        );
        return Err((format!(".{stage}.{key}"), problem));
    }
    let shared = overrides.iter().filter(|change| change.stage.is_none());
    let mut keys = table.keys().chain(shared.map(|change| &change.key));
    match keys.find(is_unknown) {
        Some(unknown) => Err(unknown_key(unknown, &known)),
        None => Ok(()),
    }
}

/// What a stage starts from is named, or made by an earlier stage.
fn check_sources(
    kind: StageKind,
    stage: StageRecipe,
    kinds: &[StageKind],
) -> Result<StageRecipe, Fault> {
    if let StageRecipe::Bunny(bunny) = &stage
        && bunny.lora_enable
        && kind == StageKind::Pretrain
        && kinds.contains(&StageKind::Finetune)
    {
        let problem = "leaves adapters, which [finetune] does not start from: leave it out here";
        return Err((".lora_enable".into(), problem.into()));
    }
    if kinds.contains(&StageKind::Language) {
        return Ok(stage);
    }
    let missing = |key: &str, what: &str| {
        Err((
            format!(".{key}"),
            format!("is missing: name {what}, or make one in a stage [language]"),
        ))
    };
    match &stage {
        StageRecipe::Bunny(bunny) if bunny.model_name_or_path.is_empty() => {
            missing("model_name_or_path", "the language model")
        }
        StageRecipe::Contrastive(contrastive) if contrastive.tokenizer.is_none() => {
            missing("tokenizer", "a folder with a tokenizer")
        }
        _ => Ok(stage),
    }
}

#[cfg(test)]
mod tests;
