//! Files of one's own questions: LLaVA's JSON, JSON lines, and tables.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use csv::ReaderBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::Item;
use crate::error::{EvalError, Result};
use crate::prompt::PICTURE;
use crate::python::strip;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

/// The form of a file of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// One list of conversations: `id`, `image`, `conversations` of a question and its answer; of longer
    /// ones the first question is read.
    Llava,
    /// One object a line: `question`, `answer` (a text or a list), and perhaps `image`, `question_id`.
    Lines,
    /// A table with tabs and a header: `question`, `answer`, and perhaps `image`, `question_id`.
    Tsv,
    /// The same with commas.
    Csv,
}

impl Form {
    /// The form that a file's name tells.
    pub fn of(path: &Path) -> Option<Self> {
        path.extension()?
            .to_str()?
            .to_ascii_lowercase()
            .parse()
            .ok()
    }
}

impl FromStr for Form {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "json" => Ok(Self::Llava),
            "jsonl" => Ok(Self::Lines),
            "tsv" => Ok(Self::Tsv),
            "csv" => Ok(Self::Csv),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Llava => "json",
            Self::Lines => "jsonl",
            Self::Tsv => "tsv",
            Self::Csv => "csv",
        })
    }
}

/// Reads questions and their right answers. Those without an id are numbered from 1.
///
/// # Errors
/// When the file cannot be read, or a row lacks a question or an answer.
pub fn read(path: &Path, form: Form) -> Result<Vec<Item>> {
    let items = read_questions(path, form)?;
    match items.iter().position(|item| item.answers.is_empty()) {
        None => Ok(items),
        Some(at) => Err(EvalError::Content {
            path: path.to_owned(),
            line: None,
            what: format!(
                "question {}: it has no answer to judge others by; `ask` needs none",
                at + 1
            ),
        }),
    }
}

/// Reads questions, of which some or all may have no right answer. Those without an id are numbered
/// from 1.
///
/// # Errors
/// When the file cannot be read, or a row lacks a question.
pub fn read_questions(path: &Path, form: Form) -> Result<Vec<Item>> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path, "read"))?;
    match form {
        Form::Llava => conversations(path, &bytes),
        Form::Lines => lines(path, &bytes),
        Form::Tsv => table(path, &bytes, b'\t'),
        Form::Csv => table(path, &bytes, b','),
    }
}

fn item(
    id: Option<QuestionId>,
    at: usize,
    question: &str,
    image: Option<String>,
    answers: Vec<String>,
) -> Item {
    let text = strip(&question.replace(PICTURE, "")).to_owned();
    let image = image.filter(|image| !image.is_empty());
    Item {
        question: Question {
            id: id.unwrap_or(QuestionId::Number(at as i64 + 1)),
            category: String::new(),
            recorded: Some(text.clone()),
            text,
            pictures: image
                .map(|name| PictureRef {
                    place: PicturePlace::File(name.clone()),
                    name,
                })
                .into_iter()
                .collect(),
            options: Vec::new(),
        },
        answers,
    }
}

#[derive(Deserialize)]
struct Conversation {
    id: Option<QuestionId>,
    image: Option<String>,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    from: String,
    value: String,
}

fn conversations(path: &Path, bytes: &[u8]) -> Result<Vec<Item>> {
    let rows: Vec<Conversation> =
        serde_json::from_slice(bytes).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            line: None,
            expected: "a list of conversations (id, image, conversations)",
            source,
        })?;
    let each = rows.into_iter().enumerate().map(|(at, row)| {
        let (asked, answered) = match &row.conversations[..] {
            [asked] => (asked, None),
            // Of a longer conversation the first question: what comes later hangs on what was said.
            [asked, answered, ..] => (asked, Some(answered)),
            turns => {
                let what = format!(
                    "record {}: {} turns, where one question and its answer can be judged",
                    at + 1,
                    turns.len()
                );
                return Err(EvalError::content(path, None, what));
            }
        };
        if asked.from != "human" || answered.is_some_and(|answered| answered.from != "gpt") {
            let what = format!("record {}: a `human` asks and a `gpt` answers", at + 1);
            return Err(EvalError::content(path, None, what));
        }
        Ok(item(
            row.id,
            at,
            &asked.value,
            row.image,
            answered
                .map(|answered| answered.value.clone())
                .into_iter()
                .collect(),
        ))
    });
    each.collect()
}

#[derive(Deserialize)]
struct Row {
    #[serde(alias = "id")]
    question_id: Option<QuestionId>,
    #[serde(alias = "text")]
    question: String,
    image: Option<String>,
    #[serde(alias = "answers", alias = "label", default)]
    answer: Option<Value>,
}

fn lines(path: &Path, bytes: &[u8]) -> Result<Vec<Item>> {
    let text = str::from_utf8(bytes).map_err(EvalError::unreadable(path, "text in UTF-8"))?;
    let mut items = Vec::new();
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let row: Row = serde_json::from_str(line).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            line: Some(at + 1),
            expected: "a question (question, answer, image)",
            source,
        })?;
        let answers = match &row.answer {
            None => Vec::new(),
            Some(answer) => texts(answer).ok_or_else(|| {
                let what = format!("the answer is no text and no list of texts: {answer}");
                EvalError::content(path, Some(at + 1), what)
            })?,
        };
        items.push(item(
            row.question_id,
            items.len(),
            &row.question,
            row.image,
            answers,
        ));
    }
    Ok(items)
}

/// The answers that a value says: a text, a number, yes or no, or a list of such.
fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        _ => None,
    };
    match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(one).collect(),
        other => Some(vec![one(other)?]),
    }
}

fn table(path: &Path, bytes: &[u8], delimiter: u8) -> Result<Vec<Item>> {
    let broken = || EvalError::unreadable(path, "a table");
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
    let header = reader.headers().map_err(broken())?.clone();
    let column = |names: &[&str]| header.iter().position(|name| names.contains(&name.trim()));
    let question = column(&["question", "text"])
        .ok_or_else(|| EvalError::content(path, Some(1), "it has no column `question`"))?;
    let answer = column(&["answer"]);
    let (image, id) = (column(&["image"]), column(&["question_id", "id", "index"]));
    let mut items = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken())?;
        let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
        let id = Some(cell(id))
            .filter(|id| !id.is_empty())
            .map(|id| match id.parse() {
                Ok(number) => QuestionId::Number(number),
                Err(_) => QuestionId::Text(id.to_owned()),
            });
        // Several answers are a JSON list in their cell.
        let said = cell(answer);
        let list = serde_json::from_str::<Value>(said)
            .ok()
            .filter(Value::is_array);
        let answers = list
            .and_then(|list| texts(&list))
            .unwrap_or_else(|| answer.map(|_| said.to_owned()).into_iter().collect());
        let image = Some(cell(image).to_owned());
        items.push(item(id, items.len(), cell(Some(question)), image, answers));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Vec<Item>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, Form::of(&path).unwrap())
    }

    #[test]
    fn every_form_says_the_same_questions() {
        let files = [
            (
                "q.json",
                r#"[{"id": "a", "image": "1.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat"}, {"from": "human", "value": "Its colour?"}, {"from": "gpt", "value": "Grey"}]}, {"id": 2, "conversations": [{"from": "human", "value": "Sum?"}, {"from": "gpt", "value": "4"}]}]"#,
            ),
            (
                "q.jsonl",
                "{\"question_id\": \"a\", \"image\": \"1.png\", \"question\": \"What?\", \"answer\": \"A cat\"}\n\n{\"id\": 2, \"text\": \"Sum?\", \"label\": 4}\n",
            ),
            (
                "q.tsv",
                "question\tanswer\timage\tid\nWhat?\tA cat\t1.png\ta\nSum?\t4\t\t2\n",
            ),
            (
                "q.CSV",
                "\u{feff}index,image,question,answer\na,1.png,What?,A cat\n2,,\"Sum?\",\"[\"\"4\"\"]\"\n",
            ),
        ];
        for (name, text) in files {
            let items = read_text(name, text).unwrap();
            let [first, second] = &items[..] else {
                panic!("{name}: {}", items.len())
            };
            assert_eq!(
                first.question.id,
                QuestionId::Text("a".to_owned()),
                "{name}"
            );
            assert_eq!(first.question.text, "What?", "{name}");
            assert_eq!(first.question.pictures[0].name, "1.png", "{name}");
            assert_eq!(first.answers, ["A cat"], "{name}");
            assert_eq!(second.question.id, QuestionId::Number(2), "{name}");
            assert!(second.question.pictures.is_empty(), "{name}");
            assert_eq!(second.answers, ["4"], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_named() {
        for (name, text, told) in [
            (
                "q.json",
                r#"[{"id": 1, "conversations": []}]"#,
                "record 1: 0 turns",
            ),
            (
                "q.jsonl",
                "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\"}",
                "question 2: it has no answer",
            ),
            (
                "q.jsonl",
                "{\"question\": \"a\", \"answer\": {}}",
                "no list of texts",
            ),
            ("q.csv", "question\na\n", "question 1: it has no answer"),
            ("q.tsv", "question,answer\na,b\n", "no column `question`"),
        ] {
            let error = read_text(name, text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
