//! The option that a free answer means, as VLMEvalKit infers it without a judge model.

use regex::Regex;
use std::sync::LazyLock;

use crate::python::split;

/// An option: its letter and its text.
pub(crate) type Choice<'a> = (char, &'a str);

/// What an answer that declines comes to: no option's letter.
pub(crate) const DECLINED: char = 'Z';

/// Answers that decline.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];
const FAILED: &str = "Failed to obtain answer via API";

/// The letter found in an answer: the only one that stands alone near its end, one behind "answer
/// is", or that of the only option whose text occurs.
pub(crate) fn vlmevalkit(answer: &str, choices: &[Choice<'_>]) -> Option<char> {
    by_letter(answer, choices).or_else(|| by_text(answer, choices))
}

fn by_letter(answer: &str, choices: &[Choice<'_>]) -> Option<char> {
    if answer.contains(FAILED) {
        return None;
    }
    if REFUSALS.iter().any(|refusal| answer.contains(refusal)) {
        return Some(DECLINED);
    }
    let marks = [
        '.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}',
    ];
    let plain = answer.replace(marks, " ");
    let words: Vec<&str> = split(&plain).collect();
    let place = |letter: char| words.iter().position(|word| word.chars().eq([letter]));
    let mut alone = choices
        .iter()
        .filter_map(|(letter, _)| Some((*letter, place(*letter)?)));
    match (alone.next(), alone.next()) {
        // Far from the end it is more likely a word, such as the article.
        (Some((letter, at)), None) if at + 5 > words.len() => return Some(letter),
        (None, None) if place(DECLINED).is_some() => return Some(DECLINED),
        _ => {}
    }
    static SENTENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let space = r"[\s\x1c-\x1f]";
        Regex::new(&format!(
            r"(?i)(?:correct{space}+)?answer{space}+is{space}+\**([ABCD])\**"
        ))
        .ok()
    });
    let found = SENTENCE.as_ref()?.captures(answer)?;
    let letter = found.get(1)?.as_str().chars().next()?.to_ascii_uppercase();
    choices
        .iter()
        .any(|(other, _)| *other == letter)
        .then_some(letter)
}

fn by_text(answer: &str, choices: &[Choice<'_>]) -> Option<char> {
    let answer = answer.to_lowercase();
    let characters = |text: &str| text.chars().count();
    let all: usize = choices.iter().map(|(_, text)| characters(text)).sum();
    if characters(&answer) > 2 * all {
        return None;
    }
    only(
        choices
            .iter()
            .filter(|(_, text)| answer.contains(&text.to_lowercase())),
    )
}

/// The letter of the only one of some choices.
pub(crate) fn only<'a>(mut found: impl Iterator<Item = &'a Choice<'a>>) -> Option<char> {
    match (found.next(), found.next()) {
        (Some((letter, _)), None) => Some(*letter),
        _ => None,
    }
}

/// Options that are lettered from A on.
pub(crate) fn lettered(options: &[String]) -> Vec<Choice<'_>> {
    ('A'..).zip(options.iter().map(String::as_str)).collect()
}
