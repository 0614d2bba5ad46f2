//! Questions of one's own: files of several forms, and six ways to judge an answer.

mod metric;
mod read;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::answer::{Answer, Answers, Matched, matched};
use crate::error::Result;
use crate::question::Question;
use crate::score::statistic::{Statistic, ratio};
use crate::score::{Judged, State, intervals};

pub use metric::{Metric, UnknownMetric};
pub use read::{Form, read, read_questions};

/// A question of one's own and the answers that are right.
#[derive(Clone, Debug)]
pub struct Item {
    /// The question as it is asked.
    pub question: Question,
    /// The right answers: one, or several people's.
    pub answers: Vec<String>,
}

/// What a file of answers to one's own questions is worth.
#[derive(Debug, Serialize)]
pub struct QaReport {
    /// The layout of this report.
    pub format_version: u32,
    /// How answers were judged.
    pub metric: Metric,
    /// How many questions there are.
    pub questions: usize,
    /// How many of them have an answer.
    pub answered: usize,
    /// How many have none; they count as wrong.
    pub missing: usize,
    /// Answers in which nothing was found, counted as wrong.
    pub unparsed: usize,
    /// The mean score, in percent.
    pub score: f64,
    /// Its 95 % intervals, by method.
    pub intervals: Map<String, Value>,
    /// Every question, judged.
    #[serde(skip)]
    pub judged: Vec<Judged>,
    /// What intervals and comparisons are computed from.
    #[serde(skip)]
    pub statistic: Statistic,
}

/// The questions alone.
pub fn questions(items: &[Item]) -> Vec<Question> {
    items.iter().map(|item| item.question.clone()).collect()
}

/// The last answer to each question.
///
/// # Errors
/// When an answer is to no question.
pub fn last<'a>(questions: &[Question], answers: &'a Answers) -> Result<Vec<Option<&'a Answer>>> {
    Ok(answered(questions, answers)?.last(questions.len()))
}

fn answered<'a>(questions: &[Question], answers: &'a Answers) -> Result<Matched<'a>> {
    let same = |question: &Question, prompt: &str| question.recorded.as_deref() == Some(prompt);
    matched("the file of questions", questions, answers, same)
}

/// Judges answers to one's own questions.
///
/// # Errors
/// When an answer is to no question.
pub fn score(items: &[Item], answers: &Answers, metric: Metric) -> Result<QaReport> {
    let questions = questions(items);
    let matched = answered(&questions, answers)?;
    let last = matched.last(items.len());
    let judged: Vec<Judged> = items
        .iter()
        .zip(&last)
        .enumerate()
        .map(|(at, (item, answer))| {
            let found = answer.map(|answer| metric.judge(item, &answer.text));
            Judged {
                question: at,
                parsed: found.as_ref().and_then(|found| found.parsed.clone()),
                gold: Some(item.answers.join(" | ")),
                score: found.as_ref().map_or(0.0, |found| found.score),
                state: match &found {
                    None => State::Missing,
                    Some(found) if found.parsed.is_none() => State::Unparsed,
                    Some(_) => State::Parsed,
                },
            }
        })
        .collect();
    let rows = judged.iter().zip(&questions);
    let statistic = Statistic::mean(
        "score",
        100.0,
        rows.map(|(judged, question)| (question.cluster(), judged.score)),
    );
    let sum: f64 = judged.iter().map(|judged| judged.score).sum();
    let mut intervals = intervals(std::slice::from_ref(&statistic));
    Ok(QaReport {
        format_version: 1,
        metric,
        questions: items.len(),
        answered: last.iter().flatten().count(),
        missing: matched.missing.len(),
        unparsed: judged
            .iter()
            .filter(|judged| judged.state == State::Unparsed)
            .count(),
        score: 100.0 * ratio(sum, items.len() as f64),
        intervals: match intervals.remove("score") {
            Some(Value::Object(methods)) => methods,
            _ => Map::new(),
        },
        judged,
        statistic,
    })
}
