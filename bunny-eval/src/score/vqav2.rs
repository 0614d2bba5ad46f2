//! VQAv2: how many of ten people gave the same answer, where their answers are public.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Statistic, ratio};
use super::{Given, vqa_answer};
use crate::convention::Convention;
use crate::python::{round, strip};
use crate::suites::vqav2::Gold;

/// Scores by people's answers; where there are none (`None`), it only says what was answered.
pub(crate) fn score(given: &Given<'_>, gold: Option<&[Option<Gold>]>) -> Scored {
    let mut scored = Scored::default();
    let normalise: fn(&str) -> String = match given.convention {
        Convention::LmmsEval => vqa_answer::from_punctuation,
        Convention::Reference | Convention::VlmEvalKit => vqa_answer::normalise,
    };
    // People's answers repeat: each is normalised once.
    let mut known: HashMap<&str, String> = HashMap::new();
    let mut types: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    let mut rows = Vec::new();
    for (at, question) in given.questions.iter().enumerate() {
        let answer = given.last[at];
        let said = answer.map(|answer| match given.convention {
            Convention::LmmsEval => normalise(strip(&answer.text)),
            _ => normalise(&answer.text),
        });
        let people = gold.and_then(|gold| gold[at].as_ref());
        let mut value = 0.0;
        if let Some(people) = people {
            let matches: Vec<bool> = people
                .answers
                .iter()
                .map(|one| {
                    let one = known.entry(one).or_insert_with_key(|one| normalise(one));
                    said.as_ref() == Some(one)
                })
                .collect();
            value = vqa_answer::agreement(&matches);
            let count = types.entry(&people.answer_type).or_default();
            count.0 += value;
            count.1 += 1;
            rows.push((question.cluster(), value));
        }
        scored.judged.push(Judged {
            question: at,
            gold: people.map(|people| people.answers.join(" | ")),
            score: value,
            state: if said.is_some() {
                State::Parsed
            } else {
                State::Missing
            },
            parsed: said,
        });
    }
    if gold.is_some() {
        let sum: f64 = types.values().map(|(sum, _)| sum).sum();
        let all: usize = types.values().map(|(_, count)| count).sum();
        scored.score("accuracy", round(100.0 * ratio(sum, all as f64), 2));
        for (name, (sum, count)) in types {
            let value = json!({
                "score": round(100.0 * ratio(sum, count as f64), 2),
                "questions": count,
            });
            scored.categories.insert(name.to_owned(), value);
        }
        scored
            .statistics
            .push(Statistic::mean("accuracy", 100.0, rows));
    }
    scored
}
