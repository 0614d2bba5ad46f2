//! MME: two yes-or-no questions a picture, fourteen categories.

use std::collections::HashMap;

use super::loader;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::python;
use crate::question::{Question, QuestionId};

pub(crate) const QUESTIONS: &str = "bunny_mme.jsonl";
const PICTURES: &str = "MME_Benchmark_release_version/";
const FORMATS: [&str; 2] = [
    "Answer the question using a single word or phrase.",
    "Answer the question directly with a short sentence or phrase.",
];
const ONE_SPACE: &str = " Please answer yes or no.";
const TWO_SPACES: &str = "  Please answer yes or no.";

/// The categories of perception, in the order of the benchmark's own table.
pub(crate) const PERCEPTION: [&str; 10] = [
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
];
/// The categories of cognition.
pub(crate) const COGNITION: [&str; 4] = [
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
];

pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    loader::questions(folder, QUESTIONS, PICTURES, super::REFERENCE_FILES)
}

/// The right answers, by category, file of the picture's questions, and question.
#[derive(Debug)]
pub(crate) struct Gold(HashMap<(String, String, String), String>);

/// A question as the benchmark asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The first part of its id.
    pub category: String,
    /// The file of its picture's questions.
    pub file: String,
    /// Its text, "Please answer yes or no." included.
    pub question: String,
    /// Yes or no, as the benchmark spells it.
    pub gold: String,
}

impl Gold {
    /// Reads the questions' own files.
    pub(crate) fn read(folder: &Folder, questions: &[Question]) -> Result<Self> {
        let mut gold = HashMap::new();
        let mut read = std::collections::HashSet::new();
        for question in questions {
            let (category, file) = key(&question.id);
            if !read.insert((category, file.clone())) {
                continue;
            }
            // Categories whose pictures have a folder of their own keep the questions in another.
            let own = question.id.as_text().contains("/images/");
            let inside = if own { "questions_answers_YN/" } else { "" };
            let path = format!("{PICTURES}{category}/{inside}{file}");
            let text = loader::text_of(folder, &path, "it comes with the pictures of MME")?;
            for (at, line) in python::lines(&text).enumerate() {
                let parts: Vec<&str> = python::strip(line).split('\t').collect();
                let [question, answer] = parts[..] else {
                    let what = "not a question, a tab and its answer";
                    return Err(EvalError::content(folder.place(&path)?, Some(at + 1), what));
                };
                let place = (category.to_owned(), file.clone(), question.to_owned());
                gold.insert(place, answer.to_owned());
            }
        }
        Ok(Self(gold))
    }

    /// What the benchmark asked where a model was asked `prompt`.
    pub(crate) fn asked(&self, id: &QuestionId, prompt: &str) -> Option<Asked> {
        let (category, file) = key(id);
        let mut question = prompt.to_owned();
        for format in FORMATS {
            if question.contains(format) {
                question = python::strip(&question.replace(format, "")).to_owned();
            }
        }
        let mut place = (category.to_owned(), file, question);
        if !place.2.contains(ONE_SPACE.trim_start()) {
            place.2.push_str(ONE_SPACE);
            if !self.0.contains_key(&place) {
                place.2 = place.2.replace(ONE_SPACE, TWO_SPACES);
            }
        }
        let gold = self.0.get(&place)?.clone();
        let (category, file, question) = place;
        Some(Asked {
            category,
            file,
            question,
            gold,
        })
    }
}

/// The category of a question, and the file of its picture's questions: the picture's name up to
/// its first dot.
fn key(id: &QuestionId) -> (&str, String) {
    let id = id.as_text();
    let category = id.split('/').next().unwrap_or(id);
    let name = id.rsplit('/').next().unwrap_or(id);
    let stem = name.split('.').next().unwrap_or(name);
    (category, format!("{stem}.txt"))
}
