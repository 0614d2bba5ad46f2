//! MMBench: a question counts if every rotation of it is right.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Figure, Statistic, ratio};
use super::{Given, letter, letter_lmms};
use crate::convention::Convention;
use crate::python::{round, strip};
use crate::suites::mmbench::{ROTATION, Table};

/// Short names of the six abilities, by the name that the table gives them.
const ABILITIES: [(&str, &str); 6] = [
    ("coarse_perception", "CP"),
    ("finegrained_perception (instance-level)", "FP-S"),
    ("finegrained_perception (cross-instance)", "FP-C"),
    ("logic_reasoning", "LR"),
    ("relation_reasoning", "RR"),
    ("attribute_reasoning", "AR"),
];

/// A question, all rotations together.
#[derive(Default)]
struct Circle {
    rows: usize,
    right: usize,
    /// Its first row, whose category and ability count.
    main: Option<usize>,
}

pub(crate) fn score(given: &Given<'_>, table: &Table) -> Scored {
    let mut scored = Scored::default();
    let has_answers = table.column("answer").is_some();
    for (at, row) in table.rows.iter().enumerate() {
        let choices = table.choices(row);
        let choices: Vec<letter::Choice<'_>> = choices
            .iter()
            .map(|(letter, text)| (*letter, text.as_str()))
            .collect();
        let gold = table.cell(row, "answer");
        let answer = given.last[at];
        let found = answer.and_then(|answer| match given.convention {
            // The reference leaves it to the server; these are its rules without a judge.
            Convention::Reference | Convention::VlmEvalKit => {
                letter::vlmevalkit(&answer.text, &choices)
            }
            Convention::LmmsEval => letter_lmms::mmbench(strip(&answer.text), &choices),
        });
        let found = found.map(String::from);
        scored.judged.push(Judged {
            question: at,
            score: f64::from(u8::from(found.is_some() && found == gold)),
            state: match (answer, &found) {
                (None, _) => State::Missing,
                (Some(_), None) => State::Unparsed,
                (Some(_), Some(_)) => State::Parsed,
            },
            parsed: found,
            gold,
        });
    }
    if has_answers {
        tables(table, &mut scored);
    }
    if has_answers && given.convention == Convention::Reference {
        scored.notes.push(
            "the paper's figure is the server's, which asks a judge model where no letter is \
             found; this one counts such answers as wrong"
                .to_owned(),
        );
    }
    scored
}

fn tables(table: &Table, scored: &mut Scored) {
    let mut circles: BTreeMap<i64, Circle> = BTreeMap::new();
    for (at, (row, judged)) in table.rows.iter().zip(&scored.judged).enumerate() {
        let circle = circles.entry(row.index % ROTATION).or_default();
        circle.rows += 1;
        circle.right += usize::from(judged.score == 1.0);
        if row.index < ROTATION {
            circle.main = Some(at);
        }
    }
    let hits: Vec<(i64, usize, bool)> = circles
        .into_iter()
        .filter_map(|(index, circle)| Some((index, circle.main?, circle.rows == circle.right)))
        .collect();
    let percent = |part: usize, whole: usize| round(100.0 * ratio(part as f64, whole as f64), 2);
    let right = |at: &usize| scored.judged[*at].score == 1.0;
    let main_right = hits.iter().filter(|(_, main, _)| right(main)).count();
    let all_right = (0..table.rows.len()).filter(right).count();
    let circular = hits.iter().filter(|(_, _, hit)| *hit).count();
    scored.score("accuracy", percent(circular, hits.len()));
    scored.score("main_rows", percent(main_right, hits.len()));
    scored.score("all_rows", percent(all_right, table.rows.len()));
    for column in ["l2-category", "category"] {
        let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (_, main, hit) in &hits {
            let name = table.cell(&table.rows[*main], column).unwrap_or_default();
            let group = groups.entry(name).or_default();
            group.0 += 1;
            group.1 += usize::from(*hit);
        }
        let short: HashMap<_, _> = ABILITIES.into_iter().collect();
        for (name, (questions, right)) in groups {
            let told = short
                .get(name.as_str())
                .copied()
                .unwrap_or(&name)
                .to_owned();
            let value = json!({
                "score": percent(right, questions),
                "kind": column,
                "questions": questions,
                "right": right,
            });
            scored.categories.insert(told, value);
        }
    }
    let units = hits.iter().map(|(index, _, hit)| {
        (
            index.to_string(),
            0,
            vec![f64::from(u8::from(*hit)), 1.0, f64::from(u8::from(*hit))],
        )
    });
    let figure = Figure::Mean { scale: 100.0 };
    scored
        .statistics
        .push(Statistic::gathered("accuracy", figure, "question", units));
}
