//! GQA: short answers about scenes, by how the question was built.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::loader;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::{Question, QuestionId};

pub(crate) const QUESTIONS: &str = "bunny_gqa_testdev_balanced.jsonl";
pub(crate) const GOLD: &str = "testdev_balanced_questions.json";

pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    loader::questions(folder, QUESTIONS, "images/", super::REFERENCE_FILES)
}

/// What is known of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gold {
    pub answer: String,
    pub is_balanced: bool,
    /// The kind of thing that is asked for; half of the questions have none.
    pub group: Option<String>,
    pub structural: String,
    pub semantic: String,
    /// Steps of reasoning, those left out that only name what was found.
    pub steps: usize,
    pub words: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    answer: String,
    is_balanced: bool,
    question: String,
    groups: Groups,
    types: Types,
    semantic: Vec<Step>,
}

#[derive(Deserialize)]
struct Groups {
    global: Option<String>,
}

#[derive(Deserialize)]
struct Types {
    structural: String,
    semantic: String,
}

#[derive(Deserialize)]
struct Step {
    operation: String,
    argument: String,
}

/// The right answers, one a question of the question file, and those of its own file beyond them.
pub(crate) fn gold(folder: &Folder, questions: &[Question]) -> Result<Vec<Gold>> {
    let expected = "GQA's questions by id";
    let mut file: Map<String, Value> =
        loader::json_of(folder, GOLD, expected, super::REFERENCE_FILES)?;
    let place = || folder.root_of(GOLD);
    let each = questions.iter().map(|question| {
        let id = match &question.id {
            QuestionId::Text(id) => id.clone(),
            QuestionId::Number(number) => number.to_string(),
        };
        let value = file.remove(&id).ok_or_else(|| {
            EvalError::content(
                place(),
                None,
                format!("it has no answer to question_id {id}"),
            )
        })?;
        let row: Row = serde_json::from_value(value).map_err(|source| EvalError::Json {
            path: place(),
            line: None,
            expected,
            source,
        })?;
        Ok(Gold::from(row))
    });
    each.collect()
}

impl From<Row> for Gold {
    fn from(row: Row) -> Self {
        let names = ["exist", "query: name", "choose name"];
        let is_step = |step: &&Step| {
            let told = format!("{}: {}", step.operation, step.argument);
            !names.iter().any(|name| told.contains(name))
        };
        Self {
            steps: row.semantic.iter().filter(is_step).count(),
            words: crate::python::split(&row.question).count(),
            answer: row.answer,
            is_balanced: row.is_balanced,
            group: row.groups.global,
            structural: row.types.structural,
            semantic: row.types.semantic,
        }
    }
}
