//! ScienceQA: school questions with two to five options, half of them with a picture.

use std::collections::HashMap;

use serde::Deserialize;

use super::loader;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::prompt::PICTURE;
use crate::python::strip;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

pub(crate) const QUESTIONS: &str = "bunny_test_CQM-A.json";
pub(crate) const PROBLEMS: &str = "problems.json";
pub(crate) const SPLITS: &str = "pid_splits.json";
const MEND: &str = "take it from the data set of ScienceQA (scienceqa.github.io)";
const FORMAT: &str = "Answer with the option's letter from the given choices directly.";

#[derive(Deserialize)]
struct Row {
    id: String,
    image: Option<String>,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    value: String,
}

pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    let rows: Vec<Row> = loader::json_of(
        folder,
        QUESTIONS,
        "ScienceQA's questions (id, conversations)",
        super::REFERENCE_FILES,
    )?;
    let each = rows.into_iter().map(|row| {
        let asked = row
            .conversations
            .first()
            .map(|turn| turn.value.as_str())
            .unwrap_or_default();
        let text = format!("{}\n{FORMAT}", strip(&asked.replace(PICTURE, "")));
        let picture = row.image.map(|name| PictureRef {
            place: PicturePlace::File(format!("test/{name}")),
            name,
        });
        Question {
            id: QuestionId::Text(row.id),
            category: String::new(),
            recorded: Some(match &picture {
                Some(_) => format!("{PICTURE}\n{text}"),
                None => text.clone(),
            }),
            text,
            pictures: picture.into_iter().collect(),
            options: Vec::new(),
        }
    });
    Ok(each.collect())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    pub choices: Vec<String>,
    /// Which of them is right, from 0.
    pub answer: usize,
    #[serde(default)]
    pub subject: String,
}

/// A row of the test split.
#[derive(Debug)]
pub(crate) struct Gold {
    /// Its place in the question file.
    pub question: usize,
    pub problem: Problem,
}

/// The test split in its own order.
pub(crate) fn gold(folder: &Folder, questions: &[Question]) -> Result<Vec<Gold>> {
    let mut splits: HashMap<String, Vec<String>> =
        loader::json_of(folder, SPLITS, "ids by split", MEND)?;
    let mut problems: HashMap<String, Problem> =
        loader::json_of(folder, PROBLEMS, "problems by id (choices, answer)", MEND)?;
    let places: HashMap<&str, usize> = questions
        .iter()
        .enumerate()
        .map(|(at, question)| (question.id.as_text(), at))
        .collect();
    let mut gold = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for id in splits.remove("test").unwrap_or_default() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let lacks = |file: &str| {
            let what = format!("it has no question {id} of the test split of {SPLITS}");
            EvalError::content(folder.root_of(file), None, what)
        };
        gold.push(Gold {
            question: places
                .get(id.as_str())
                .copied()
                .ok_or_else(|| lacks(QUESTIONS))?,
            problem: problems.remove(&id).ok_or_else(|| lacks(PROBLEMS))?,
        });
    }
    Ok(gold)
}
