//! The VQA answer normalisers: case, punctuation, number words, articles, contractions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::statistic::ratio;
use crate::python::{decimal_digit, split, strip};

/// The marks that are deleted or replaced by a space.
const MARKS: &str = ";/[]\"{}()=+\\_-><@`,?!";
/// The most full stops that are deleted: a flag stands where the count goes, in every version.
const MOST_STOPS: usize = 32;

/// The reference's normaliser (EvalAI's). It is not idempotent: normalise once.
pub fn normalise(answer: &str) -> String {
    let lower = answer
        .to_lowercase()
        .replace([',', '?'], "")
        .replace("'s", " 's");
    from_punctuation(strip(&lower))
}

/// The same from its second step on, which is lmms-eval's: commas and `'s` stay.
pub(crate) fn from_punctuation(answer: &str) -> String {
    let spaced = answer.replace(['\n', '\t'], " ");
    let text = strip(&spaced);
    let marked = without_marks(text, comma_between_digits(text, true));
    // The look-behind of the pattern is void: only what follows a full stop counts.
    words(&without_stops(&marked, |_, after| !after))
}

/// VLMEvalKit's punctuation: one comma between digits counts, a full stop behind a digit stays.
pub(crate) fn without_punctuation_vlmevalkit(text: &str) -> String {
    let marked = without_marks(text, comma_between_digits(text, false));
    without_stops(&marked, |before, after| !before && !after).into_owned()
}

/// Deletes every mark that stands beside a space somewhere, and puts a space for every other one;
/// with `delete`, deletes them all. What stands beside what is seen in the text as it came.
fn without_marks(text: &str, delete: bool) -> Cow<'_, str> {
    if !text.contains(|character| MARKS.contains(character)) {
        return text.into();
    }
    let mut deleted = [delete; MARKS.len()];
    for two in text.as_bytes().windows(2) {
        for (mark, beside) in [(two[0], two[1]), (two[1], two[0])] {
            if let Some(at) = MARKS.bytes().position(|other| other == mark) {
                deleted[at] |= beside == b' ';
            }
        }
    }
    let kept = text
        .chars()
        .filter_map(|character| match MARKS.find(character) {
            None => Some(character),
            Some(at) if deleted[at] => None,
            Some(_) => Some(' '),
        });
    kept.collect::<String>().into()
}

/// Whether a comma (or, with `many`, several) stands between two digits.
fn comma_between_digits(text: &str, many: bool) -> bool {
    let mut behind_digit = false;
    let mut commas = 0;
    for character in text.chars() {
        if character == ',' && behind_digit && (many || commas == 0) {
            commas += 1;
            continue;
        }
        let is_digit = decimal_digit(character).is_some();
        if is_digit && commas > 0 {
            return true;
        }
        (behind_digit, commas) = (is_digit, 0);
    }
    false
}

/// Deletes the first full stops for which `goes` holds of digits before and behind them.
fn without_stops(text: &str, goes: impl Fn(bool, bool) -> bool) -> Cow<'_, str> {
    if !text.contains('.') {
        return text.into();
    }
    let is_digit =
        |character: Option<char>| character.is_some_and(|it| decimal_digit(it).is_some());
    let mut deleted = 0;
    let mut before = None;
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let after = characters.peek().copied();
        if character == '.' && deleted < MOST_STOPS && goes(is_digit(before), is_digit(after)) {
            deleted += 1;
        } else {
            kept.push(character);
        }
        before = Some(character);
    }
    kept.into()
}

/// The mean over all people of how many of the others agree: three are enough.
pub(crate) fn agreement(matches: &[bool]) -> f64 {
    let all = matches.iter().filter(|agrees| **agrees).count();
    let each = matches.iter().map(|own| {
        let others = all - usize::from(*own);
        (others as f64 / 3.0).min(1.0)
    });
    ratio(each.sum(), matches.len() as f64)
}

/// Number words as digits, articles dropped, contractions with their apostrophes.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut joined = String::with_capacity(lower.len());
    for word in split(&lower) {
        let word = number(word).unwrap_or(word);
        if matches!(word, "a" | "an" | "the") {
            continue;
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(CONTRACTIONS.get(word).map_or(word, String::as_str));
    }
    joined
}

fn number(word: &str) -> Option<&'static str> {
    Some(match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        _ => return None,
    })
}

/// Words that are also found without their apostrophe. Those with a capital never match: what is
/// looked up is in lower case.
const SHORTENED: &str = "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't \
    haven't he'd he's how'd how'll how's I'm I've isn't it'd it'll ma'am mightn't might've mustn't \
    must've needn't not've o'clock oughtn't shan't should've shouldn't somebody'll somebody's \
    someone'd someone'll someone's something'd something'll that's there'd there're there's they'd \
    they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's \
    where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't \
    y'all you'd you'll you're you've";
/// Who would have: found with one apostrophe of two.
const WOULD_HAVE: &str = "he I it she somebody someone something there they we who you";
/// What would not have: the same.
const NOT_HAVE: &str = "could had might should would";

static CONTRACTIONS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    let mut put = |found: String, whole: String| table.insert(found, whole);
    for word in SHORTENED.split(' ') {
        put(word.replace('\'', ""), word.to_owned());
    }
    for who in WOULD_HAVE.split(' ') {
        for found in [format!("{who}d've"), format!("{who}'dve")] {
            put(found, format!("{who}'d've"));
        }
    }
    for what in NOT_HAVE.split(' ') {
        for found in [format!("{what}n'tve"), format!("{what}nt've")] {
            put(found, format!("{what}n't've"));
        }
    }
    for (found, whole) in [
        ("yall'll", "y'all'll"),
        ("y'allll", "y'all'll"),
        ("yall'd've", "y'all'd've"),
        ("y'alld've", "y'all'd've"),
        ("y'all'dve", "y'all'd've"),
        ("ow's'at", "'ow's'at"),
        ("'ows'at", "'ow's'at"),
        ("'ow'sat", "'ow's'at"),
        // The one that loses its apostrophe.
        ("somebody'd", "somebodyd"),
    ] {
        put(found.to_owned(), whole.to_owned());
    }
    table
});

#[cfg(test)]
mod tests {
    use super::*;

    /// `EvalAIAnswerProcessor()(answer)` of the reference.
    #[test]
    fn answers_are_normalised_as_the_server_does() {
        let stops = format!("wow{}x", ".".repeat(40));
        let eight = format!("wow{}x", ".".repeat(8));
        for (answer, expected) in [
            ("It's", "it 's"),
            ("two.", "2"),
            ("2.0", "2.0"),
            ("U.S.A.", "usa"),
            ("3,000.50", "3000.50"),
            ("The", ""),
            ("no.1", "no.1"),
            ("yes/no", "yes no"),
            ("yes / no", "yes no"),
            ("wi-fi - on", "wifi on"),
            ("9:30 a.m.", "9:30 am"),
            ("oclock", "o'clock"),
            ("lets", "lets"),
            ("eleven", "eleven"),
            ("twenty one", "twenty 1"),
            ("none", "0"),
            ("10%", "10%"),
            ("Im", "im"),
            ("somebody'd", "somebodyd"),
            ("red (dark)", "red dark"),
            (stops.as_str(), eight.as_str()),
            ("whats", "what's"),
        ] {
            assert_eq!(normalise(answer), expected, "{answer}");
        }
        assert_eq!(normalise("what's"), "what 's");
    }
}
