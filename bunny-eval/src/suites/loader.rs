//! Question files of four keys: `question_id`, `image`, `text`, `category`, one object a line.
//!
//! MME, SEED-Bench, VQAv2, GQA and POPE are asked from such files, which the reference ships; the
//! text ends in its format line already.

use serde::Deserialize;

use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::python;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

#[derive(Deserialize)]
struct Row {
    question_id: QuestionId,
    image: String,
    text: String,
    #[serde(default)]
    category: String,
}

/// The questions of `file`, whose pictures lie in `pictures` (a folder with its slash, or nothing).
pub(crate) fn questions(
    folder: &Folder,
    file: &str,
    pictures: &str,
    mend: &str,
) -> Result<Vec<Question>> {
    let text = text_of(folder, file, mend)?;
    let mut questions = Vec::new();
    for (at, line) in python::lines(&text).enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(line).map_err(|source| EvalError::Json {
            path: folder.root_of(file),
            line: Some(at + 1),
            expected: "a question (question_id, image, text, category)",
            source,
        })?;
        questions.push(Question {
            id: row.question_id,
            category: row.category,
            pictures: vec![PictureRef {
                place: PicturePlace::File(format!("{pictures}{}", row.image)),
                name: row.image,
            }],
            recorded: Some(row.text.clone()),
            text: row.text,
            options: Vec::new(),
        });
    }
    Ok(questions)
}

/// A file of a benchmark as text.
pub(crate) fn text_of(folder: &Folder, file: &str, mend: &str) -> Result<String> {
    let bytes = folder.expect(file, mend)?;
    String::from_utf8(bytes).map_err(|error| {
        let path = folder.root_of(file);
        EvalError::unreadable(path, "text in UTF-8")(error.utf8_error())
    })
}

/// A file of a benchmark that is one JSON value.
pub(crate) fn json_of<T: for<'de> Deserialize<'de>>(
    folder: &Folder,
    file: &str,
    expected: &'static str,
    mend: &str,
) -> Result<T> {
    let bytes = folder.expect(file, mend)?;
    serde_json::from_slice(&bytes).map_err(|source| EvalError::Json {
        path: folder.root_of(file),
        line: None,
        expected,
        source,
    })
}
