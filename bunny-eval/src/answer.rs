//! Files of answers: the reference's and LLaVA's JSON lines as they are, and what each row answers.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{EvalError, Result};
use crate::python;
use crate::question::{Question, QuestionId};
use crate::text::Text;

/// One answer of a file.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The question that is answered.
    pub question_id: QuestionId,
    /// What was asked, where the row says it.
    pub prompt: Option<Text>,
    /// What was answered.
    pub text: Text,
    /// Which line of the file it stands on, from 1.
    pub line: usize,
}

/// A file of answers.
#[derive(Debug)]
pub struct Answers {
    path: PathBuf,
    rows: Vec<Answer>,
    broken: usize,
}

/// What becomes of a line that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenLines {
    /// It is an error.
    Refuse,
    /// It is passed over and counted, as VQAv2's script does.
    Count,
}

impl Answers {
    /// Reads a file of JSON lines; or one JSON object of texts by question, which is what the
    /// reference keeps of MMMU.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no answer and must be.
    pub fn read(path: impl AsRef<Path>, broken: BrokenLines) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(EvalError::io(path, "read"))?;
        Self::parse(path, &bytes, broken)
    }

    /// Reads answers that were read from `path`.
    ///
    /// # Errors
    /// When a line is no answer and must be.
    pub fn parse(path: &Path, bytes: &[u8], broken: BrokenLines) -> Result<Self> {
        let text = str::from_utf8(bytes)
            .map_err(EvalError::unreadable(path, "text in UTF-8"))?
            .trim_start_matches('\u{feff}');
        let mut answers = Self {
            path: path.to_owned(),
            rows: Vec::new(),
            broken: 0,
        };
        if let Some(rows) = by_question(text) {
            answers.rows = rows;
            return Ok(answers);
        }
        for (at, line) in python::lines(text).enumerate() {
            match (row(line, at + 1), broken) {
                (Ok(row), _) => answers.rows.push(row),
                (Err(_), BrokenLines::Count) => answers.broken += 1,
                (Err(_), BrokenLines::Refuse) if python::strip(line).is_empty() => {}
                (Err(source), BrokenLines::Refuse) => {
                    return Err(EvalError::Json {
                        path: path.to_owned(),
                        line: Some(at + 1),
                        expected: "an answer (question_id, text)",
                        source,
                    });
                }
            }
        }
        Ok(answers)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The answers, in the file's order.
    pub fn rows(&self) -> &[Answer] {
        &self.rows
    }

    /// How many lines were passed over.
    pub fn broken(&self) -> usize {
        self.broken
    }
}

fn row(line: &str, number: usize) -> serde_json::Result<Answer> {
    // Texts are read as bytes below, which lets bare control characters pass; Python does not.
    if line.bytes().any(|byte| byte < 0x20) {
        serde_json::from_str::<IgnoredAny>(line)?;
    }
    let mut answer: Answer = serde_json::from_str(line)?;
    answer.line = number;
    Ok(answer)
}

/// The rows of one object `{"validation_Accounting_1": "B", …}`.
fn by_question(text: &str) -> Option<Vec<Answer>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let Pairs(pairs) = serde_json::from_str(text).ok()?;
    if pairs.iter().any(|(key, _)| key == "question_id") {
        return None;
    }
    let rows = pairs
        .into_iter()
        .enumerate()
        .map(|(at, (id, text))| Answer {
            question_id: QuestionId::Text(id),
            prompt: None,
            text,
            line: at + 1,
        });
    Some(rows.collect())
}

/// The texts of an object, in its order.
struct Pairs(Vec<(String, Text)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl<'de> Deserialize<'de> for Answer {
    /// Keys that are not known are passed over; of a key that comes twice the last counts, as in
    /// Python.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> Visitor<'de> for RowVisitor {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with question_id and text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
                let (mut question_id, mut prompt, mut text) = (None, None, None);
                while let Some(key) = map.next_key::<Text>()? {
                    match &*key {
                        "question_id" => question_id = Some(map.next_value()?),
                        "prompt" => prompt = map.next_value()?,
                        "text" => text = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let missing = <A::Error as serde::de::Error>::missing_field;
                Ok(Answer {
                    question_id: question_id.ok_or_else(|| missing("question_id"))?,
                    prompt,
                    text: text.ok_or_else(|| missing("text"))?,
                    line: 0,
                })
            }
        }
        deserializer.deserialize_map(RowVisitor)
    }
}

/// The questions of a benchmark and the answers of a file, brought together.
#[derive(Debug)]
pub struct Matched<'a> {
    /// Which question each answer is to, in the file's order.
    pub rows: Vec<(usize, &'a Answer)>,
    /// The questions without an answer.
    pub missing: Vec<usize>,
    /// How many answers are to a question that has another answer already.
    pub repeated: usize,
}

impl<'a> Matched<'a> {
    /// The last answer to every question.
    pub fn last(&self, questions: usize) -> Vec<Option<&'a Answer>> {
        let mut last = vec![None; questions];
        for (question, answer) in &self.rows {
            last[*question] = Some(*answer);
        }
        last
    }
}

/// Finds the question of every answer: by its id and, where questions share one, by what was
/// asked; rows that do not say it answer the questions of that id in turn.
///
/// `same` says whether a question is the one that was asked by some prompt.
///
/// # Errors
/// [`EvalError::UnknownQuestion`] for the first answer to no question.
pub fn matched<'a>(
    benchmark: impl fmt::Display,
    questions: &[Question],
    answers: &'a Answers,
    same: impl Fn(&Question, &str) -> bool,
) -> Result<Matched<'a>> {
    let mut by_id: HashMap<&QuestionId, Vec<usize>> = HashMap::with_capacity(questions.len());
    for (at, question) in questions.iter().enumerate() {
        by_id.entry(&question.id).or_default().push(at);
    }
    let mut times = vec![0_usize; questions.len()];
    let mut rows = Vec::with_capacity(answers.rows.len());
    for answer in &answers.rows {
        let candidates = by_id
            .get(&answer.question_id)
            .map_or(&[][..], Vec::as_slice);
        let fewest = || candidates.iter().copied().min_by_key(|at| times[*at]);
        let found = match (candidates, &answer.prompt) {
            ([one], _) => Some(*one),
            (_, None) => fewest(),
            (_, Some(prompt)) => candidates
                .iter()
                .copied()
                .find(|at| same(&questions[*at], prompt)),
        };
        let question = found.ok_or_else(|| EvalError::UnknownQuestion {
            path: answers.path.clone(),
            line: answer.line,
            id: answer.question_id.clone(),
            benchmark: benchmark.to_string(),
        })?;
        times[question] += 1;
        rows.push((question, answer));
    }
    Ok(Matched {
        rows,
        missing: (0..questions.len()).filter(|at| times[*at] == 0).collect(),
        repeated: times.iter().map(|times| times.saturating_sub(1)).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, broken: BrokenLines) -> Result<Answers> {
        Answers::parse(Path::new("answers.jsonl"), text.as_bytes(), broken)
    }

    #[test]
    fn rows_keep_the_type_of_their_id_and_the_last_of_a_key() {
        let text = "{\"question_id\": 7, \"text\": \"a\", \"text\": \"b\", \"metadata\": {}}\r\n\
                    {\"question_id\": \"7\", \"prompt\": null, \"text\": \"\\ud800\"}\r\n\n";
        let answers = parsed(text, BrokenLines::Refuse).unwrap();
        let [first, second] = answers.rows() else {
            panic!("two rows")
        };
        assert_eq!(first.question_id, QuestionId::Number(7));
        assert_eq!(&*first.text, "b");
        assert_eq!(second.question_id, QuestionId::Text("7".to_owned()));
        assert!(second.prompt.is_none());
        assert_eq!(second.line, 2);
    }

    #[test]
    fn a_line_that_is_no_answer_is_named_or_counted() {
        let text = "{\"question_id\": 1, \"text\": \"a\"}\n{\"question_id\": 2, \"text\": \"b\n";
        let error = parsed(text, BrokenLines::Refuse).unwrap_err().to_string();
        assert!(
            error.starts_with("answers.jsonl: line 2: not an answer"),
            "{error}"
        );
        let counted = parsed(text, BrokenLines::Count).unwrap();
        assert_eq!((counted.rows().len(), counted.broken()), (1, 1));
        // Python refuses a bare tab in a string, too.
        let bare = parsed(
            "{\"question_id\": 1, \"text\": \"a\tb\"}",
            BrokenLines::Count,
        )
        .unwrap();
        assert_eq!((bare.rows().len(), bare.broken()), (0, 1));
    }

    #[test]
    fn one_object_of_texts_is_taken_for_rows() {
        let text = "{\n    \"validation_Art_1\": \"B\",\n    \"validation_Art_2\": \"12\"\n}";
        let answers = parsed(text, BrokenLines::Refuse).unwrap();
        assert_eq!(answers.rows().len(), 2);
        assert_eq!(&*answers.rows()[1].text, "12");
    }
}
