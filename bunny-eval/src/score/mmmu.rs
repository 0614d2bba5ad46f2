//! MMMU: choices found or drawn, open answers by their parts, accuracy by subject and domain.

use serde_json::json;

use super::report::{Judged, Scored, State};
use super::statistic::{Statistic, ratio};
use super::{Given, letter, mmmu_choice, mmmu_open};
use crate::convention::Convention;
use crate::python::random::Random;
use crate::python::{round, strip};
use crate::suites::mmmu::{DOMAINS, Gold, Row, Truth};

/// What an answer came to.
struct Taken {
    parsed: String,
    state: State,
}

/// What every answer came to, in the order of the questions; `None` where there is none.
///
/// A random option is drawn for each choice in which none is found: the draws of all rows are one
/// sequence, so that an answer changes what is drawn for those behind it.
fn taken(given: &Given<'_>, rows: &[Row]) -> Vec<Option<Taken>> {
    let mut random = Random::new(match given.convention {
        Convention::Reference => 42,
        Convention::LmmsEval | Convention::VlmEvalKit => 0,
    });
    let each = rows.iter().zip(&given.last).map(|(row, answer)| {
        let answer = answer.as_ref()?;
        let text = match given.convention {
            // The reference does not strip what MMMU's model says.
            Convention::Reference => &*answer.text,
            Convention::LmmsEval | Convention::VlmEvalKit => strip(&answer.text),
        };
        Some(if row.is_choice {
            choice(given.convention, text, &row.question.options, &mut random)
        } else {
            Taken {
                parsed: text.to_owned(),
                state: State::Parsed,
            }
        })
    });
    each.collect()
}

fn choice(convention: Convention, text: &str, options: &[String], random: &mut Random) -> Taken {
    let letter = |option: usize| char::from(b'A' + option as u8).to_string();
    let found = match convention {
        Convention::VlmEvalKit => {
            let found = letter::vlmevalkit(text, &letter::lettered(options));
            return Taken {
                parsed: found.unwrap_or(letter::DECLINED).to_string(),
                state: if found.is_some() {
                    State::Parsed
                } else {
                    State::Unparsed
                },
            };
        }
        Convention::Reference => mmmu_choice::find(text, options, false),
        Convention::LmmsEval => mmmu_choice::find(text, options, true),
    };
    match found {
        Some(option) => Taken {
            parsed: letter(option),
            state: State::Parsed,
        },
        None if options.is_empty() => Taken {
            parsed: String::new(),
            state: State::Unparsed,
        },
        None => Taken {
            parsed: letter(mmmu_choice::draw(random, options.len())),
            state: State::Fallback,
        },
    }
}

/// What the submission says of every question: a letter, or the answer as it is.
pub(crate) fn submitted(given: &Given<'_>, rows: &[Row]) -> Vec<Option<crate::text::Text>> {
    let each =
        rows.iter()
            .zip(taken(given, rows))
            .zip(&given.last)
            .map(|((row, taken), answer)| {
                let (taken, answer) = (taken?, answer.as_ref()?);
                Some(if row.is_choice {
                    taken.parsed.into()
                } else {
                    answer.text.clone()
                })
            });
    each.collect()
}

/// Scores the validation rows; without right answers (`None`) it only says what was found.
pub(crate) fn score(given: &Given<'_>, rows: &[Row], gold: Option<&[Gold]>) -> Scored {
    let mut scored = Scored::default();
    for (at, taken) in taken(given, rows).into_iter().enumerate() {
        let gold = gold.map(|gold| &gold[at]);
        let right = match (&taken, gold) {
            (Some(taken), Some(gold)) => is_right(given.convention, &taken.parsed, gold),
            _ => false,
        };
        scored.judged.push(Judged {
            question: at,
            parsed: taken.as_ref().map(|taken| taken.parsed.clone()),
            gold: gold.map(|gold| told(&gold.truth)),
            score: f64::from(u8::from(right)),
            state: taken.map_or(State::Missing, |taken| taken.state),
        });
    }
    if gold.is_some() {
        tables(given, rows, &mut scored);
    }
    scored
}

fn told(truth: &Truth) -> String {
    match truth {
        Truth::One(text) => text.clone(),
        Truth::Any(texts) => texts.join(" | "),
    }
}

fn is_right(convention: Convention, parsed: &str, gold: &Gold) -> bool {
    if gold.is_choice {
        return match &gold.truth {
            Truth::One(letter) => letter == parsed,
            Truth::Any(letters) => letters.iter().any(|letter| letter == parsed),
        };
    }
    match (convention, &gold.truth) {
        (Convention::Reference, truth) => mmmu_open::is_right(parsed, truth),
        // At this commit it compares characters of one parsed text with whole right answers.
        (Convention::LmmsEval, _) => false,
        (Convention::VlmEvalKit, truth) => {
            let right = match truth {
                Truth::One(text) => text.clone(),
                // As the column spells a list.
                Truth::Any(texts) => format!("['{}']", texts.join("', '")),
            };
            let choices = [('A', right.as_str()), ('B', "Other Answers")];
            // A right answer that is one capital letter is taken for the letter of a choice.
            let expected = match right.as_bytes() {
                [capital @ b'A'..=b'Z'] => char::from(*capital),
                _ => 'A',
            };
            letter::vlmevalkit(parsed, &choices) == Some(expected)
        }
    }
}

fn tables(given: &Given<'_>, rows: &[Row], scored: &mut Scored) {
    let digits = if given.convention == Convention::LmmsEval {
        5
    } else {
        3
    };
    // The script scores what was answered; rows without an answer leave every figure.
    let counted: Vec<(&Row, f64)> = rows
        .iter()
        .zip(&scored.judged)
        .filter(|(_, judged)| judged.state != State::Missing)
        .map(|(row, judged)| (row, judged.score))
        .collect();
    let of = |subjects: &[&str]| {
        let scores = counted
            .iter()
            .filter(|(row, _)| subjects.contains(&row.question.category.as_str()))
            .map(|(_, score)| *score);
        (scores.clone().sum::<f64>(), scores.count())
    };
    // As the script weighs: each subject's accuracy times its rows, over all rows.
    let weighed = |subjects: &[&str]| {
        let parts = subjects.iter().map(|subject| of(&[*subject]));
        let (mut sum, mut count) = (0.0, 0);
        for (right, rows) in parts.filter(|(_, rows)| *rows > 0) {
            sum += ratio(right, rows as f64) * rows as f64;
            count += rows;
        }
        (ratio(sum, count as f64), count)
    };
    let mut all = Vec::new();
    for (domain, subjects) in DOMAINS {
        let (accuracy, count) = weighed(subjects);
        let table = json!({"score": round(accuracy, digits), "questions": count});
        scored.categories.insert(format!("Overall-{domain}"), table);
        for subject in subjects {
            let (right, count) = of(&[*subject]);
            if count > 0 {
                let accuracy = round(ratio(right, count as f64), digits);
                let table = json!({"score": accuracy, "questions": count, "right": right});
                scored.categories.insert((*subject).to_owned(), table);
            }
            all.push(*subject);
        }
    }
    let (overall, count) = weighed(&crate::suites::mmmu::SUBJECTS);
    scored.score("overall", round(overall, digits));
    if count < rows.len() {
        let right: f64 = scored.judged.iter().map(|judged| judged.score).sum();
        scored.score(
            "overall_strict",
            round(ratio(right, rows.len() as f64), digits),
        );
    }
    let clusters = counted
        .iter()
        .map(|(row, score)| (row.question.cluster(), *score));
    scored
        .statistics
        .push(Statistic::mean("overall", 1.0, clusters));
}
