//! SEED-Bench-1: four options a question, nine types about pictures, three about videos.

use std::collections::HashMap;

use serde::Deserialize;

use super::loader;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::{Question, QuestionId};

pub(crate) const QUESTIONS: &str = "bunny-seed-bench.jsonl";
pub(crate) const ANNOTATIONS: &str = "SEED-Bench.json";

pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    loader::questions(folder, QUESTIONS, "", super::REFERENCE_FILES)
}

#[derive(Deserialize)]
struct File {
    questions: Vec<Annotation>,
    question_type: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct Annotation {
    answer: String,
    choice_a: String,
    choice_b: String,
    choice_c: String,
    choice_d: String,
    data_type: String,
    question_id: String,
    question_type_id: u32,
}

/// The right answers.
#[derive(Debug)]
pub(crate) struct Gold {
    pub rows: Vec<Row>,
    /// The types that are asked about, by id, with their names.
    pub types: Vec<(u32, String)>,
}

/// A question as SEED-Bench's own file has it.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its place in the question file, if it is there.
    pub question: Option<usize>,
    /// Its id there: a text, also where the question file has a number.
    pub id: String,
    pub answer: String,
    pub is_picture: bool,
    pub type_id: u32,
    pub options: [String; 4],
}

pub(crate) fn gold(folder: &Folder, questions: &[Question]) -> Result<Gold> {
    let file: File = loader::json_of(
        folder,
        ANNOTATIONS,
        "SEED-Bench's questions (questions, question_type)",
        super::REFERENCE_FILES,
    )?;
    let places: HashMap<&QuestionId, usize> = questions
        .iter()
        .enumerate()
        .map(|(at, question)| (&question.id, at))
        .collect();
    let mut rows = Vec::with_capacity(file.questions.len());
    let mut found = 0;
    for row in file.questions {
        // A number where it can be read as one, as in the question file.
        let id = row.question_id.trim().parse().map(QuestionId::Number);
        let id = id.unwrap_or_else(|_| QuestionId::Text(row.question_id.clone()));
        let question = places.get(&id).copied();
        found += usize::from(question.is_some());
        rows.push(Row {
            question,
            id: row.question_id,
            answer: row.answer,
            is_picture: row.data_type == "image",
            type_id: row.question_type_id,
            options: [row.choice_a, row.choice_b, row.choice_c, row.choice_d],
        });
    }
    if found < questions.len() {
        let what = format!(
            "it has {found} of the {} questions of {QUESTIONS}: take both from BAAI-DCAI/Bunny",
            questions.len()
        );
        return Err(EvalError::content(folder.place(ANNOTATIONS)?, None, what));
    }
    let mut types: Vec<(u32, String)> = file
        .question_type
        .into_iter()
        .map(|(name, id)| (id, name))
        .collect();
    types.sort();
    Ok(Gold { rows, types })
}
