//! Questions about what there is, and how much of it.

use super::super::dice::Dice;
use super::super::scene::Scene;
use super::super::vocabulary::number_word;
use super::{Known, Question, QuestionKind, capital, say, with_article};

/// What asks whether something is there.
pub(super) const IS_THERE: &[&str] = &[
    "Is there {x}?",
    "Is there {x} in the picture?",
    "Do you see {x}?",
    "Can you see {x} here?",
    "Does the picture show {x}?",
];

/// Whether something is there.
pub(in super::super) fn presence(scene: &Scene, known: Known, dice: &mut Dice) -> Question {
    let name = with_article(&known.name());
    let text = say(dice, IS_THERE, [&name, "", ""]);
    yes_or_no(known.count(scene) > 0, text, name, dice)
}

/// How many there are.
pub(in super::super) fn count(scene: &Scene, known: Known, dice: &mut Dice) -> Question {
    let (one, several) = (known.name(), known.plural());
    let forms = [
        "How many {x} are there?",
        "How many {x} do you see?",
        "How many {x} are in the picture?",
        "Count the {x}.",
        "What is the number of {x}?",
    ];
    let text = say(dice, &forms, [&several, "", ""]);
    let count = known.count(scene);
    let word = number_word(count);
    let long = match (count, dice.below(3)) {
        (0, 0) => "None.".to_owned(),
        (0, _) => format!("There are no {several}."),
        (1, 0) => "One.".to_owned(),
        (1, _) => format!("There is one {one}."),
        (_, 0) => format!("{}.", capital(&word)),
        _ => format!("There are {word} {several}."),
    };
    Question {
        kind: QuestionKind::Count,
        text,
        short: count.to_string(),
        long,
        choices: 6,
    }
}

/// Whether there are more of one than of the other, fewer, or as many.
pub(in super::super) fn more(scene: &Scene, a: Known, b: Known, dice: &mut Dice) -> Question {
    let (one, other) = (a.plural(), b.plural());
    let short = match a.count(scene).cmp(&b.count(scene)) {
        std::cmp::Ordering::Greater => "more",
        std::cmp::Ordering::Less => "fewer",
        std::cmp::Ordering::Equal => "equal",
    };
    let forms = [
        "Are there more {x} than {y}, fewer, or an equal number?",
        "More, fewer or equal: how do the {x} compare with the {y} in number?",
    ];
    let long = match short {
        "equal" => format!("There are as many {one} as {other}."),
        _ => format!("There are {short} {one} than {other}."),
    };
    Question {
        kind: QuestionKind::Compare,
        text: say(dice, &forms, [&one, &other, ""]),
        short: short.to_owned(),
        long,
        choices: 3,
    }
}

/// An answer of yes or no.
pub(super) fn yes_or_no(yes: bool, text: String, there_is: String, dice: &mut Dice) -> Question {
    let long = match (yes, dice.below(3)) {
        (true, 0) => "Yes.".to_owned(),
        (true, _) => format!("Yes, there is {there_is}."),
        (false, 0) => "No.".to_owned(),
        (false, 1) => "No, there is none.".to_owned(),
        (false, _) => {
            let name = there_is.trim_start_matches("an ").trim_start_matches("a ");
            format!("No, there is no {name}.")
        }
    };
    Question {
        kind: QuestionKind::Presence,
        text,
        short: if yes { "yes" } else { "no" }.to_owned(),
        long,
        choices: 2,
    }
}
