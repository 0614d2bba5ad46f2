//! How an answer to one's own question is judged.

use regex::Regex;
use std::sync::LazyLock;

use super::Item;
use crate::named::named;
use crate::python::strip;
use crate::score::letter::{self, Choice};
use crate::score::statistic::ratio;
use crate::score::{vqa_answer, yes_no};

/// How an answer is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Equal to a right answer, but for case, white space around, and full stops at the end.
    #[default]
    Exact,
    /// A right answer occurs in it, in any case.
    Contains,
    /// VQA's: normalised, and by how many of ten people agree (with fewer answers: by any).
    Vqa,
    /// The letter of an option, found as VLMEvalKit finds it. Options stand in the question, a line
    /// each (`A. a cat`); a right answer is a letter or an option's text.
    Choice,
    /// Yes or no, whichever of the words occurs alone.
    YesNo,
    /// ANLS: one less the edit distance over the longer length, 0 below a half.
    Anls,
}

/// What came of an answer.
pub(super) struct Found {
    pub parsed: Option<String>,
    pub score: f64,
}

/// The people who answer a question of VQA.
const PEOPLE: usize = 10;

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 6] = [
        Self::Exact,
        Self::Contains,
        Self::Vqa,
        Self::Choice,
        Self::YesNo,
        Self::Anls,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Contains => "contains",
            Self::Vqa => "vqa",
            Self::Choice => "choice",
            Self::YesNo => "yes-no",
            Self::Anls => "anls",
        }
    }

    pub(super) fn judge(self, item: &Item, answer: &str) -> Found {
        let any = |parsed: String, is_right: &dyn Fn(&str) -> bool| Found {
            score: f64::from(u8::from(item.answers.iter().any(|gold| is_right(gold)))),
            parsed: Some(parsed),
        };
        match self {
            Self::Exact => {
                let said = plain(answer);
                any(said.clone(), &|gold| plain(gold) == said)
            }
            Self::Contains => {
                let said = answer.to_lowercase();
                any(strip(answer).to_owned(), &|gold| {
                    said.contains(&strip(gold).to_lowercase())
                })
            }
            Self::Vqa => vqa(item, answer),
            Self::Choice => choice(item, answer),
            Self::YesNo => {
                let said = yes_no::vlmevalkit(answer);
                let is_right = said.is_some()
                    && item
                        .answers
                        .iter()
                        .any(|gold| yes_no::vlmevalkit(gold) == said);
                Found {
                    parsed: said.map(|yes| yes_no::word(yes).to_owned()),
                    score: f64::from(u8::from(is_right)),
                }
            }
            Self::Anls => Found {
                parsed: Some(strip(answer).to_owned()),
                score: item
                    .answers
                    .iter()
                    .map(|gold| anls(answer, gold))
                    .fold(0.0, f64::max),
            },
        }
    }
}

fn plain(text: &str) -> String {
    strip(strip(text).trim_end_matches('.')).to_lowercase()
}

fn vqa(item: &Item, answer: &str) -> Found {
    let said = vqa_answer::normalise(answer);
    let matches: Vec<bool> = item
        .answers
        .iter()
        .map(|gold| vqa_answer::normalise(gold) == said)
        .collect();
    let score = if matches.len() == PEOPLE {
        vqa_answer::agreement(&matches)
    } else {
        f64::from(u8::from(matches.contains(&true)))
    };
    Found {
        parsed: Some(said),
        score,
    }
}

fn choice(item: &Item, answer: &str) -> Found {
    static OPTION: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?m)^\(?([A-Z])[.):] ?(.+?)\s*$").ok());
    let found = OPTION
        .as_ref()
        .map(|option| option.captures_iter(&item.question.text));
    let choices: Vec<Choice<'_>> = found
        .into_iter()
        .flatten()
        .filter_map(|option| {
            Some((
                option.get(1)?.as_str().chars().next()?,
                option.get(2)?.as_str(),
            ))
        })
        .collect();
    let said = letter::vlmevalkit(answer, &choices).filter(|letter| *letter != letter::DECLINED);
    let is_right = |letter: char| {
        let text = choices
            .iter()
            .find(|(other, _)| *other == letter)
            .map(|(_, text)| *text);
        item.answers.iter().any(|gold| {
            let gold = strip(gold);
            gold.chars().eq([letter]) || text.is_some_and(|text| plain(text) == plain(gold))
        })
    };
    Found {
        score: f64::from(u8::from(said.is_some_and(is_right))),
        parsed: said.map(String::from),
    }
}

/// As the reference's evaluator of scene text computes it; two empty texts are alike.
fn anls(answer: &str, gold: &str) -> f64 {
    let (answer, gold) = (answer.to_lowercase(), gold.to_lowercase());
    let (answer, gold) = (strip(&answer), strip(&gold));
    let longer = answer.chars().count().max(gold.chars().count());
    let likeness = 1.0 - ratio(strsim::levenshtein(answer, gold) as f64, longer as f64);
    if likeness >= 0.5 { likeness } else { 0.0 }
}

named!(Metric, UnknownMetric);

/// No metric has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no metric `{0}`: take one of exact, contains, vqa, choice, yes-no, anls")]
pub struct UnknownMetric(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::{Question, QuestionId};

    fn item(question: &str, answers: &[&str]) -> Item {
        Item {
            question: Question {
                id: QuestionId::Number(1),
                category: String::new(),
                text: question.to_owned(),
                recorded: None,
                pictures: Vec::new(),
                options: Vec::new(),
            },
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
        }
    }

    #[track_caller]
    fn scores(metric: Metric, item: &Item, answer: &str, expected: f64) {
        let found = metric.judge(item, answer);
        assert!(
            (found.score - expected).abs() < 1e-12,
            "{metric}: {answer}: {}",
            found.score
        );
    }

    #[test]
    fn each_metric_judges_as_it_says() {
        let colour = item("Which colour?", &["Dark red", "red"]);
        for (metric, answer, expected) in [
            (Metric::Exact, " RED.\n", 1.0),
            (Metric::Exact, "a red", 0.0),
            (Metric::Contains, "It is dark RED, I think", 1.0),
            (Metric::Contains, "blue", 0.0),
            (Metric::Vqa, "The red", 1.0),
            (Metric::Vqa, "reddish", 0.0),
            // dark rad / dark red: one edit of eight.
            (Metric::Anls, "dark rad", 0.875),
            (Metric::Anls, "blue", 0.0),
        ] {
            scores(metric, &colour, answer, expected);
        }
        let answers = ["2", "two", "3", "3", "3", "3", "3", "3", "3", "3"];
        // Of ten people two agree: each of them has one other, the rest two.
        scores(
            Metric::Vqa,
            &item("How many?", &answers),
            "2.",
            (2.0 / 3.0 + 8.0 * 2.0 / 3.0) / 10.0,
        );
    }

    #[test]
    fn choices_and_yes_or_no_are_found_in_sentences() {
        let pet = item("Which pet?\nA. a cat\n(B) a dog\nC) a hen", &["B"]);
        for (answer, expected) in [
            ("B", 1.0),
            ("(B) a dog", 1.0),
            ("it is a dog", 1.0),
            ("b", 0.0),
            ("A or B", 0.0),
            ("The answer is C", 0.0),
        ] {
            scores(Metric::Choice, &pet, answer, expected);
        }
        scores(
            Metric::Choice,
            &item("Which?\nA. a cat\nB. a dog", &["A dog."]),
            "B",
            1.0,
        );
        let there = item("Is it there?", &["no"]);
        scores(Metric::YesNo, &there, "No, it is not.", 1.0);
        scores(Metric::YesNo, &there, "yes or no", 0.0);
        assert!(Metric::YesNo.judge(&there, "perhaps").parsed.is_none());
    }
}
