//! Questions about things of two colours.
//!
//! What they say of a shape and a colour they say of every shape and every colour alike, in words that
//! never name a combination: of stars that are half red, no red star is.

use std::collections::BTreeSet;

use super::super::dice::Dice;
use super::super::palette::Halves;
use super::super::scene::{Object, Scene};
use super::super::vocabulary::{Colour, Combination, Shape, number_word};
use super::amounts::{IS_THERE, yes_or_no};
use super::{Question, QuestionKind, capital, say, spelling};

/// A thing and its colours.
type Thing<'a> = (&'a Object, [Colour; 2]);

/// Any question about the colours of a scene whose things have two each; `None` where the dice took
/// one that it has no clear answer to.
pub(in super::super) fn halves(
    scene: &Scene,
    halves: &[Halves],
    dice: &mut Dice,
) -> Option<Question> {
    let names = halves.iter().map(|one| one.names);
    let things: Vec<Thing<'_>> = scene.objects.iter().zip(names).collect();
    match dice.weighted(&[4, 2, 4, 2, 4, 1]) {
        0 => shape_of_half(&things, dice),
        1 => shape_of_both(&things, dice),
        2 => other_colour(&things, dice),
        3 => both_colours(&things, dice),
        4 => presence(&things, dice),
        _ => count(&things, dice),
    }
}

/// How many things are half of a colour.
fn having(things: &[Thing<'_>], colour: Colour) -> usize {
    let having = things.iter().filter(|(_, names)| names.contains(&colour));
    having.count()
}

/// A thing whose shape no other has.
fn lone<'a>(things: &[Thing<'a>], dice: &mut Dice) -> Option<Thing<'a>> {
    let of = |shape: Shape| things.iter().filter(|(one, _)| one.shape == shape).count();
    dice.any(things.iter().copied().filter(|(one, _)| of(one.shape) == 1))
}

fn shape_of_half(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let absent = dice.below(Shape::ALL.len() + 1) == 0;
    let colours = Colour::ALL.iter().copied();
    let colour = dice.any(colours.filter(|colour| {
        *colour != Colour::Rainbow && having(things, *colour) == usize::from(!absent)
    }))?;
    let forms = [
        "What shape is half {x}?",
        "Which shape is half {x}?",
        "What shape is partly {x}?",
        "Which shape has some {x} in it?",
        "Name the shape that is partly {x}.",
    ];
    let found = things.iter().find(|(_, names)| names.contains(&colour));
    let (short, long) = match found.map(|(one, _)| one.shape.name()) {
        None => ("none".to_owned(), "None of them is.".to_owned()),
        Some(shape) => (shape.to_owned(), it_is(shape, dice)),
    };
    Some(Question {
        kind: QuestionKind::Shape,
        text: say(dice, &forms, [colour.name(), "", ""]),
        short,
        long,
        choices: Shape::ALL.len() + 1,
    })
}

fn shape_of_both(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let same = |names: [Colour; 2], [a, b]: [Colour; 2]| names == [a, b] || names == [b, a];
    let count = |names: [Colour; 2]| things.iter().filter(|one| same(names, one.1)).count();
    let lone = things.iter().copied().filter(|one| count(one.1) == 1);
    let (object, mut names) = dice.any(lone)?;
    dice.shuffle(&mut names);
    let [one, other] = names.map(Colour::name);
    let forms = [
        "What shape is {x} and {y}?",
        "Which shape is {x} and {y}?",
        "What shape is half {x} and half {y}?",
        "Name the shape that is {x} and {y}.",
    ];
    let shape = object.shape.name();
    Some(Question {
        kind: QuestionKind::Shape,
        text: say(dice, &forms, [one, other, ""]),
        short: shape.to_owned(),
        long: it_is(shape, dice),
        choices: Shape::ALL.len(),
    })
}

fn it_is(shape: &str, dice: &mut Dice) -> String {
    say(
        dice,
        &["It is a {x}.", "A {x}.", "It's a {x}."],
        [shape, "", ""],
    )
}

fn other_colour(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let (object, mut names) = lone(things, dice)?;
    dice.shuffle(&mut names);
    let [told, asked] = names.map(Colour::name);
    let forms = [
        "The {x} is half {y}. What colour is its other half?",
        "What colour is the {x} where it is not {y}?",
        "Besides {y}, what colour is the {x}?",
        "The {x} is partly {y}. What is its other colour?",
    ];
    let text = say(dice, &forms, [object.shape.name(), told, ""]);
    Some(Question {
        kind: QuestionKind::Colour,
        text: spelling(text, dice),
        short: asked.to_owned(),
        long: say(
            dice,
            &["It is {x}.", "It's {x}.", "{y}."],
            [asked, &capital(asked), ""],
        ),
        choices: Colour::ALL.len() - 2,
    })
}

fn both_colours(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let (object, mut names) = lone(things, dice)?;
    // In one order, so that there is one answer.
    names.sort_unstable();
    let [one, other] = names.map(Colour::name);
    let forms = [
        "What colours is the {x}?",
        "Which two colours does the {x} have?",
        "What are the colours of the {x}?",
    ];
    let text = say(dice, &forms, [object.shape.name(), "", ""]);
    let short = format!("{one} and {other}");
    Some(Question {
        kind: QuestionKind::Colour,
        text: spelling(text, dice),
        long: say(dice, &["It is {x}.", "It's {x}."], [&short, "", ""]),
        short,
        // Two of eleven.
        choices: 55,
    })
}

fn presence(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let wanted = dice.percent(50);
    let is_there = |one: &Combination| {
        let mut things = things.iter();
        things.any(|(object, names)| object.shape == one.shape && names.contains(&one.colour))
    };
    // What is not there is missed for its colour or for its shape, not for both.
    let is_near = |one: &Combination| {
        let of_shape = things.iter().any(|(object, _)| object.shape == one.shape);
        of_shape || having(things, one.colour) > 0
    };
    let all = Combination::all().filter(|one| one.colour != Colour::Rainbow);
    let asked = dice.any(all.filter(|one| is_near(one) && is_there(one) == wanted))?;
    let name = match dice.percent(50) {
        true => format!("a {} that is half {}", asked.shape, asked.colour),
        false => format!("a {} that is partly {}", asked.shape, asked.colour),
    };
    let text = say(dice, IS_THERE, [&name, "", ""]);
    Some(yes_or_no(wanted, text, name, dice))
}

fn count(things: &[Thing<'_>], dice: &mut Dice) -> Option<Question> {
    let colours = Colour::ALL.iter().copied();
    let colours: Vec<Colour> = colours.filter(|one| *one != Colour::Rainbow).collect();
    // The number is drawn before the colour: most are there once or not at all.
    let counts: BTreeSet<usize> = colours.iter().map(|one| having(things, *one)).collect();
    let wanted = dice.any(counts.into_iter().filter(|count| *count <= 5))?;
    let colour = dice.any(
        colours
            .into_iter()
            .filter(|one| having(things, *one) == wanted),
    )?;
    let forms = [
        "How many shapes are half {x}?",
        "How many shapes are partly {x}?",
        "How many shapes have some {x} in them?",
    ];
    Some(Question {
        kind: QuestionKind::Count,
        text: say(dice, &forms, [colour.name(), "", ""]),
        short: wanted.to_string(),
        long: format!("{}.", capital(&number_word(wanted))),
        choices: 6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture_world::{Part, talk};

    #[test]
    fn answers_follow_from_the_colours_of_the_halves() {
        // Any three objects, made into a star of red and blue and two rings.
        let object = (0..)
            .map(|index| talk::about_picture(&mut Part::Conversations.dice(1, index)).0)
            .find_map(|scene| scene.objects.first().copied())
            .unwrap();
        let of = |shape| Object { shape, ..object };
        let objects = [of(Shape::Star), of(Shape::Ring), of(Shape::Ring)];
        use Colour::{Black, Blue, Green, Red, White};
        let things = [
            (&objects[0], [Red, Blue]),
            (&objects[1], [Blue, Green]),
            (&objects[2], [White, Black]),
        ];
        let mut answers = BTreeSet::new();
        for seed in 0..3000 {
            let dice = &mut Dice::new(&[seed]);
            let questions = [
                shape_of_half(&things, dice),
                shape_of_both(&things, dice),
                other_colour(&things, dice),
                both_colours(&things, dice),
                presence(&things, dice),
                count(&things, dice),
            ];
            for question in questions.into_iter().flatten() {
                let text = question.text.replace("color", "colour");
                answers.insert((text, question.short));
            }
        }
        let is_answered = |question: &str, answer: &str| {
            let found: Vec<&str> = answers
                .iter()
                .filter(|(text, _)| text == question)
                .map(|(_, answer)| answer.as_str())
                .collect();
            assert_eq!(found, [answer], "{question}");
        };
        is_answered("What shape is half red?", "star");
        is_answered("Which shape has some green in it?", "ring");
        is_answered("What shape is partly pink?", "none");
        is_answered("What shape is black and white?", "ring");
        is_answered("What shape is blue and red?", "star");
        is_answered(
            "The star is half blue. What colour is its other half?",
            "red",
        );
        is_answered("What colour is the star where it is not red?", "blue");
        is_answered("Which two colours does the star have?", "red and blue");
        is_answered("Is there a ring that is half blue?", "yes");
        is_answered("Is there a ring that is half red?", "no");
        is_answered("Is there a star that is partly red?", "yes");
        is_answered("How many shapes are half blue?", "2");
        is_answered("How many shapes are partly black?", "1");
        is_answered("How many shapes have some pink in them?", "0");
        // There are two rings, and two things are half blue.
        let asked = |part: &str| answers.iter().any(|(text, _)| text.contains(part));
        assert!(!asked("colours is the ring") && !asked("the ring where"));
        assert!(!asked("shape is half blue?") && !asked("some blue in it"));
    }
}
