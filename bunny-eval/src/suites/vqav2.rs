//! VQAv2: open questions, ten people's answers to each. Those of test-dev are the server's alone.

use serde::Deserialize;

use super::loader;
use crate::error::Result;
use crate::folder::Folder;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

pub(crate) const QUESTIONS: &str = "bunny_vqav2_mscoco_test-dev2015.jsonl";
/// The whole test set, which a submission must cover.
pub(crate) const WHOLE: &str = "bunny_vqav2_mscoco_test2015.jsonl";
const VAL_QUESTIONS: &str = "v2_OpenEnded_mscoco_val2014_questions.json";
pub(crate) const VAL_ANNOTATIONS: &str = "v2_mscoco_val2014_annotations.json";
const FORMAT: &str = "Answer the question using a single word or phrase.";
const VAL_MEND: &str = "take the validation files of visualqa.org";

/// The questions of test-dev; where only the files of val2014 are there, those of val2014.
pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    if is_val(folder)? {
        return val_questions(folder);
    }
    loader::questions(folder, QUESTIONS, "test2015/", super::REFERENCE_FILES)
}

/// Whether the folder has the validation split, whose answers are public, and not test-dev.
pub(crate) fn is_val(folder: &Folder) -> Result<bool> {
    Ok(!folder.has(QUESTIONS)? && folder.has(VAL_QUESTIONS)?)
}

#[derive(Deserialize)]
struct QuestionFile {
    questions: Vec<ValQuestion>,
}

#[derive(Deserialize)]
struct ValQuestion {
    image_id: u64,
    question: String,
    question_id: i64,
}

fn val_questions(folder: &Folder) -> Result<Vec<Question>> {
    let file: QuestionFile = loader::json_of(folder, VAL_QUESTIONS, "VQAv2's questions", VAL_MEND)?;
    let each = file.questions.into_iter().map(|row| {
        let name = format!("COCO_val2014_{:012}.jpg", row.image_id);
        let text = format!("{}\n{FORMAT}", row.question);
        Question {
            id: QuestionId::Number(row.question_id),
            category: "default".to_owned(),
            recorded: Some(text.clone()),
            text,
            pictures: vec![PictureRef {
                place: PicturePlace::File(format!("val2014/{name}")),
                name,
            }],
            options: Vec::new(),
        }
    });
    Ok(each.collect())
}

#[derive(Deserialize)]
struct AnnotationFile {
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    question_id: i64,
    answer_type: String,
    answers: Vec<Given>,
}

#[derive(Deserialize)]
struct Given {
    answer: String,
}

/// What people answered to a question.
#[derive(Debug)]
pub(crate) struct Gold {
    pub answer_type: String,
    pub answers: Vec<String>,
}

/// The answers to the validation questions, in their order; `None` for one without.
pub(crate) fn gold(folder: &Folder, questions: &[Question]) -> Result<Vec<Option<Gold>>> {
    let file: AnnotationFile =
        loader::json_of(folder, VAL_ANNOTATIONS, "VQAv2's annotations", VAL_MEND)?;
    let by_id = file.annotations.into_iter().map(|row| {
        let answers = row.answers.into_iter().map(|given| given.answer).collect();
        let gold = Gold {
            answer_type: row.answer_type,
            answers,
        };
        (QuestionId::Number(row.question_id), gold)
    });
    let mut by_id: std::collections::HashMap<QuestionId, Gold> = by_id.collect();
    Ok(questions
        .iter()
        .map(|question| by_id.remove(&question.id))
        .collect())
}

/// The ids that a submission must have, in its order.
pub(crate) fn whole(folder: &Folder) -> Result<Vec<QuestionId>> {
    #[derive(Deserialize)]
    struct Row {
        question_id: QuestionId,
    }
    let text = loader::text_of(folder, WHOLE, super::REFERENCE_FILES)?;
    let lines = crate::python::lines(&text).enumerate();
    let each = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            let row: Row = serde_json::from_str(line).map_err(|source| crate::EvalError::Json {
                path: folder.root_of(WHOLE),
                line: Some(at + 1),
                expected: "a question (question_id)",
                source,
            })?;
            Ok(row.question_id)
        });
    each.collect()
}
