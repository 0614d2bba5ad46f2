//! What a mix's TOML says, typed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::boxes::BoxSpace;
use super::dataoptim;
use crate::error::{DataError, Result};
use crate::images::is_whole_name;
use crate::toml_text::parse_toml;

/// The version of the recipe format that this code reads.
pub const FORMAT_VERSION: u32 = 1;

/// A mix: what it is made of, in which order, and how many records that has to give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixRecipe {
    /// 1.
    pub format_version: u32,
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// How the sources follow each other; one after another unless said otherwise.
    #[serde(default)]
    pub order: MixOrder,
    /// The seed of the shuffle, of random takes and of the part of a fractional repeat.
    #[serde(default)]
    pub seed: u64,
    /// How many records the whole mix has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
    /// How many records to draw in all, where sources have a `weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What it is made of.
    #[serde(rename = "source")]
    pub sources: Vec<MixSource>,
}

/// How the sources of a mix follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MixOrder {
    /// One after another, each in its own order.
    #[default]
    Append,
    /// All shuffled together, by `seed`.
    Shuffle,
}

/// One source: a file, how it is read, and what of it is used.
///
/// What is used is worked out in this order: `filter`, `replace`, `take`, then `repeat` or `weight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixSource {
    /// Its name, which messages and the manifest use.
    pub name: String,
    /// The file, below the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A dataset of DataOptim instead of a `path`, by the name of its file: `"gqa"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataoptim: Option<String>,
    /// How its records are written.
    #[serde(default)]
    pub format: SourceFormat,
    /// Gives its records new ids: this and the record's number in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    /// The folder to put before its image paths: `"coco"`, or `"coco/"`. Where boxes are converted,
    /// a picture is looked up with it first, then without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_root: Option<String>,
    /// Boxes to convert in what is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boxes: Option<BoxConversion>,
    /// Which records are used at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Records to leave out for those of another source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// How many of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "take"
    )]
    pub take: Option<Take>,
    /// How often each is used: 2 is twice, 1.5 is once and a random half of them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<f64>,
    /// Its share of the recipe's `total`, relative to the weights of the other sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// How many records the file has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
    /// How many of its records have pictures below each folder; `""` counts those without one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect_roots: BTreeMap<String, usize>,
}

/// How the records of a source are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceFormat {
    /// `{"id", "image", "conversations"}`
    #[default]
    Llava,
    /// `{"instruction", "input", "output"}`
    Alpaca,
}

/// Boxes `[x1, y1, x2, y2]` to convert from one space to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoxConversion {
    /// What they are relative to.
    pub from: BoxSpace,
    /// What they shall be relative to.
    pub to: BoxSpace,
}

/// Which records: all that is said has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// With a picture, or without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<bool>,
    /// With pictures below this folder, as the source names them: `"coco"`, `"coco/train2017/"`. The
    /// first picture counts; `"."` is for names without a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_root: Option<String>,
    /// Whose id starts so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// With this field, whatever its value (`"model"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<String>,
    /// Without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// With at least so many turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_turns: Option<usize>,
    /// With at most so many turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<usize>,
    /// With at most so many words, all turns together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_words: Option<usize>,
}

/// Leaves out one part of a source for all that another source gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// Which records are left out.
    #[serde(rename = "where")]
    pub filter: Filter,
    /// The source that comes in their stead, behind the rest of this one.
    pub by: String,
    /// How many are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
}

/// How many records of a source are used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Take {
    /// So many from its start.
    First(usize),
    /// So many by chance, in the order of the file.
    Random(usize),
    /// A part from 0 to 1 by chance, in the order of the file.
    Fraction(f64),
}

/// Reads a [`Take`]: as a table first, since of anything else TOML says neither the key nor an example.
fn take<'de, D: Deserializer<'de>>(given: D) -> std::result::Result<Option<Take>, D::Error> {
    let table = toml::Table::deserialize(given).map_err(|_| {
        D::Error::custom(
            "`take` is written as { first = 500 }, { random = 500 } or { fraction = 0.1 }",
        )
    })?;
    let take = Take::deserialize(toml::Value::Table(table));
    take.map(Some)
        .map_err(|error| D::Error::custom(error.message()))
}

/// A count, or the counts that are known for one thing: public figures may disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "OneOrMore", into = "OneOrMore")]
pub struct Expected(pub Vec<usize>);

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`expect` is written as a count, 500, or as a list of counts, [500, 501]"
)]
enum OneOrMore {
    One(usize),
    More(Vec<usize>),
}

impl From<OneOrMore> for Expected {
    fn from(counts: OneOrMore) -> Self {
        match counts {
            OneOrMore::One(count) => Self(vec![count]),
            OneOrMore::More(counts) => Self(counts),
        }
    }
}

impl From<Expected> for OneOrMore {
    fn from(expected: Expected) -> Self {
        match expected.0[..] {
            [count] => Self::One(count),
            _ => Self::More(expected.0),
        }
    }
}

impl From<usize> for Expected {
    fn from(count: usize) -> Self {
        Self(vec![count])
    }
}

impl Expected {
    /// Whether `count` is one of the counts.
    pub fn allows(&self, count: usize) -> bool {
        self.0.contains(&count)
    }
}

impl MixRecipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// [`DataError::Io`], and [`DataError::Toml`] with the line; an unknown key is named with the
    /// nearest known one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(DataError::io(path, "read"))?;
        Self::parse(path, &text)
    }

    /// As [`MixRecipe::read`], from text; `path` is named in errors.
    ///
    /// # Errors
    /// As [`MixRecipe::read`].
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let recipe: Self = parse_toml(path, text)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Checks what the types cannot say.
    pub(super) fn check(&self) -> Result<()> {
        if self.format_version != FORMAT_VERSION {
            return Err(self.wrong(
                "format_version",
                "this program reads version 1; a newer one may read it",
            ));
        }
        if self.sources.is_empty() {
            return Err(self.wrong("source", "a mix needs at least one `[[source]]`"));
        }
        let weighted = self
            .sources
            .iter()
            .filter(|source| source.weight.is_some())
            .count();
        if weighted > 0 && (weighted != self.sources.len() || self.total.is_none()) {
            return Err(self.wrong(
                "weight",
                "either every source has one, and the recipe a `total`, or none",
            ));
        }
        if self.total.is_some() && weighted == 0 {
            return Err(self.wrong("total", "needs a `weight` in every source"));
        }
        for (at, source) in self.sources.iter().enumerate() {
            let wrong = |what| Err(self.wrong(&source.name, what));
            if self.sources[..at]
                .iter()
                .any(|other| other.name == source.name)
            {
                return wrong("two sources have this name");
            }
            if source.path.is_some() == source.dataoptim.is_some() {
                return wrong("needs either a `path` or a `dataoptim`");
            }
            self.file(source)?;
            if let Some(replace) = &source.replace {
                let Some(by) = self.sources.iter().find(|other| other.name == replace.by) else {
                    return wrong("`replace.by` names no source of this recipe");
                };
                if by.name == source.name || by.replace.is_some() {
                    return wrong("`replace.by` has to be a source that replaces nothing itself");
                }
                if self.sources[..at]
                    .iter()
                    .filter_map(|other| other.replace.as_ref())
                    .any(|other| other.by == replace.by)
                {
                    return wrong("`replace.by` names a source that replaces elsewhere already");
                }
                if weighted > 0 {
                    return wrong("`replace` and `weight` do not go together");
                }
            }
            if source.repeat.is_some() && source.weight.is_some() {
                return wrong("`repeat` and `weight` do not go together");
            }
            let number =
                |value: Option<f64>| value.is_none_or(|value| (0.0..=1e6).contains(&value));
            if !number(source.repeat) || !number(source.weight) {
                return wrong("`repeat` and `weight` go from 0 to a million");
            }
            if matches!(source.take, Some(Take::Fraction(part)) if !(0.0..=1.0).contains(&part)) {
                return wrong("`take.fraction` goes from 0 to 1");
            }
        }
        if weighted > 0 && self.sources.iter().all(|source| source.weight == Some(0.0)) {
            return Err(self.wrong("weight", "at least one has to be above 0"));
        }
        Ok(())
    }

    /// The file of a source, below the data folder.
    pub(super) fn file(&self, source: &MixSource) -> Result<PathBuf> {
        if let Some(path) = &source.path {
            return Ok(path.clone());
        }
        let name = source.dataoptim.as_deref().unwrap_or_default();
        let (_, file) = dataoptim::find(name).ok_or_else(|| {
            self.wrong(
                &format!("{}: dataoptim = \"{name}\"", source.name),
                "is no file of DataOptim; see the registry `mix::dataoptim`",
            )
        })?;
        Ok(file.into())
    }

    /// An error about one field or source of this recipe.
    pub(super) fn wrong(&self, field: &str, what: &'static str) -> DataError {
        DataError::Recipe {
            recipe: self.name.clone(),
            field: field.to_owned(),
            what,
        }
    }
}

impl MixSource {
    /// An image path of this source as it stands in the mix.
    pub(super) fn rooted(&self, path: &str) -> String {
        match self.image_root.as_deref() {
            // What says itself where it is lies below no folder.
            _ if is_whole_name(path) => path.to_owned(),
            None | Some("") => path.to_owned(),
            Some(root) if root.ends_with('/') => format!("{root}{path}"),
            Some(root) => format!("{root}/{path}"),
        }
    }
}
