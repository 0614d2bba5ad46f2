//! MME: accuracy and accuracy of pairs, summed over fourteen tasks.

use std::collections::HashMap;

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Figure, Statistic, f1, ratio};
use super::{Given, yes_no};
use crate::convention::Convention;
use crate::error::{EvalError, Result};
use crate::python;
use crate::question::Question;
use crate::suites::mme::{Asked, COGNITION, Gold, PERCEPTION};

/// One answer, as the benchmark's own files record it.
struct Answered {
    asked: Asked,
    answer: String,
}

/// A task's counts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Task {
    questions: usize,
    right: usize,
    pictures: usize,
    both: usize,
    /// True yes, missed yes, true no, missed no; answers that are neither are left out.
    confusion: [usize; 4],
    other: usize,
}

impl Task {
    fn add(&mut self, gold_is_yes: bool, said: Option<bool>) -> bool {
        self.questions += 1;
        match said {
            None => self.other += 1,
            Some(said) => {
                let at = match (gold_is_yes, said) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, false) => 2,
                    (false, true) => 3,
                };
                self.confusion[at] += 1;
            }
        }
        let right = said == Some(gold_is_yes);
        self.right += usize::from(right);
        right
    }

    fn accuracy(&self) -> f64 {
        ratio(self.right as f64, self.questions as f64)
    }

    fn accuracy_of_pairs(&self) -> f64 {
        ratio(self.both as f64, self.pictures as f64)
    }

    fn score(&self) -> f64 {
        self.accuracy() * 100.0 + self.accuracy_of_pairs() * 100.0
    }
}

/// The lines that the reference writes for a task: picture, question, right answer, answer.
pub(crate) fn answer_lines(given: &Given<'_>, gold: &Gold) -> Result<Vec<(String, String)>> {
    let mut tasks: Vec<(String, String)> = Vec::new();
    for Answered { asked, answer, .. } in answered(given, gold)? {
        let line = format!(
            "{}\t{}\t{}\t{answer}\n",
            asked.file, asked.question, asked.gold
        );
        match tasks
            .iter_mut()
            .find(|(category, _)| *category == asked.category)
        {
            Some((_, lines)) => lines.push_str(&line),
            None => tasks.push((asked.category, line)),
        }
    }
    Ok(tasks)
}

fn answered(given: &Given<'_>, gold: &Gold) -> Result<Vec<Answered>> {
    let rows = given.matched.rows.iter().map(|(question, answer)| {
        let asked = &given.questions[*question];
        let prompt = answer.prompt.as_deref().unwrap_or(&asked.text);
        let found = gold
            .asked(&asked.id, prompt)
            .or_else(|| gold.asked(&asked.id, &asked.text));
        let asked = found.ok_or_else(|| no_gold(given, asked))?;
        Ok(Answered {
            asked,
            answer: answer.text.sound(),
        })
    });
    rows.collect()
}

fn no_gold(given: &Given<'_>, question: &Question) -> EvalError {
    let what = format!(
        "the files of MME's pictures have no answer to question_id {}: {}",
        question.id,
        question.text.lines().next().unwrap_or_default()
    );
    EvalError::content(given.data, None, what)
}

/// The script's own walk over a task's lines: what has not four columns is dropped, and what is
/// left is taken two by two. `None` where the script stops with an error.
fn script(lines: &str) -> Option<Task> {
    let lines: Vec<[&str; 4]> = python::lines(lines)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            columns.try_into().ok()
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let mut task = Task::default();
    for pair in lines.chunks(2) {
        let [first, second] = pair else { return None };
        let mut both = true;
        for [_, _, gold, answer] in [first, second] {
            let gold_is_yes = match gold.to_lowercase().as_str() {
                "yes" => true,
                "no" => false,
                _ => return None,
            };
            both &= task.add(gold_is_yes, yes_no::mme_reference(answer));
        }
        task.pictures += 1;
        task.both += usize::from(both);
    }
    Some(task)
}

/// What a convention finds in an answer. Of several lines only the first counts in the reference.
fn said(convention: Convention, answer: &str) -> Option<bool> {
    match convention {
        Convention::Reference => {
            yes_no::mme_reference(python::lines(answer).next().unwrap_or_default())
        }
        Convention::LmmsEval => yes_no::mme_lmms(answer),
        Convention::VlmEvalKit => yes_no::vlmevalkit(answer),
    }
}

pub(crate) fn score(given: &Given<'_>, gold: &Gold) -> Result<Scored> {
    let mut scored = Scored::default();
    let mut strict: HashMap<String, Task> = HashMap::new();
    let mut pictures: HashMap<(String, String), (usize, usize)> = HashMap::new();
    let mut rows = Vec::new();
    for (at, question) in given.questions.iter().enumerate() {
        let asked = gold
            .asked(&question.id, &question.text)
            .ok_or_else(|| no_gold(given, question))?;
        let gold_is_yes = asked.gold.eq_ignore_ascii_case("yes");
        let answer = given.last[at];
        let said = answer.and_then(|answer| said(given.convention, &answer.text));
        let right = strict
            .entry(asked.category.clone())
            .or_default()
            .add(gold_is_yes, said);
        let picture = pictures
            .entry((asked.category.clone(), question.cluster()))
            .or_default();
        picture.0 += 1;
        picture.1 += usize::from(right);
        scored.judged.push(Judged {
            question: at,
            parsed: said.map(|yes| yes_no::word(yes).to_owned()),
            gold: Some(asked.gold),
            score: f64::from(u8::from(right)),
            state: match (answer, said) {
                (None, _) => State::Missing,
                (Some(_), None) => State::Unparsed,
                (Some(_), Some(_)) => State::Parsed,
            },
        });
        rows.push((asked.category, question.cluster(), right));
    }
    for ((category, _), (asked, right)) in &pictures {
        if let Some(task) = strict.get_mut(category) {
            task.pictures += 1;
            task.both += usize::from(asked == right);
        }
    }

    let mut tasks = strict.clone();
    if given.convention == Convention::Reference {
        let lines: HashMap<String, String> = answer_lines(given, gold)?.into_iter().collect();
        for (category, task) in &mut tasks {
            match lines.get(category).and_then(|lines| script(lines)) {
                Some(told) => {
                    *task = told;
                    if task.other == task.questions {
                        scored.notes.push(format!(
                            "{category}: no answer says yes or no, which stops the reference's \
                             script; it counts as 0 here"
                        ));
                    }
                }
                None => scored.notes.push(format!(
                    "{category}: the reference's script gives no figure for these answers; this \
                     one pairs them by picture and counts missing ones as wrong"
                )),
            }
        }
        scored.notes.sort();
    }
    for (name, strict_name, categories) in [
        ("perception", "perception_strict", &PERCEPTION[..]),
        ("cognition", "cognition_strict", &COGNITION),
    ] {
        let total = |tasks: &HashMap<String, Task>| -> f64 {
            categories
                .iter()
                .filter_map(|category| tasks.get(*category))
                .map(Task::score)
                .sum()
        };
        scored.score(name, total(&tasks));
        if tasks != strict {
            scored.score(strict_name, total(&strict));
        }
        for category in categories {
            if let Some(task) = tasks.get(*category) {
                scored
                    .categories
                    .insert((*category).to_owned(), told(task, name));
            }
        }
        let strata = rows.iter().filter_map(|(category, picture, right)| {
            let stratum = categories.iter().position(|name| name == category)?;
            let both = &pictures[&(category.clone(), picture.clone())];
            // Of a picture's rows each brings its share, so that their sum counts the picture once.
            let share = 1.0 / both.0 as f64;
            let both = if both.0 == both.1 { share } else { 0.0 };
            Some((
                picture.clone(),
                stratum,
                vec![f64::from(u8::from(*right)), both, 1.0, share],
            ))
        });
        // What is drawn are pictures with both their rows, which the script may take apart.
        let figure = if tasks == strict { name } else { strict_name };
        scored
            .statistics
            .push(Statistic::gathered(figure, Figure::Mme, "picture", strata));
    }
    Ok(scored)
}

fn told(task: &Task, kind: &str) -> serde_json::Value {
    let [tp, fn_, tn, fp] = task.confusion;
    let (precision, recall) = (
        ratio(tp as f64, (tp + fp) as f64),
        ratio(tp as f64, (tp + fn_) as f64),
    );
    json!({
        "score": task.score(),
        "kind": kind,
        "accuracy": task.accuracy(),
        "accuracy_of_pairs": task.accuracy_of_pairs(),
        "questions": task.questions,
        "pictures": task.pictures,
        "tp": tp, "fn": fn_, "tn": tn, "fp": fp,
        "precision": precision,
        "recall": recall,
        "f1": f1(tp as f64, fp as f64, fn_ as f64),
        "other": task.other,
    })
}
