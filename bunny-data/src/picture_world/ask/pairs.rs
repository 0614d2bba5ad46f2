//! Questions about two things.

use super::super::dice::Dice;
use super::super::scene::Scene;
use super::super::vocabulary::Size;
use super::{Known, Question, QuestionKind, say};

/// Which of two is larger, or smaller; `None` where either is not the only one, or both have one
/// size.
pub(in super::super) fn larger(
    scene: &Scene,
    [a, b]: [Known; 2],
    larger: bool,
    dice: &mut Dice,
) -> Option<Question> {
    let one = a.only(scene)?;
    let other = b.only(scene)?;
    if one.size == other.size {
        return None;
    }
    let wanted = if larger { Size::Large } else { Size::Small };
    let answer = if one.size == wanted { a } else { b }.name();
    let word = match (larger, dice.percent(60)) {
        (true, true) => "larger",
        (true, false) => "bigger",
        (false, _) => "smaller",
    };
    let forms = [
        "Which is {z}, the {x} or the {y}?",
        "Is the {x} or the {y} {z}?",
        "What is {z}: the {x} or the {y}?",
    ];
    let long = say(dice, &["The {x} is {y}.", "The {x}."], [&answer, word, ""]);
    Some(Question {
        kind: QuestionKind::Compare,
        text: say(dice, &forms, [&a.name(), &b.name(), word]),
        short: answer,
        long,
        choices: 2,
    })
}

/// On which side of `b` there is `a`; `None` where either is not the only one, or that is not clear.
pub(in super::super) fn relation(
    scene: &Scene,
    [a, b]: [Known; 2],
    dice: &mut Dice,
) -> Option<Question> {
    let one = a.only(scene)?;
    let other = b.only(scene)?;
    let (short, phrase, sides) = if scene.left_of(one, other) {
        ("left", "to the left of", "left or right of")
    } else if scene.left_of(other, one) {
        ("right", "to the right of", "left or right of")
    } else if scene.above(one, other) {
        ("above", "above", "above or below")
    } else if scene.above(other, one) {
        ("below", "below", "above or below")
    } else {
        return None;
    };
    let forms = [
        "Is the {x} {z} the {y}?",
        "Is the {x} {z} the {y} in the picture?",
        "Tell me whether the {x} is {z} the {y}.",
    ];
    let (one, other) = (a.name(), b.name());
    let long = say(
        dice,
        &["The {x} is {z} the {y}.", "It is {z} the {y}."],
        [&one, &other, phrase],
    );
    Some(Question {
        kind: QuestionKind::Relation,
        text: say(dice, &forms, [&one, &other, sides]),
        short: short.to_owned(),
        long,
        choices: 2,
    })
}
