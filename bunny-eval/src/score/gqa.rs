//! GQA: exact answers, by how the question was built, and how the answers are distributed.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::Given;
use super::report::{Judged, Scored, State};
use super::statistic::{Statistic, ratio};
use crate::convention::Convention;
use crate::python::{round, strip};
use crate::suites::gqa::Gold;

const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// An answer as the reference submits it: full stops at its end dropped, in lower case.
pub(crate) fn prediction(answer: &str) -> String {
    answer.trim_end_matches('.').to_lowercase()
}

pub(crate) fn score(given: &Given<'_>, gold: &[Gold]) -> Scored {
    let mut scored = Scored::default();
    let mut tables: [BTreeMap<String, Count>; 4] = Default::default();
    let (mut all, mut binary, mut open) = (Count::default(), Count::default(), Count::default());
    let mut rows = Vec::new();
    let mut spread = Spread::default();
    for (at, gold) in gold.iter().enumerate() {
        let answer = given.last[at];
        let said = answer.map(|answer| match given.convention {
            Convention::Reference => prediction(&answer.text),
            Convention::LmmsEval => without_punctuation(strip(&answer.text)),
            Convention::VlmEvalKit => strip(&answer.text).to_lowercase(),
        });
        let right = said.as_ref().is_some_and(|said| match given.convention {
            Convention::Reference => *said == gold.answer,
            Convention::LmmsEval => *said == without_punctuation(&gold.answer),
            Convention::VlmEvalKit => *said == strip(&gold.answer).to_lowercase(),
        });
        if gold.is_balanced {
            all.add(right);
            let is_open = gold.structural == "query";
            if is_open {
                open.add(right)
            } else {
                binary.add(right)
            }
            let keys = [
                gold.structural.clone(),
                gold.semantic.clone(),
                // Sorted as numbers.
                format!("{:04}", gold.steps),
                format!("{:04}", gold.words),
            ];
            for (table, key) in tables.iter_mut().zip(keys) {
                table.entry(key).or_default().add(right);
            }
            if let Some(group) = &gold.group {
                spread.add(group, &gold.answer, said.as_deref());
            }
            rows.push((given.questions[at].cluster(), f64::from(u8::from(right))));
        }
        scored.judged.push(Judged {
            question: at,
            gold: Some(gold.answer.clone()),
            score: f64::from(u8::from(right)),
            // Any text is an answer here.
            state: if said.is_some() {
                State::Parsed
            } else {
                State::Missing
            },
            parsed: said,
        });
    }
    scored.score("accuracy", all.percent());
    if given.convention == Convention::Reference {
        scored.score("binary", binary.percent());
        scored.score("open", open.percent());
        scored.score("distribution", round(spread.chi_square() / 100.0, 2));
        if spread.groups.is_empty() {
            scored.divides_by_nothing("distribution");
        }
    }
    let kinds = ["structural type", "semantic type", "steps", "words"];
    for (kind, table) in kinds.into_iter().zip(tables) {
        for (name, count) in table {
            let short = name.trim_start_matches('0');
            let name = if kind.contains("type") {
                name
            } else {
                format!("{kind} {}", if short.is_empty() { "0" } else { short })
            };
            let value = json!({
                "score": count.percent(),
                "kind": kind,
                "questions": count.rows,
                "right": count.right,
            });
            // A semantic type may be named as a structural one.
            let name = if scored.categories.contains_key(&name) {
                format!("{kind} {name}")
            } else {
                name
            };
            scored.categories.insert(name, value);
        }
    }
    if !given.matched.missing.is_empty() && given.convention == Convention::Reference {
        scored.notes.push(
            "questions lack an answer, which stops the reference's script; they count as wrong here"
                .to_owned(),
        );
    }
    scored
        .details
        .insert("right".to_owned(), Value::from(all.right));
    scored
        .statistics
        .push(Statistic::mean("accuracy", 100.0, rows));
    scored
}

/// ASCII punctuation deleted, in lower case; and zeros at the end, which numpy's texts lack.
fn without_punctuation(text: &str) -> String {
    let lower = text.trim_end_matches('\0').to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|character| !PUNCTUATION.contains(*character))
        .collect();
    kept.trim_end_matches('\0').to_owned()
}

#[derive(Clone, Copy, Default)]
struct Count {
    rows: usize,
    right: usize,
}

impl Count {
    fn add(&mut self, right: bool) {
        self.rows += 1;
        self.right += usize::from(right);
    }

    fn percent(self) -> f64 {
        round(ratio(self.right as f64, self.rows as f64) * 100.0, 2)
    }
}

/// How often each answer is right, and is said, by group of questions; groups as they come.
#[derive(Default)]
struct Spread {
    groups: Vec<Group>,
    places: HashMap<String, usize>,
}

#[derive(Default)]
struct Group {
    gold: Vec<(String, usize)>,
    said: HashMap<String, usize>,
}

impl Spread {
    fn add(&mut self, group: &str, gold: &str, said: Option<&str>) {
        let place = *self.places.entry(group.to_owned()).or_insert_with(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        let group = &mut self.groups[place];
        match group.gold.iter_mut().find(|(answer, _)| answer == gold) {
            Some((_, count)) => *count += 1,
            None => group.gold.push((gold.to_owned(), 1)),
        }
        if let Some(said) = said {
            *group.said.entry(said.to_owned()).or_default() += 1;
        }
    }

    /// Σ (said − right)² / right of each group, weighed by its questions; 0 without groups.
    fn chi_square(&self) -> f64 {
        let (mut sum, mut all) = (0.0, 0.0);
        for group in &self.groups {
            let (mut score, mut rows) = (0.0, 0.0);
            for (answer, expected) in &group.gold {
                let expected = *expected as f64;
                let said = group.said.get(answer).copied().unwrap_or(0) as f64;
                score += (said - expected).powi(2) / expected;
                rows += expected;
            }
            sum += score * rows;
            all += rows;
        }
        ratio(sum, all)
    }
}
