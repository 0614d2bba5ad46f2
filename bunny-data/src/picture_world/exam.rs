//! The questions of the test, and reading them back.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Part;
use super::ask::QuestionKind;
use super::general;
use super::paint::Finish;
use super::scene::Scene;
use super::theme::{Beside, theme};
use super::vocabulary::World;
use super::write::FORMAT_VERSION;
use crate::error::{DataError, Result};

/// A question of `test.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestQuestion {
    /// Its name.
    pub id: String,
    /// Its picture below `test/images`; `None` for a question without one.
    pub image: Option<String>,
    /// What it is about: a [`QuestionKind`]'s name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The question, with its request for a short answer.
    pub question: String,
    /// The answer in the short form.
    pub answer: String,
    /// How many answers the question leaves open.
    pub choices: usize,
    /// The combination it is about, or that stands beside what it is about.
    pub combination: Option<String>,
}

/// A question with the scene of its picture, which has no name yet.
pub(super) struct Examined {
    pub question: TestQuestion,
    pub picture: Option<(Scene, Finish)>,
}

/// Question `index`. Types take turns, and the answers of a type do, so that a start of the test of
/// any length is balanced.
pub(super) fn question(seed: u64, index: u64) -> Examined {
    let kinds = QuestionKind::ALL;
    let kind = kinds[index as usize % kinds.len()];
    let turn = index / kinds.len() as u64;
    let mut dice = Part::Test.dice(seed, index);
    let (question, picture, combination) =
        match theme(kind, turn, World::Test, Beside::Seldom, &dice) {
            Some(theme) => {
                let finish = Finish::draw(&mut dice);
                let combination = theme.combination.to_string();
                (
                    theme.question,
                    Some((theme.scene, finish)),
                    Some(combination),
                )
            }
            None => (general::question(World::Test, &mut dice), None, None),
        };
    Examined {
        question: TestQuestion {
            id: format!("{kind}_{turn:06}"),
            image: None,
            kind: kind.name().to_owned(),
            question: question.brief(&mut dice),
            answer: question.short,
            choices: question.choices,
            combination,
        },
        picture,
    }
}

/// The test of a folder that [`write_world`](super::write_world) wrote.
///
/// # Errors
/// When files are missing or broken, or are of a later layout.
pub fn open_test(folder: impl AsRef<Path>) -> Result<Vec<TestQuestion>> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let folder = folder.as_ref();
    let manifest = folder.join("manifest.json");
    let Version { format_version } = read(&manifest, "the manifest of a picture world")?;
    if format_version > FORMAT_VERSION {
        return Err(DataError::Newer {
            path: manifest,
            found: format_version,
            known: FORMAT_VERSION,
        });
    }
    read(
        &folder.join("test.json"),
        "the questions of a picture world",
    )
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T> {
    let bytes = fs::read(path).map_err(DataError::io(path, "read"))?;
    serde_json::from_slice(&bytes).map_err(|source| DataError::Json {
        path: path.to_owned(),
        expected,
        source,
    })
}
