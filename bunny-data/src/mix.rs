//! Mixes: one training file made of several, as a recipe says.
//!
//! ```toml
//! format_version = 1
//! name = "bunny-695k"
//! expect = [694_610, 694_611]
//!
//! [[source]]
//! name = "svit"
//! path = "SVIT_mix_665K.json"
//! expect = 665_298
//! replace = { where = { image = false }, by = "wizardlm", expect = 40_688 }
//!
//! [[source]]
//! name = "wizardlm"
//! path = "alpaca_evol_instruct_70k.json"
//! format = "alpaca"
//! expect = 70_000
//! ```
//!
//! Records stream from the sources to the output; only their numbers are held. The same recipe and
//! inputs give the same bytes.

pub mod boxes;
mod convert;
pub mod dataoptim;
mod recipe;
mod select;
mod write;

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::error::{CountDifference, DataError, Result};
use crate::images::ImageSource;
use crate::record::RecordFile;
use crate::schema::toml_schema;

pub use recipe::{
    BoxConversion, Expected, Filter, MixOrder, MixRecipe, MixSource, Replace, SourceFormat, Take,
};
pub use write::{Manifest, ManifestOutput, ManifestSource};

/// The JSON schema of a mix's file, made of the types that read it.
pub fn schema() -> Value {
    toml_schema::<MixRecipe>()
}

/// A recipe whose sources are open and counted, ready to be written.
#[derive(Debug)]
pub struct Mix {
    recipe: MixRecipe,
    sources: Vec<Source>,
    images: Option<ImageSource>,
    /// What is written, in the order of the recipe.
    parts: Vec<Part>,
    differences: Vec<CountDifference>,
}

#[derive(Debug)]
struct Source {
    spec: MixSource,
    file: RecordFile,
}

/// Records of one source, by number, in the order in which they are appended.
#[derive(Debug)]
struct Part {
    source: usize,
    picks: Vec<u32>,
}

/// How many records one source gives to a mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// The source's name in the recipe.
    pub source: String,
    /// Records in its file.
    pub records: usize,
    /// Records it gives, repeats counted.
    pub used: usize,
}

impl Mix {
    /// Opens the sources of `recipe` below the folder `data` and works out which records are used.
    /// `images` is needed where boxes are converted, for the sizes of their pictures.
    ///
    /// # Errors
    /// [`DataError::Recipe`] for a recipe that contradicts itself, and whatever opening and reading
    /// the sources gives. Counts that differ from the recipe's are not an error here: see
    /// [`differences`](Self::differences).
    pub fn open(
        recipe: MixRecipe,
        data: impl AsRef<Path>,
        images: Option<ImageSource>,
    ) -> Result<Self> {
        recipe.check()?;
        if images.is_none()
            && let Some(source) = recipe.sources.iter().find(|source| source.boxes.is_some())
        {
            return Err(recipe.wrong(
                &source.name,
                "boxes need the pictures' sizes: give the image folder",
            ));
        }
        let sources = recipe
            .sources
            .iter()
            .map(|spec| {
                let file = RecordFile::open(data.as_ref().join(recipe.file(spec)?))?;
                if u32::try_from(file.len()).is_err() {
                    return Err(recipe.wrong(&spec.name, "has more than 2^32 records"));
                }
                Ok(Source {
                    spec: spec.clone(),
                    file,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut mix = Self {
            recipe,
            sources,
            images,
            parts: Vec::new(),
            differences: Vec::new(),
        };
        mix.count_sources()?;
        mix.select()?;
        let (expect, total) = (mix.recipe.expect.clone(), mix.len());
        mix.compare("the mix", "records in all", expect.as_ref(), total);
        Ok(mix)
    }

    /// Records of the mix.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.picks.len()).sum()
    }

    /// Whether the mix is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the inputs differ from what the recipe expects of them.
    pub fn differences(&self) -> &[CountDifference] {
        &self.differences
    }

    /// What each source holds and gives.
    pub fn counts(&self) -> Vec<SourceCount> {
        let count = |(at, source): (usize, &Source)| SourceCount {
            source: source.spec.name.clone(),
            records: source.file.len(),
            used: self
                .parts
                .iter()
                .filter(|part| part.source == at)
                .map(|part| part.picks.len())
                .sum(),
        };
        self.sources.iter().enumerate().map(count).collect()
    }

    /// Compares the files with what the recipe says of them, before anything is taken from them.
    fn count_sources(&mut self) -> Result<()> {
        for at in 0..self.sources.len() {
            let MixSource {
                name,
                expect,
                expect_roots,
                ..
            } = self.sources[at].spec.clone();
            self.compare(
                &name,
                "records",
                expect.as_ref(),
                self.sources[at].file.len(),
            );
            if expect_roots.is_empty() {
                continue;
            }
            let roots = self.sources[at].count_roots()?;
            let mut names: Vec<&String> = expect_roots.keys().chain(roots.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for root in names {
                let expected = Expected::from(expect_roots.get(root).copied().unwrap_or(0));
                let what = format!("records with pictures below `{root}/`");
                let what = if root.is_empty() {
                    "records without pictures"
                } else {
                    &what
                };
                self.compare(
                    &name,
                    what,
                    Some(&expected),
                    roots.get(root).copied().unwrap_or(0),
                );
            }
        }
        Ok(())
    }

    fn compare(&mut self, source: &str, what: &str, expected: Option<&Expected>, found: usize) {
        if let Some(expected) = expected.filter(|expected| !expected.allows(found)) {
            self.differences.push(CountDifference {
                source: source.to_owned(),
                what: what.to_owned(),
                found,
                expected: expected.0.clone(),
            });
        }
    }

    /// Refuses counts that differ, unless they are accepted.
    fn check_counts(&self, accept: bool) -> Result<()> {
        if accept || self.differences.is_empty() {
            return Ok(());
        }
        Err(DataError::Counts {
            recipe: self.recipe.name.clone(),
            differences: self.differences.clone(),
        })
    }
}

/// Goes over numbers in parallel, in order, a piece at a time.
fn in_pieces<T: Send>(
    count: usize,
    piece: usize,
    each: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    for start in (0..count).step_by(piece) {
        let end = (start + piece).min(count);
        let results: Vec<Result<T>> = (start..end).into_par_iter().map(&each).collect();
        for result in results {
            take(result?)?;
        }
    }
    Ok(())
}
