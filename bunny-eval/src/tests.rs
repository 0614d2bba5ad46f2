//! Every small rule beside the functions it repeats, on made-up texts of nasty pieces.
//!
//! `tests/reference/eval.py` wrote what CPython and the three harnesses say of them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::python;
use crate::score::statistic::Statistic;
use crate::score::{letter, letter_lmms, mmmu_choice, mmmu_open, vqa_answer, yes_no};
use crate::suites::mmmu::Truth;
use crate::text::Text;

const FUNCTIONS: &str = include_str!("../tests/fixtures/functions.json");
const OPTIONS: [&str; 4] = ["Cat", "a dog", "hen", "A cow"];

fn pairs<T: DeserializeOwned>(name: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct Part<'a>(
        #[serde(borrow)] std::collections::HashMap<&'a str, &'a serde_json::value::RawValue>,
    );
    let Part(all): Part<'_> = serde_json::from_str(FUNCTIONS).unwrap();
    serde_json::from_str(all[name].get()).unwrap()
}

/// A text as JSON, which tells half surrogates, too.
fn told(text: &Text) -> String {
    let mut out = String::new();
    python::json::string(&mut out, text);
    out
}

#[track_caller]
fn all_agree<T: DeserializeOwned, U: PartialEq + std::fmt::Debug>(
    name: &str,
    compare: impl Fn(&T) -> (String, U, U),
) {
    let pairs: Vec<T> = pairs(name);
    assert!(pairs.len() >= 100, "{name}: {} pairs", pairs.len());
    for pair in &pairs {
        let (given, ours, theirs) = compare(pair);
        assert_eq!(ours, theirs, "{name} of {given}");
    }
}

#[test]
fn vqa_answers_are_normalised_as_by_the_reference_and_by_lmms_eval() {
    all_agree("vqa", |(text, theirs): &(Text, Text)| {
        (
            told(text),
            told(&text.derived(vqa_answer::normalise(text))),
            told(theirs),
        )
    });
    all_agree("vqa_lmms", |(text, theirs): &(Text, Text)| {
        (
            told(text),
            told(&text.derived(vqa_answer::from_punctuation(text))),
            told(theirs),
        )
    });
    all_agree("punctuation_vlmevalkit", |(text, theirs): &(Text, Text)| {
        let ours = text.derived(vqa_answer::without_punctuation_vlmevalkit(text));
        (told(text), told(&ours), told(theirs))
    });
}

#[test]
fn numbers_and_open_answers_are_found_as_by_the_reference() {
    all_agree("numbers", |(text, theirs): &(Text, Vec<String>)| {
        (told(text), mmmu_open::numbers(text), theirs.clone())
    });
    all_agree("open", |(gold, text, theirs): &(Truth, Text, bool)| {
        (
            format!("{gold:?} | {}", told(text)),
            mmmu_open::is_right(text, gold),
            *theirs,
        )
    });
}

#[test]
fn options_are_found_as_by_three_harnesses() {
    let options = OPTIONS.map(str::to_owned);
    let letter_of = |option: usize| char::from(b'A' + option as u8);
    for (name, loose) in [("choice", false), ("choice_lmms", true)] {
        all_agree(name, |(text, theirs): &(Text, Option<char>)| {
            (
                told(text),
                mmmu_choice::find(text, &options, loose).map(letter_of),
                *theirs,
            )
        });
    }
    let choices = letter::lettered(&options);
    all_agree(
        "letter_vlmevalkit",
        |(text, theirs): &(Text, Option<char>)| {
            (told(text), letter::vlmevalkit(text, &choices), *theirs)
        },
    );
    all_agree("letter_lmms", |(text, theirs): &(Text, Option<char>)| {
        (
            told(text),
            letter_lmms::mmbench(python::strip(text), &choices),
            *theirs,
        )
    });
}

#[test]
fn yes_and_no_are_found_as_by_the_reference_and_by_vlmevalkit() {
    let word = |said: Option<bool>, neither: &str| {
        said.map_or(neither.to_owned(), |yes| yes_no::word(yes).to_owned())
    };
    all_agree("mme", |(text, theirs): &(Text, String)| {
        let line = text.split('\n').next().unwrap_or_default();
        (
            told(text),
            word(yes_no::mme_reference(line), "other"),
            theirs.clone(),
        )
    });
    all_agree("yes_no_vlmevalkit", |(text, theirs): &(Text, String)| {
        (
            told(text),
            word(yes_no::vlmevalkit(text), "unknown"),
            theirs.to_lowercase(),
        )
    });
}

#[test]
fn floats_are_read_and_rounded_as_by_python() {
    all_agree("float", |(text, theirs): &(Text, Option<String>)| {
        let number = |text: &String| match text.as_str() {
            "nan" => f64::NAN,
            text => text.parse().unwrap(),
        };
        let bits = |value: f64| {
            if value.is_nan() {
                u64::MAX
            } else {
                value.to_bits()
            }
        };
        (
            told(text),
            python::float(text).map(bits),
            theirs.as_ref().map(number).map(bits),
        )
    });
    all_agree("round", |(value, theirs): &(f64, f64)| {
        (value.to_string(), python::round(*value, 2), *theirs)
    });
}

/// lmms-eval's `clustered_stderr`.
#[test]
fn errors_of_clustered_rows_are_lmms_evals() {
    all_agree(
        "clustered_error",
        |(scores, clusters, theirs): &(Vec<f64>, Vec<u32>, f64)| {
            let rows = scores
                .iter()
                .zip(clusters)
                .map(|(score, cluster)| (cluster.to_string(), *score));
            let ours = Statistic::mean("s", 1.0, rows).clustered_error().unwrap();
            let is_near = (ours - theirs).abs() < 1e-9;
            (format!("{scores:?} {clusters:?}: {ours}"), is_near, true)
        },
    );
}

#[test]
fn lists_and_white_space_are_read_as_by_python() {
    all_agree(
        "literal",
        |(text, theirs): &(String, Option<Vec<String>>)| {
            (text.clone(), python::literal::strings(text), theirs.clone())
        },
    );
    all_agree("strip", |(text, theirs): &(String, String)| {
        (
            json!(text).to_string(),
            python::strip(text).to_owned(),
            theirs.clone(),
        )
    });
    all_agree("split", |(text, theirs): &(String, Value)| {
        (
            json!(text).to_string(),
            json!(python::split(text).collect::<Vec<_>>()),
            theirs.clone(),
        )
    });
}
