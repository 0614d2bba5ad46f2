//! MMMU's choices: the option that an answer means, or a random one.

use crate::python::random::Random;
use crate::python::split;

/// The option found in an answer, from 0, or `None` where one is drawn at random.
///
/// `loose` is lmms-eval's search, which takes `X ` and `X.` inside of words, too.
pub(crate) fn find(answer: &str, options: &[String], loose: bool) -> Option<usize> {
    let mut text = answer;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        text = text.trim_matches(mark);
    }
    // Spaces at both ends, so that a letter alone stands between two.
    let text = format!(" {text} ");
    let letters = || ('A'..).take(options.len());
    let with = |form: &dyn Fn(char) -> String| -> Vec<(usize, String)> {
        let forms = letters().map(form).enumerate();
        forms.filter(|(_, form)| text.contains(form)).collect()
    };
    let in_brackets = with(&|letter| format!("({letter})"));
    if !in_brackets.is_empty() {
        return latest(&text, in_brackets);
    }
    let alone = |letter| format!(" {letter} ");
    let mut found = with(&alone);
    if loose {
        found = with(&|letter| format!("{letter} "));
        if found.is_empty() {
            found = with(&|letter| format!("{letter}."));
        }
        // Whichever form it was found in, it is placed by the strict one.
        for (at, form) in &mut found {
            *form = alone((b'A' + *at as u8).into());
        }
    }
    if !found.is_empty() {
        return latest(&text, found);
    }
    if split(&text).count() <= 5 {
        return None;
    }
    let lower = text.to_lowercase();
    let forms = options
        .iter()
        .map(|option| option.to_lowercase())
        .enumerate();
    latest(
        &lower,
        forms.filter(|(_, option)| lower.contains(option)).collect(),
    )
}

/// Of several the one that occurs last; of those in one place, or in none, the first.
fn latest(text: &str, found: Vec<(usize, String)>) -> Option<usize> {
    let mut best: Option<(usize, Option<usize>)> = None;
    for (option, form) in found {
        let place = text.rfind(&form);
        if best.is_none_or(|(_, before)| place > before) {
            best = Some((option, place));
        }
    }
    best.map(|(option, _)| option)
}

/// An option drawn as the reference draws it.
pub(crate) fn draw(random: &mut Random, options: usize) -> usize {
    random.choice(options as u32) as usize
}
