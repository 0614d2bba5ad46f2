//! ScienceQA: letters, over all questions and over those with a picture.

use std::collections::BTreeMap;

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Statistic, ratio};
use super::{Given, letter};
use crate::convention::Convention;
use crate::prompt::PICTURE;
use crate::python::{round, strip};
use crate::suites::scienceqa::{Gold, Problem};

const LETTERS: [char; 5] = ['A', 'B', 'C', 'D', 'E'];
const SENTENCE: &str = "The answer is ";

pub(crate) fn score(given: &Given<'_>, gold: &[Gold]) -> Scored {
    let mut scored = Scored::default();
    let mut counts = [Count::default(); 3];
    let mut subjects: BTreeMap<&str, Count> = BTreeMap::new();
    let mut clusters: [Vec<(String, f64)>; 2] = Default::default();
    for Gold { question, problem } in gold {
        let asked = &given.questions[*question];
        let answer = given.last[*question];
        let parsed = answer.and_then(|answer| parsed(given.convention, &answer.text, problem));
        // A letter beyond the options is none of them, and wrong.
        let place = parsed.and_then(|parsed| LETTERS.iter().position(|letter| *letter == parsed));
        let right =
            place.is_some_and(|place| place == problem.answer && place < problem.choices.len());
        let has_picture = !asked.pictures.is_empty();
        // The script looks into the prompt that was recorded with the answer.
        let is_counted = match given.convention {
            Convention::Reference => answer.is_some_and(|answer| {
                let prompt = answer.prompt.as_deref().or(asked.recorded.as_deref());
                prompt.unwrap_or_default().contains(PICTURE)
            }),
            Convention::LmmsEval | Convention::VlmEvalKit => has_picture,
        };
        for (count, is_in) in counts.iter_mut().zip([true, is_counted, has_picture]) {
            count.add(is_in, right);
        }
        subjects
            .entry(&problem.subject)
            .or_default()
            .add(true, right);
        let score = f64::from(u8::from(right));
        for (clusters, is_in) in clusters.iter_mut().zip([true, is_counted]) {
            clusters.extend(is_in.then(|| (asked.cluster(), score)));
        }
        scored.judged.push(Judged {
            question: *question,
            parsed: parsed.map(String::from),
            gold: LETTERS.get(problem.answer).map(|letter| letter.to_string()),
            score,
            state: match (answer, parsed) {
                (None, _) => State::Missing,
                (Some(_), None) => State::Unparsed,
                (Some(_), Some(_)) => State::Parsed,
            },
        });
    }
    let [all, counted, pictures] = counts;
    scored.score("img", counted.percent());
    scored.score("total", all.percent());
    scored.score("img_strict", pictures.percent());
    if given.convention == Convention::Reference && counted.rows == 0 {
        scored.divides_by_nothing("img");
    }
    for (name, count) in [("", all), ("image_", counted)] {
        scored
            .details
            .insert(format!("{name}correct"), json!(count.right));
        scored
            .details
            .insert(format!("{name}count"), json!(count.rows));
    }
    for (subject, count) in subjects
        .into_iter()
        .filter(|(subject, _)| !subject.is_empty())
    {
        let value =
            json!({"score": count.percent(), "questions": count.rows, "right": count.right});
        scored.categories.insert(subject.to_owned(), value);
    }
    let [total, img] = clusters;
    scored.statistics.push(Statistic::mean("img", 100.0, img));
    scored
        .statistics
        .push(Statistic::mean("total", 100.0, total));
    scored
}

#[derive(Clone, Copy, Default)]
struct Count {
    rows: usize,
    right: usize,
}

impl Count {
    fn add(&mut self, is_in: bool, right: bool) {
        self.rows += usize::from(is_in);
        self.right += usize::from(is_in && right);
    }

    fn percent(self) -> f64 {
        round(ratio(self.right as f64, self.rows as f64) * 100.0, 2)
    }
}

fn parsed(convention: Convention, text: &str, problem: &Problem) -> Option<char> {
    match convention {
        Convention::Reference => reference(text),
        Convention::LmmsEval => lmms(strip(text)),
        Convention::VlmEvalKit => letter::vlmevalkit(text, &letter::lettered(&problem.choices)),
    }
}

/// The whole answer is a letter, or starts with one, a full stop and a space; or one sentence,
/// and no other, says which the answer is.
fn reference(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next().filter(|first| LETTERS.contains(first));
    let rest = characters.as_str();
    if let Some(first) = first.filter(|_| rest.is_empty() || rest.starts_with(". ")) {
        return Some(first);
    }
    let mut found = sentences(text);
    match (found.next(), found.next()) {
        (Some(letter), None) => Some(letter),
        _ => None,
    }
}

/// The letters of `The answer is ([A-Z]).`, whose last sign is any but a line feed.
fn sentences(text: &str) -> impl Iterator<Item = char> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(SENTENCE)?;
            let behind = &rest[at + SENTENCE.len()..];
            let mut characters = behind.chars();
            let letter = characters.next().filter(char::is_ascii_uppercase);
            let end = characters.next().filter(|end| *end != '\n');
            match (letter, end) {
                (Some(letter), Some(_)) => {
                    rest = characters.as_str();
                    return Some(letter);
                }
                _ => rest = behind,
            }
        }
    })
}

/// A letter in any case, or a capital and a full stop at the start.
fn lmms(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    match characters.next() {
        None => Some(first.to_ascii_uppercase()),
        Some('.') if first.is_uppercase() => Some(first),
        _ => None,
    }
}
