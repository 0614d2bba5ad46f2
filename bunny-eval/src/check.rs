//! What of a benchmark is there, and what is wrong with it: a dry pass before a model is loaded.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::benchmark::Benchmark;
use crate::error::Result;
use crate::facts::blob_id;
use crate::folder::Folder;
use crate::picture::Pictures;
use crate::score::Suite;

/// Which of a benchmark's files is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// The file or folder.
    pub name: &'static str,
    /// Where it was found; `None` where it was not.
    pub place: Option<PathBuf>,
    /// Whether its content is the published one, where that is known and the file is there.
    pub as_published: Option<bool>,
}

/// What a dry pass over a benchmark found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// Where it was looked for.
    pub folder: PathBuf,
    /// Its files.
    pub files: Vec<FileState>,
    /// How many questions there are.
    pub questions: usize,
    /// How many pictures they are about.
    pub pictures: usize,
    /// How many of those are not there.
    pub missing_pictures: usize,
    /// The first of those.
    pub first_missing: Vec<String>,
    /// What keeps it from being asked or scored.
    pub problems: Vec<String>,
    /// What is other than published, and may be meant so.
    pub remarks: Vec<String>,
}

/// Missing pictures that are named.
const NAMED: usize = 5;

/// Which of a benchmark's files are in a folder, and with `hash` whether they are as published.
///
/// # Errors
/// When the folder or an archive in it cannot be read.
pub fn files(benchmark: Benchmark, folder: &Folder, hash: bool) -> Result<Vec<FileState>> {
    let state = |file: &crate::facts::PublishedFile| {
        let name = file.name;
        let is_there = match name.strip_suffix('/') {
            Some(inner) => !folder.list(inner)?.is_empty(),
            None => folder.has(name)?,
        };
        let place = is_there.then(|| match name.strip_suffix('/') {
            Some(inner) => Ok(folder.path().join(inner)),
            None => folder.place(name),
        });
        let as_published = match file.blob.filter(|_| hash && is_there) {
            Some(blob) => folder.read(name)?.map(|bytes| blob_id(&bytes) == blob),
            None => None,
        };
        Ok(FileState {
            name,
            place: place.transpose()?,
            as_published,
        })
    };
    benchmark.facts().files.iter().map(state).collect()
}

/// Looks a benchmark over: its questions, right answers and pictures, and how many they are.
///
/// # Errors
/// When the folder cannot be read; what is wrong with its files is in the result.
pub fn check(benchmark: Benchmark, folder: Folder) -> Result<Check> {
    let mut check = Check {
        benchmark,
        folder: folder.path().to_owned(),
        files: files(benchmark, &folder, true)?,
        questions: 0,
        pictures: 0,
        missing_pictures: 0,
        first_missing: Vec::new(),
        problems: Vec::new(),
        remarks: Vec::new(),
    };
    let changed = check
        .files
        .iter()
        .filter(|file| file.as_published == Some(false));
    check
        .remarks
        .extend(changed.map(|file| format!("{} is not the published file", file.name)));
    // Right answers are read as the scorer reads them: what it would refuse is found here.
    let questions = match Suite::read(benchmark, folder) {
        Ok(suite) => suite,
        Err(error) => {
            check.problems.push(error.to_string());
            return Ok(check);
        }
    };
    check.look_at_pictures(&questions)?;
    check.count();
    Ok(check)
}

impl Check {
    fn look_at_pictures(&mut self, suite: &Suite) -> Result<()> {
        self.questions = suite.questions().len();
        let pictures = Pictures::new(suite.folder());
        let mut seen = HashSet::new();
        for picture in suite
            .questions()
            .iter()
            .flat_map(|question| &question.pictures)
        {
            if !seen.insert(&picture.place) {
                continue;
            }
            self.pictures += 1;
            if !pictures.has(picture)? {
                self.missing_pictures += 1;
                if self.first_missing.len() < NAMED {
                    self.first_missing.push(picture.name.clone());
                }
            }
        }
        if self.missing_pictures > 0 {
            self.problems.push(format!(
                "{} of {} pictures are not there, such as {}",
                self.missing_pictures,
                self.pictures,
                self.first_missing.join(", ")
            ));
        }
        Ok(())
    }

    fn count(&mut self) {
        let facts = self.benchmark.facts();
        for (what, found, published) in [
            ("questions", self.questions, facts.questions),
            ("pictures", self.pictures, facts.pictures),
        ] {
            if let Some(published) = published.filter(|published| *published != found) {
                self.remarks
                    .push(format!("{found} {what}; {published} are published"));
            }
        }
    }
}
