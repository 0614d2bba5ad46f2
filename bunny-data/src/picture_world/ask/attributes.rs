//! Questions about one thing: its colour, shape, place, pattern and size.

use super::super::dice::Dice;
use super::super::scene::Scene;
use super::super::vocabulary::{Colour, Place, Shape, Size, Texture};
use super::{Known, Question, QuestionKind, absent, capital, say, spelling};

/// What colour a shape has; `None` where there are several of it.
pub(in super::super) fn colour(scene: &Scene, shape: Shape, dice: &mut Dice) -> Option<Question> {
    let name = shape.name();
    let forms = [
        "What colour is the {x}?",
        "Which colour does the {x} have?",
        "What is the colour of the {x}?",
        "Tell me the colour of the {x}.",
        "The {x} is of what colour?",
    ];
    let text = spelling(say(dice, &forms, [name, "", ""]), dice);
    let (short, long) = match Known::from(shape).count(scene) {
        0 => ("none".to_owned(), absent(name, dice)),
        _ => {
            let colour = Known::from(shape).only(scene)?.colour.name();
            let forms = ["The {x} is {y}.", "It is {y}.", "It's {y}."];
            (colour.to_owned(), say(dice, &forms, [name, colour, ""]))
        }
    };
    Some(Question {
        kind: QuestionKind::Colour,
        text,
        short,
        long,
        choices: Colour::ALL.len() + 1,
    })
}

/// What shape is of a colour; `None` where there are several of it.
pub(in super::super) fn shape(scene: &Scene, colour: Colour, dice: &mut Dice) -> Option<Question> {
    let forms = [
        "What shape is {x}?",
        "Which shape is {x}?",
        "What is the {x} shape?",
        "What shape is the {x} object?",
        "Name the shape that is {x}.",
    ];
    let text = say(dice, &forms, [colour.name(), "", ""]);
    let (short, long) = match Known::from(colour).count(scene) {
        0 => ("none".to_owned(), absent(&Known::from(colour).name(), dice)),
        _ => {
            let shape = Known::from(colour).only(scene)?.shape.name();
            let forms = [
                "The {x} shape is a {y}.",
                "It is a {y}.",
                "A {y}.",
                "It's a {y}.",
            ];
            let long = say(dice, &forms, [colour.name(), shape, ""]);
            (shape.to_owned(), long)
        }
    };
    Some(Question {
        kind: QuestionKind::Shape,
        text,
        short,
        long,
        choices: Shape::ALL.len() + 1,
    })
}

/// What shape is at a place, at which there is one alone or nothing.
pub(in super::super) fn shape_at(scene: &Scene, place: Place, dice: &mut Dice) -> Question {
    let forms = [
        "What shape is {x}?",
        "Which shape is {x}?",
        "What shape do you see {x}?",
        "Name the shape {x}.",
    ];
    let text = say(dice, &forms, [place.phrase(), "", ""]);
    let found = scene.objects.iter().find(|one| one.place() == Some(place));
    let (short, long) = match found.map(|one| one.shape.name()) {
        None => ("none".to_owned(), "There is no shape there.".to_owned()),
        Some(shape) => {
            let forms = ["It is a {x}.", "A {x}.", "It's a {x}.", "There is a {x}."];
            (shape.to_owned(), say(dice, &forms, [shape, "", ""]))
        }
    };
    Question {
        kind: QuestionKind::Shape,
        text,
        short,
        long,
        choices: Shape::ALL.len() + 1,
    }
}

/// Where something is; `None` where there are several of it, or its place is not clear.
pub(in super::super) fn position(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
    let name = known.name();
    let forms = [
        "Where is the {x}?",
        "Where in the picture is the {x}?",
        "In which part of the picture is the {x}?",
        "Where do you see the {x}?",
    ];
    let text = say(dice, &forms, [&name, "", ""]);
    let (short, long) = if known.count(scene) == 0 {
        ("none".to_owned(), absent(&name, dice))
    } else {
        let place = known.only(scene)?.place()?;
        let forms = ["The {x} is {y}.", "It is {y}.", "{z}."];
        let phrase = place.phrase();
        let long = say(dice, &forms, [&name, phrase, &capital(phrase)]);
        (place.name().to_owned(), long)
    };
    Some(Question {
        kind: QuestionKind::Position,
        text,
        short,
        long,
        choices: Place::ALL.len() + 1,
    })
}

/// How something is patterned; `None` where there are several of it, or it is too small to tell.
pub(in super::super) fn texture(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
    let name = known.name();
    let forms = [
        "What pattern does the {x} have?",
        "Is the {x} plain, striped, dotted or outlined?",
        "How is the {x} patterned?",
        "What is the texture of the {x}?",
    ];
    let text = say(dice, &forms, [&name, "", ""]);
    let (short, long) = if known.count(scene) == 0 {
        ("none".to_owned(), absent(&name, dice))
    } else {
        let object = known.only(scene).filter(|one| one.size == Size::Large)?;
        let texture = object.texture.name();
        let long = say(
            dice,
            &["The {x} is {y}.", "It is {y}."],
            [&name, texture, ""],
        );
        (texture.to_owned(), long)
    };
    Some(Question {
        kind: QuestionKind::Texture,
        text,
        short,
        long,
        choices: Texture::ALL.len() + 1,
    })
}

/// Whether something is large or small; `None` where it is not the only one.
pub(in super::super) fn size(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
    let size = known.only(scene)?.size.name();
    let name = known.name();
    let forms = [
        "Is the {x} large or small?",
        "How large is the {x}?",
        "What size is the {x}?",
    ];
    Some(Question {
        kind: QuestionKind::Compare,
        text: say(dice, &forms, [&name, "", ""]),
        short: size.to_owned(),
        long: say(dice, &["The {x} is {y}.", "It is {y}."], [&name, size, ""]),
        choices: 2,
    })
}
