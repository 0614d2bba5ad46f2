//! MMMU: college questions of thirty subjects, in Parquet files.

use std::path::PathBuf;

use serde::Deserialize;

use super::loader;
use super::parquet::Rows;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::python;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

/// The subjects, in the order in which they are asked. The random fallback depends on it.
pub(crate) const SUBJECTS: [&str; 30] = [
    "Accounting",
    "Agriculture",
    "Architecture_and_Engineering",
    "Art",
    "Art_Theory",
    "Basic_Medical_Science",
    "Biology",
    "Chemistry",
    "Clinical_Medicine",
    "Computer_Science",
    "Design",
    "Diagnostics_and_Laboratory_Medicine",
    "Economics",
    "Electronics",
    "Energy_and_Power",
    "Finance",
    "Geography",
    "History",
    "Literature",
    "Manage",
    "Marketing",
    "Materials",
    "Math",
    "Mechanical_Engineering",
    "Music",
    "Pharmacy",
    "Physics",
    "Psychology",
    "Public_Health",
    "Sociology",
];

/// The domains and their subjects, as tables list them.
pub(crate) const DOMAINS: [(&str, &[&str]); 6] = [
    ("Art and Design", &["Art", "Art_Theory", "Design", "Music"]),
    (
        "Business",
        &["Accounting", "Economics", "Finance", "Manage", "Marketing"],
    ),
    (
        "Science",
        &["Biology", "Chemistry", "Geography", "Math", "Physics"],
    ),
    (
        "Health and Medicine",
        &[
            "Basic_Medical_Science",
            "Clinical_Medicine",
            "Diagnostics_and_Laboratory_Medicine",
            "Pharmacy",
            "Public_Health",
        ],
    ),
    (
        "Humanities and Social Science",
        &["History", "Literature", "Sociology", "Psychology"],
    ),
    (
        "Tech and Engineering",
        &[
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ],
    ),
];

pub(crate) const ANSWERS: &str = "answer_dict_val.json";
const MEND: &str = "take the data set MMMU/MMMU of huggingface.co, one folder a subject";

/// A question of MMMU, and its answer where it is public.
#[derive(Debug)]
pub(crate) struct Row {
    pub question: Question,
    /// Whether it is of `multiple-choice`; otherwise open.
    pub is_choice: bool,
    /// The column `answer`: a letter, a text, a literal list of texts, or `?`.
    pub answer: String,
}

/// The rows of a split (`validation` or `test`), all subjects in order.
pub(crate) fn rows(folder: &Folder, split: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        let mut files = Vec::new();
        for below in [format!("MMMU/{subject}"), subject.to_owned()] {
            let names = folder.list(&below)?;
            let of_split = |name: &String| {
                name.starts_with(&format!("{split}-")) && name.ends_with(".parquet")
            };
            files.extend(
                names
                    .into_iter()
                    .filter(of_split)
                    .map(|name| format!("{below}/{name}")),
            );
            if !files.is_empty() {
                break;
            }
        }
        if files.is_empty() {
            return Err(EvalError::Missing {
                folder: folder.path().to_owned(),
                name: format!("MMMU/{subject}/{split}-00000-of-00001.parquet"),
                mend: MEND.to_owned(),
            });
        }
        for file in files {
            read(folder, &file, subject, &mut rows)?;
        }
    }
    Ok(rows)
}

fn read(folder: &Folder, file: &str, subject: &str, rows: &mut Vec<Row>) -> Result<()> {
    let place = folder.place(file)?;
    let columns = ["id", "question", "options", "answer", "question_type"];
    let table = Rows::read(folder, file, &columns)?;
    for row in 0..table.len() {
        let [id, question, options, answer, question_type] =
            columns.map(|column| table.text(column, row).unwrap_or_default().to_owned());
        let is_choice = question_type == "multiple-choice";
        let options = python::literal::strings(&options).ok_or_else(|| {
            EvalError::content(
                &place,
                Some(row + 1),
                format!("options are no list: {options}"),
            )
        })?;
        rows.push(Row {
            question: Question {
                text: prompt(&question, &options, is_choice),
                category: subject.to_owned(),
                recorded: None,
                pictures: vec![PictureRef {
                    name: format!("{id}_1"),
                    place: PicturePlace::Parquet {
                        file: file.to_owned(),
                        row,
                        column: "image_1",
                    },
                }],
                options: if is_choice { options } else { Vec::new() },
                id: QuestionId::Text(id),
            },
            is_choice,
            answer,
        });
    }
    Ok(())
}

/// What is asked. Every option ends its line, which leaves an empty one before the format line.
fn prompt(question: &str, options: &[String], is_choice: bool) -> String {
    if !is_choice {
        return format!("{question}\nAnswer the question using a single word or phrase.");
    }
    let mut prompt = format!("{question}\n");
    for (letter, option) in ('A'..).zip(options) {
        prompt.push_str(&format!("({letter}) {option}\n"));
    }
    prompt + "\nAnswer with the option's letter from the given choices directly."
}

/// The right answers of a question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Truth {
    One(String),
    Any(Vec<String>),
}

#[derive(Deserialize)]
struct Answer {
    question_type: String,
    ground_truth: Truth,
}

/// The right answer of a question, and whether the scorer takes it for a choice.
#[derive(Clone, Debug)]
pub(crate) struct Gold {
    pub is_choice: bool,
    pub truth: Truth,
}

/// The right answers of the validation rows: of the file that the scorer reads, or, where it is
/// not there, of the Parquet files themselves.
pub(crate) fn gold(folder: &Folder, rows: &[Row]) -> Result<Vec<Gold>> {
    if !folder.has(ANSWERS)? {
        return Ok(rows.iter().map(own_gold).collect());
    }
    let expected = "the answers of MMMU's validation split";
    let mut answers: std::collections::HashMap<String, Answer> =
        loader::json_of(folder, ANSWERS, expected, super::REFERENCE_FILES)?;
    let path: PathBuf = folder.place(ANSWERS)?;
    let found = rows.iter().map(|row| {
        let id = row.question.id.as_text();
        let answer = answers
            .remove(id)
            .ok_or_else(|| EvalError::content(&path, None, format!("it has no answer to {id}")))?;
        Ok(Gold {
            is_choice: answer.question_type == "multiple-choice",
            truth: answer.ground_truth,
        })
    });
    found.collect()
}

fn own_gold(row: &Row) -> Gold {
    let literal = if row.is_choice {
        None
    } else {
        python::literal::strings(&row.answer)
    };
    Gold {
        is_choice: row.is_choice,
        truth: literal.map_or_else(|| Truth::One(row.answer.clone()), Truth::Any),
    }
}
