//! MMMU's open questions: the texts and numbers that an answer may mean, and whether one is right.

use regex::Regex;
use std::sync::LazyLock;

use crate::python::{decimal_digit, float, round, strip};
use crate::suites::mmmu::Truth;

/// A normalised answer: a number to two decimals, or a text in lower case.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Number(f64),
    Text(String),
}

/// Words behind which an answer stands.
const BEFORE: [&str; 8] = [
    "could be ",
    "so ",
    "is ",
    "thus ",
    "therefore ",
    "final ",
    "answer ",
    "result ",
];
const ALONE: [&str; 7] = [":", ",", ".", "!", "?", ";", "'"];

/// Whether an answer holds a right one: as a part of some text, or as an equal number.
pub(crate) fn is_right(answer: &str, truth: &Truth) -> bool {
    let golds: Vec<Piece> = match truth {
        Truth::One(gold) => normalised(gold),
        Truth::Any(golds) => golds.iter().flat_map(|gold| normalised(gold)).collect(),
    };
    said(answer).iter().any(|piece| match piece {
        Piece::Number(_) => golds.contains(piece),
        Piece::Text(text) => golds
            .iter()
            .any(|gold| matches!(gold, Piece::Text(gold) if text.contains(gold))),
    })
}

/// Everything that an answer says, normalised.
fn said(answer: &str) -> Vec<Piece> {
    let tails = tails(answer);
    let numbers = tails.iter().flat_map(|tail| numbers(tail));
    let texts: Vec<String> = tails.iter().cloned().chain(numbers).collect();
    texts.iter().flat_map(|text| normalised(text)).collect()
}

/// What stands behind the words that lead to an answer, or else the whole answer.
fn tails(answer: &str) -> Vec<String> {
    let answer = strip(answer).trim_matches('.').to_lowercase();
    let lines: Vec<&str> = answer.split('\n').collect();
    let mut tails = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let equals = (at + 1 == lines.len()).then_some("=");
        // The shortest; an empty one counts as none so far, whatever it is compared with.
        let mut shortest: Option<&str> = None;
        for word in BEFORE.into_iter().chain(equals) {
            let Some((_, tail)) = line.rsplit_once(word) else {
                continue;
            };
            let tail = strip(tail);
            let is_shorter = |before: &str| tail.chars().count() < before.chars().count();
            if shortest.is_none_or(|before| before.is_empty() || is_shorter(before)) {
                shortest = Some(tail);
            }
        }
        let told = shortest.filter(|tail| !tail.is_empty() && !ALONE.contains(tail));
        tails.extend(told.map(str::to_owned));
    }
    if tails.is_empty() {
        vec![answer]
    } else {
        tails
    }
}

fn normalised(text: &str) -> Vec<Piece> {
    let text = strip(text);
    if let Some(number) = float(&text.replace(',', "")) {
        return vec![Piece::Number(round(number, 2))];
    }
    let lower = text.to_lowercase();
    if lower.chars().count() == 1 {
        // A letter must stand apart on one side.
        return vec![
            Piece::Text(format!(" {lower}")),
            Piece::Text(format!("{lower} ")),
        ];
    }
    vec![Piece::Text(lower)]
}

/// The numbers of a text, as three patterns find them, those of each in turn:
///
/// - `-?\b\d{1,3}(?:,\d{3})+\b`
/// - `-?\d+(?:\.\d+)?[eE][+-]?\d+`
/// - `-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])`
pub(crate) fn numbers(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let patterns = [with_commas, scientific, simple];
    patterns
        .iter()
        .flat_map(|pattern| all(&text, pattern))
        .collect()
}

/// The matches of a pattern from left to right. It says where a match from some place ends.
fn all(text: &[char], pattern: &dyn Fn(&[char], usize) -> Option<usize>) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match pattern(text, at) {
            Some(end) => {
                found.push(text[at..end].iter().collect());
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

fn is_digit(text: &[char], at: usize) -> bool {
    text.get(at)
        .is_some_and(|character| decimal_digit(*character).is_some())
}

/// Where the digits from `at` on end.
fn digits(text: &[char], at: usize) -> usize {
    (at..).find(|at| !is_digit(text, *at)).unwrap_or(text.len())
}

fn after_minus(text: &[char], at: usize) -> usize {
    at + usize::from(text.get(at) == Some(&'-'))
}

/// Whether a word begins or ends at `at`.
fn is_boundary(text: &[char], at: usize) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(|character| is_word(*character))
    };
    is_word(at.checked_sub(1)) != is_word(Some(at))
}

/// Python's `\w`: letters and numbers of any script, and the underscore.
fn is_word(character: char) -> bool {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]$").ok());
    if character.is_ascii() {
        return character.is_ascii_alphanumeric() || character == '_';
    }
    let text = character.encode_utf8(&mut [0; 4]).to_owned();
    WORD.as_ref().is_some_and(|word| word.is_match(&text))
}

fn with_commas(text: &[char], at: usize) -> Option<usize> {
    let start = after_minus(text, at);
    let first = digits(text, start);
    if !(1..=3).contains(&(first - start)) || !is_boundary(text, start) {
        return None;
    }
    let mut ends = Vec::new();
    let mut end = first;
    while text.get(end) == Some(&',') && (1..=3).all(|digit| is_digit(text, end + digit)) {
        end += 4;
        ends.push(end);
    }
    ends.into_iter().rev().find(|end| is_boundary(text, *end))
}

fn scientific(text: &[char], at: usize) -> Option<usize> {
    let start = after_minus(text, at);
    let whole = digits(text, start);
    if whole == start {
        return None;
    }
    exponent(text, fraction(text, whole).unwrap_or(whole))
}

/// Where `\.\d+` from `at` on ends.
fn fraction(text: &[char], at: usize) -> Option<usize> {
    let end = digits(text, at + 1);
    (text.get(at) == Some(&'.') && end > at + 1).then_some(end)
}

/// Where `[eE][+-]?\d+` from `at` on ends.
fn exponent(text: &[char], at: usize) -> Option<usize> {
    if !matches!(text.get(at), Some('e' | 'E')) {
        return None;
    }
    let start = at + 1 + usize::from(matches!(text.get(at + 1), Some('+' | '-')));
    let end = digits(text, start);
    (end > start).then_some(end)
}

fn simple(text: &[char], at: usize) -> Option<usize> {
    let start = after_minus(text, at);
    let whole = digits(text, start);
    let follows = |end: &usize| exponent(text, *end).is_none() && text.get(*end) != Some(&',');
    let with_point = fraction(text, whole).filter(follows);
    let alone = || {
        Some(whole)
            .filter(|end| *end > start && is_boundary(text, *end))
            .filter(follows)
    };
    with_point.or_else(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `extract_numbers` of the reference.
    #[test]
    fn numbers_are_found_as_the_three_patterns_find_them() {
        let cases: [(&str, &[&str]); 8] = [
            ("1,234", &["1,234", "234"]),
            ("2.5e-3", &["2.5e-3", "2", "-3"]),
            ("12.345e5", &["12.345e5", "12", "5"]),
            ("$1,250.50", &["1,250", "250.50"]),
            ("1.2.3", &["1.2", ".3"]),
            ("3-4", &["3", "-4"]),
            ("1,23", &["23"]),
            ("a1", &["1"]),
        ];
        for (text, expected) in cases {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    /// `eval_open(gold, parse_open_response(answer))` of the reference.
    #[test]
    fn open_answers_are_judged_by_parts_and_by_rounded_numbers() {
        for (gold, answer, right) in [
            ("60", "60.004", true),
            ("2.675", "2.67", true),
            ("C", "carbon", false),
            ("C", "vitamin c", true),
            ("4", "four", false),
            ("10", "the answer is 10%", true),
            ("8", "-8", false),
            ("234", "1,234", true),
        ] {
            let truth = Truth::One(gold.to_owned());
            assert_eq!(is_right(answer, &truth), right, "{gold} | {answer}");
        }
    }
}
