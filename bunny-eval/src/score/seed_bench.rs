//! SEED-Bench: exact letters, by type; all, pictures, videos.

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Statistic, ratio};
use super::{Given, letter};
use crate::convention::Convention;
use crate::python::{round, strip};
use crate::suites::seed_bench::{Gold, Row};

pub(crate) fn score(given: &Given<'_>, gold: &Gold) -> Scored {
    let mut scored = Scored::default();
    let answer = |row: &Row| given.last[row.question?];
    let judged: Vec<(&Row, bool, Option<String>)> = gold
        .rows
        .iter()
        .map(|row| {
            let text = answer(row).map(|answer| &*answer.text);
            let parsed = text.and_then(|text| parsed(given.convention, text, row));
            (row, parsed.as_ref() == Some(&row.answer), parsed)
        })
        .collect();
    for (row, right, parsed) in &judged {
        let Some(question) = row.question else {
            continue;
        };
        scored.judged.push(Judged {
            question,
            gold: Some(row.answer.clone()),
            score: f64::from(u8::from(*right)),
            state: match (answer(row), parsed) {
                (None, _) => State::Missing,
                (Some(_), None) => State::Unparsed,
                (Some(_), Some(_)) => State::Parsed,
            },
            parsed: parsed.clone(),
        });
    }
    let percent = |right: usize, all: usize| round(100.0 * ratio(right as f64, all as f64), 2);
    let count = |of: &dyn Fn(&Row) -> bool| {
        let of = judged.iter().filter(|(row, ..)| of(row));
        (
            of.clone().filter(|(_, right, _)| *right).count(),
            of.count(),
        )
    };
    for (id, name) in &gold.types {
        let (right, all) = count(&|row| row.type_id == *id);
        if all > 0 {
            let value = json!({"score": percent(right, all), "questions": all, "right": right});
            scored.categories.insert(name.clone(), value);
        }
        let answered = judged
            .iter()
            .filter(|(row, ..)| row.type_id == *id && answer(row).is_some());
        let is_reference = given.convention == Convention::Reference;
        if is_reference && right == 0 && all > 0 && answered.count() == all {
            scored.notes.push(format!(
                "{name}: no answer is right, which stops the reference's script; it counts as 0 here"
            ));
        }
    }
    let all = |_: &Row| true;
    let pictures = |row: &Row| row.is_picture;
    let videos = |row: &Row| !row.is_picture;
    type Belongs = fn(&Row) -> bool;
    let parts: [(&'static str, Belongs); 3] =
        [("total", all), ("image", pictures), ("video", videos)];
    for (name, of) in parts {
        // VLMEvalKit has the pictures alone.
        if given.convention == Convention::VlmEvalKit && name != "image" {
            continue;
        }
        let (right, all) = count(&of);
        scored.score(name, percent(right, all));
        if given.convention == Convention::Reference && all == 0 {
            scored.divides_by_nothing(name);
        }
        scored
            .details
            .insert(format!("{name}_questions"), json!(all));
        let rows = judged
            .iter()
            .filter(|(row, ..)| of(row))
            .map(|(row, right, _)| {
                let cluster = row
                    .question
                    .map(|question| given.questions[question].cluster());
                (
                    cluster.unwrap_or_else(|| row.id.clone()),
                    f64::from(u8::from(*right)),
                )
            });
        scored.statistics.push(Statistic::mean(name, 100.0, rows));
    }
    scored
}

/// The letter that an answer says; `None` where it says none.
fn parsed(convention: Convention, text: &str, row: &Row) -> Option<String> {
    let is_letter = |text: &str| matches!(text, "A" | "B" | "C" | "D");
    match convention {
        Convention::Reference => Some(text.to_owned()).filter(|text| is_letter(text)),
        Convention::LmmsEval => {
            let first: String = strip(text).chars().take(1).collect();
            Some(first.to_uppercase()).filter(|letter| is_letter(letter))
        }
        Convention::VlmEvalKit => {
            letter::vlmevalkit(text, &letter::lettered(&row.options)).map(String::from)
        }
    }
}
