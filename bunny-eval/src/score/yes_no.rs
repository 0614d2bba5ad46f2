//! Yes or no: what each harness finds in an answer.

use crate::python;

/// MME's script: `yes`, or else `no`, among the first four characters, line end included.
pub(crate) fn mme_reference(line: &str) -> Option<bool> {
    first_four(&format!("{}\n", line.to_lowercase()))
}

/// lmms-eval on MME: full stops dropped, `y` and `n` alone taken, then the first four characters.
pub(crate) fn mme_lmms(answer: &str) -> Option<bool> {
    let lower = answer.to_lowercase();
    let plain = python::strip(&lower).replace('.', "");
    match plain.as_str() {
        "y" => Some(true),
        "n" => Some(false),
        _ => first_four(&plain),
    }
}

fn first_four(lower: &str) -> Option<bool> {
    let end = lower
        .char_indices()
        .nth(4)
        .map_or(lower.len(), |(at, _)| at);
    let first = &lower[..end];
    if first.contains("yes") {
        Some(true)
    } else {
        first.contains("no").then_some(false)
    }
}

/// VLMEvalKit: one of the words `yes` and `no`, and not the other, once punctuation is gone.
pub(crate) fn vlmevalkit(answer: &str) -> Option<bool> {
    let plain = super::vqa_answer::without_punctuation_vlmevalkit(&answer.to_lowercase());
    let has = |wanted: &str| python::split(&plain).any(|word| word == wanted);
    match (has("yes"), has("no")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// POPE's script: no, if a word before the first full stop is `No`, `no` or `not`; else yes.
pub(crate) fn pope_reference(answer: &str) -> bool {
    let sentence = answer.split('.').next().unwrap_or(answer).replace(',', "");
    !sentence
        .split(' ')
        .any(|word| matches!(word, "No" | "no" | "not"))
}

/// lmms-eval on POPE: the whole answer, in any case.
pub(crate) fn pope_lmms(answer: &str) -> Option<bool> {
    match python::strip(&answer.to_lowercase()) {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// How reports say it.
pub(crate) fn word(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
