//! Files for the servers that score, and for the benchmarks' own scorers: byte for byte as the
//! reference's scripts write them.

use std::collections::HashSet;

use crate::answer::{Answer, Answers};
use crate::benchmark::Benchmark;
use crate::convention::Convention;
use crate::error::{EvalError, Result};
use crate::python;
use crate::question::QuestionId;
use crate::score::{Given, Gold, Suite, gqa, mme, mmmu, vqa_answer};
use crate::suites::mmbench::{DROPPED, Table};
use crate::suites::seed_bench;
use crate::text::Text;

mod xlsx;

use xlsx::Cell;

/// Files that a server or a scorer takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Submission {
    /// The name of each, and its content. MME has one a category, the others one.
    pub files: Vec<(String, Vec<u8>)>,
    /// How many rows stand for questions that were not asked (VQAv2's other sets) or not answered.
    pub padded: usize,
    /// How many characters the form cannot hold; each became a space.
    pub replaced: usize,
}

impl Submission {
    fn one(name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            files: vec![(name.into(), content.into())],
            padded: 0,
            replaced: 0,
        }
    }
}

/// Makes the files of a benchmark from answers.
///
/// # Errors
/// When the benchmark takes none, answers lack, or only a part was asked.
pub fn submission(suite: &Suite, answers: &Answers) -> Result<Submission> {
    let benchmark = suite.benchmark();
    if suite.is_partial() {
        return Err(EvalError::PartialSubmission { benchmark });
    }
    let matched = suite.matched(answers)?;
    let given = suite.given(&matched, Convention::Reference);
    if let (Some(first), true) = (matched.missing.first(), benchmark != Benchmark::Vqav2) {
        return Err(EvalError::Incomplete {
            benchmark,
            missing: matched.missing.len(),
            questions: suite.questions().len(),
            first: suite.questions()[*first].id.clone(),
        });
    }
    match suite.gold() {
        Gold::Mme(gold) => {
            let tasks = mme::answer_lines(&given, gold)?.into_iter();
            let files =
                tasks.map(|(category, lines)| (format!("{category}.txt"), lines.into_bytes()));
            Ok(Submission {
                files: files.collect(),
                padded: 0,
                replaced: 0,
            })
        }
        Gold::Mmbench(table) => spreadsheet(table, &given),
        Gold::Mmmu(rows, _) => {
            let said = mmmu::submitted(&given, rows).into_iter().flatten();
            let pairs = rows.iter().zip(said).map(|(row, said)| {
                format!(
                    "    {}: {}",
                    string(&row.question.id.as_text().into()),
                    string(&said)
                )
            });
            let pairs: Vec<String> = pairs.collect();
            let text = if pairs.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{\n{}\n}}", pairs.join(",\n"))
            };
            Ok(Submission::one(format!("{benchmark}.json"), text))
        }
        Gold::SeedBench(gold) => {
            let rows = gold
                .rows
                .iter()
                .filter_map(|row| Some((row, given.last[row.question?]?)));
            let lines = rows.map(|(row, answer): (&seed_bench::Row, &Answer)| {
                let id = string(&row.id.as_str().into());
                format!(
                    "{{\"question_id\": {id}, \"prediction\": {}}}\n",
                    string(&answer.text)
                )
            });
            Ok(Submission::one(
                format!("{benchmark}.jsonl"),
                lines.collect::<String>(),
            ))
        }
        Gold::Gqa(_) => {
            let rows = suite.questions().iter().zip(&given.last);
            let rows = rows.filter_map(|(question, answer)| Some((question, (*answer)?)));
            let rows = rows.map(|(question, answer)| {
                let said = answer.text.derived(gqa::prediction(&answer.text));
                format!(
                    "{{\"questionId\": {}, \"prediction\": {}}}",
                    id(&question.id),
                    string(&said)
                )
            });
            let text = format!("[{}]", rows.collect::<Vec<_>>().join(", "));
            Ok(Submission::one("testdev_balanced_predictions.json", text))
        }
        Gold::Vqav2(None) => whole_set(suite, &given),
        Gold::Vqav2(Some(_)) | Gold::ScienceQa(_) | Gold::Pope(_) => {
            Err(EvalError::NoSubmission { benchmark })
        }
    }
}

fn string(text: &Text) -> String {
    let mut out = String::new();
    python::json::string(&mut out, text);
    out
}

fn id(id: &QuestionId) -> String {
    match id {
        QuestionId::Number(number) => number.to_string(),
        QuestionId::Text(text) => string(&text.as_str().into()),
    }
}

/// VQAv2's: a row for every question of the whole test set, empty where it was not asked.
fn whole_set(suite: &Suite, given: &Given<'_>) -> Result<Submission> {
    let whole = crate::suites::vqav2::whole(suite.folder())?;
    let questions = suite.questions().iter().map(|question| &question.id);
    let answers: std::collections::HashMap<&QuestionId, &Answer> = questions
        .zip(&given.last)
        .filter_map(|(id, answer)| Some((id, (*answer)?)))
        .collect();
    let mut padded = 0;
    let mut text = String::from("[");
    for (at, own) in whole.iter().enumerate() {
        let said = answers
            .get(own)
            .map(|answer| answer.text.derived(vqa_answer::normalise(&answer.text)));
        padded += usize::from(said.is_none());
        text.push_str(if at == 0 {
            "{\"question_id\": "
        } else {
            ", {\"question_id\": "
        });
        text.push_str(&id(own));
        text.push_str(", \"answer\": ");
        python::json::string(&mut text, &said.unwrap_or_default());
        text.push('}');
    }
    text.push(']');
    let known: HashSet<&QuestionId> = whole.iter().collect();
    if let Some(stray) = suite
        .questions()
        .iter()
        .find(|question| !known.contains(&question.id))
    {
        let what = format!("it lacks question_id {}, which test-dev asks", stray.id);
        return Err(EvalError::content(
            suite.folder().place(crate::suites::vqav2::WHOLE)?,
            None,
            what,
        ));
    }
    let mut submission = Submission::one("vqav2.json", text);
    submission.padded = padded;
    Ok(submission)
}

/// Where MMBench's own answers stand among the columns that are kept.
const PREDICTION: usize = 6;

/// MMBench's: the table without six columns, and with what was said.
fn spreadsheet(table: &Table, given: &Given<'_>) -> Result<Submission> {
    let kept: Vec<usize> = (0..table.header.len())
        .filter(|at| !DROPPED.contains(&table.header[*at].as_str()))
        .collect();
    let mut columns: Vec<Vec<Cell>> = kept
        .iter()
        .map(|at| {
            let cells = table
                .rows
                .iter()
                .map(|row| row.cells.get(*at).cloned().flatten());
            let mut column = vec![Cell::Text(table.header[*at].clone())];
            column.extend(typed(cells.collect()));
            column
        })
        .collect();
    let mut said = vec![Cell::Text("prediction".to_owned())];
    said.extend(given.last.iter().map(|answer| match answer {
        Some(answer) => Cell::Text(answer.text.sound()),
        None => Cell::Blank,
    }));
    columns.insert(PREDICTION.min(columns.len()), said);
    let rows: Vec<Vec<Cell>> = (0..=table.rows.len())
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect();
    let name = table.file.replace("_legacy.tsv", ".xlsx");
    let (bytes, replaced) = xlsx::write(&rows).map_err(EvalError::io(&name, "write"))?;
    let mut submission = Submission::one(name, bytes);
    submission.replaced = replaced;
    Ok(submission)
}

/// A column as pandas reads it: of numbers, if all that is there are numbers.
fn typed(cells: Vec<Option<String>>) -> Vec<Cell> {
    let is_number = |text: &String| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'))
            && text.parse::<f64>().is_ok()
    };
    let all_numbers = cells.iter().flatten().all(is_number);
    let cell = |text: String| match text.parse() {
        Ok(number) if all_numbers => Cell::Number(number),
        _ => Cell::Text(text),
    };
    cells
        .into_iter()
        .map(|text| text.map_or(Cell::Blank, cell))
        .collect()
}
