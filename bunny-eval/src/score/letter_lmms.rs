//! The option that a free answer means, as lmms-eval's static scoring of MMBench infers it.

use super::letter::{Choice, only};
use crate::python::{split, strip};

/// Letters that are looked for first; more than MMBench has.
const LETTERS: [char; 5] = ['A', 'B', 'C', 'D', 'E'];
/// What a letter may stand between.
const AROUND: [(&str, &str); 12] = [
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
];

/// The letter found in an answer.
pub(crate) fn mmbench(answer: &str, choices: &[Choice<'_>]) -> Option<char> {
    let lower = answer.to_lowercase();
    by_letter(answer)
        .or_else(|| {
            only(
                choices
                    .iter()
                    .filter(|(_, text)| lower.contains(&text.to_lowercase())),
            )
        })
        .or_else(|| ranked(answer, choices))
}

fn by_letter(answer: &str) -> Option<char> {
    if answer.contains("Failed to obtain answer via API") {
        return None;
    }
    let words: Vec<&str> = split(answer).collect();
    let alone = |before: &str, after: &str| {
        let mut found = LETTERS.iter().copied().filter(|letter| {
            words.iter().any(|word| {
                let inner = word
                    .strip_prefix(before)
                    .and_then(|word| word.strip_suffix(after));
                inner.is_some_and(|inner| inner.chars().eq([*letter]))
            })
        });
        match (found.next(), found.next()) {
            (Some(letter), None) => Some(letter),
            _ => None,
        }
    };
    // In a sentence it may be the article.
    let article = words.contains(&"A") && words.len() > 3;
    alone("", "").filter(|_| !article).or_else(|| {
        AROUND
            .iter()
            .find_map(|(before, after)| alone(before, after))
    })
}

/// Words behind which an answer stands.
const PHRASES: [&str; 26] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
];
const JAPANESE: &str = "答えは";

/// Everything that looks like a choice, by how much it does; of one form the last.
fn ranked(answer: &str, choices: &[Choice<'_>]) -> Option<char> {
    let mut text = strip(answer);
    for mark in [',', '.', '!', '?', ';', ':', '\'', '"'] {
        text = text.trim_matches(mark);
    }
    if strip(answer).is_empty() {
        return None;
    }
    let text: Vec<char> = format!(" {text} ").chars().collect();
    let letters = || choices.iter().map(|(letter, _)| *letter);
    let mut best: Option<(u8, usize, char)> = None;
    let mut offer = |rank: u8, place: usize, letter: char| {
        // Of equals the one that was offered first.
        if best.is_none_or(|(before, at, _)| (rank, place) > (before, at)) {
            best = Some((rank, place, letter));
        }
    };
    for (rank, before, after) in [
        (6, "(", ")"),
        (5, "", "."),
        (4, "", ":"),
        (3, "", ")"),
        (2, "", " "),
    ] {
        for letter in letters() {
            let form: Vec<char> = format!("{before}{letter}{after}").chars().collect();
            if let Some(place) = text.windows(form.len()).rposition(|part| part == form) {
                offer(rank, place, letter);
            }
        }
    }
    let lower: Vec<char> = text
        .iter()
        .collect::<String>()
        .to_lowercase()
        .chars()
        .collect();
    for phrase in PHRASES.into_iter().chain([JAPANESE]) {
        let phrase: Vec<char> = phrase.chars().collect();
        if let Some(at) = lower.windows(phrase.len()).position(|part| part == phrase) {
            let from = at + phrase.len();
            for letter in letters() {
                let rest = text.get(from..).unwrap_or_default();
                if let Some(place) = rest.iter().position(|other| *other == letter) {
                    offer(7, from + place, letter);
                }
            }
        }
    }
    let inner: String = text.iter().collect();
    let inner: Vec<char> = strip(&inner).chars().collect();
    let apart = |beside: Option<&char>| beside.is_none_or(|beside| !beside.is_alphabetic());
    for letter in letters() {
        if inner.first() == Some(&letter) && apart(inner.get(1)) {
            offer(10, 0, letter);
        }
    }
    for letter in letters() {
        let before = inner.len().checked_sub(2).and_then(|at| inner.get(at));
        if inner.last() == Some(&letter) && apart(before) {
            offer(9, text.len() - 1, letter);
        }
    }
    if best.is_none() {
        let anywhere = letters()
            .filter_map(|letter| Some((text.iter().rposition(|other| *other == letter)?, letter)));
        // Of equal places there are none: each holds one letter.
        return anywhere.max().map(|(_, letter)| letter);
    }
    best.map(|(_, _, letter)| letter)
}
