//! Questions about what is written.

use super::super::dice::Dice;
use super::super::scene::Scene;
use super::super::vocabulary::{Colour, WORDS};
use super::amounts::yes_or_no;
use super::{Question, QuestionKind, absent, say, spelling};

/// Whether a number, or a word, is written there.
pub(in super::super) fn written(scene: &Scene, number: bool, dice: &mut Dice) -> Question {
    let found = if number { scene.number() } else { scene.word() };
    let name = if number { "a number" } else { "a word" };
    let forms = [
        "Is there {x} in the picture?",
        "Do you see {x}?",
        "Is {x} written there?",
    ];
    let text = say(dice, &forms, [name, "", ""]);
    yes_or_no(found.is_some(), text, name.to_owned(), dice)
}

/// Which number is written.
pub(in super::super) fn number(scene: &Scene, dice: &mut Dice) -> Question {
    let forms = [
        "What number is written in the picture?",
        "Which number do you see?",
        "Read the number.",
        "What is the number in the picture?",
    ];
    let (short, long) = match scene.number() {
        None => ("none".to_owned(), absent("number", dice)),
        Some(number) => {
            let forms = ["The number is {x}.", "It says {x}.", "{x}."];
            let long = say(dice, &forms, [&number.text, "", ""]);
            (number.text.clone(), long)
        }
    };
    Question {
        kind: QuestionKind::Digits,
        text: say(dice, &forms, [""; 3]),
        short,
        long,
        choices: 1000,
    }
}

/// Which word is written.
pub(in super::super) fn word(scene: &Scene, dice: &mut Dice) -> Question {
    let forms = [
        "What word is written in the picture?",
        "Which word do you see?",
        "Read the word.",
        "What does the text say?",
    ];
    let (short, long) = match scene.word() {
        None => ("none".to_owned(), absent("word", dice)),
        Some(word) => {
            let forms = ["The word is \"{x}\".", "It says \"{x}\".", "\"{x}\"."];
            let long = say(dice, &forms, [&word.text, "", ""]);
            (word.text.clone(), long)
        }
    };
    Question {
        kind: QuestionKind::Word,
        text: say(dice, &forms, [""; 3]),
        short,
        long,
        choices: WORDS.len() + 1,
    }
}

/// What colour the number, or the word, is written in; `None` where there is none, or no colour.
pub(in super::super) fn letters_colour(
    scene: &Scene,
    number: bool,
    dice: &mut Dice,
) -> Option<Question> {
    let found = if number { scene.number() } else { scene.word() };
    let name = if number { "number" } else { "word" };
    let forms = [
        "What colour is the {x}?",
        "In what colour is the {x} written?",
    ];
    let colour = found.filter(|_| scene.has_colours())?.colour.name();
    Some(Question {
        kind: QuestionKind::Colour,
        text: spelling(say(dice, &forms, [name, "", ""]), dice),
        short: colour.to_owned(),
        long: say(dice, &["The {x} is {y}.", "It is {y}."], [name, colour, ""]),
        choices: Colour::ALL.len(),
    })
}
