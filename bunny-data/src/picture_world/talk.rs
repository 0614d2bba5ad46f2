//! Conversations about a picture, and without one.

use std::collections::BTreeSet;

use super::ask::{self, Known, Question, QuestionKind, capital, say};
use super::caption;
use super::dice::Dice;
use super::general;
use super::scene::{Object, Scene};
use super::theme::theme;
use super::vocabulary::{Colour, Combination, Place, Shape, WORDS, World};

/// The kinds of question that need a picture.
pub(super) const SEEN: &[QuestionKind] = &[
    QuestionKind::Colour,
    QuestionKind::Shape,
    QuestionKind::Presence,
    QuestionKind::Count,
    QuestionKind::Position,
    QuestionKind::Digits,
    QuestionKind::Word,
    QuestionKind::Compare,
    QuestionKind::Relation,
    QuestionKind::Texture,
];

/// What is said and answered.
pub(super) type Exchange = (String, String);

/// A picture of the training world, made for a question of any kind, with that question.
pub(super) fn scene(dice: &mut Dice) -> (Scene, Question) {
    let kind = *dice.pick(SEEN);
    let theme = theme(kind, dice.bits(), World::Train, dice)
        .expect("a picture belongs to every kind of SEEN");
    (theme.scene, theme.question)
}

/// A conversation of six to twelve turns about a picture, the question it was made for among them.
pub(super) fn about_picture(dice: &mut Dice) -> (Scene, Vec<Exchange>) {
    let (scene, question) = scene(dice);
    let turns = dice.whole(6, 12);
    let first = dice.below(turns);
    let mut exchanges: Vec<Exchange> = Vec::with_capacity(turns);
    let mut question = Some(question);
    while exchanges.len() < turns {
        let exchange = match question.take_if(|_| exchanges.len() == first) {
            Some(question) => said(&question, dice),
            // The answers that tell most, as in the mixes that Bunny is tuned on.
            None if dice.percent(30) => describe(&scene, dice),
            None => match ask_freely(&scene, dice) {
                Some(question) => said(&question, dice),
                None => continue,
            },
        };
        // The same question twice in a conversation is odd.
        if exchanges.iter().all(|(asked, _)| *asked != exchange.0) {
            exchanges.push(exchange);
        }
    }
    (scene, exchanges)
}

/// A conversation of two to five turns without a picture.
pub(super) fn without_picture(dice: &mut Dice) -> Vec<Exchange> {
    let turns = dice.whole(2, 5);
    (0..turns)
        .map(|_| {
            if dice.percent(15) {
                let (asked, answered) = dice.pick(general::SMALL_TALK);
                ((*asked).to_owned(), (*answered).to_owned())
            } else {
                said(&general::question(World::Train, dice), dice)
            }
        })
        .collect()
}

/// A question in either form, with its answer in that form.
fn said(question: &Question, dice: &mut Dice) -> Exchange {
    if dice.percent(50) {
        (question.brief(dice), question.short.clone())
    } else {
        (question.text.clone(), question.long.clone())
    }
}

fn describe(scene: &Scene, dice: &mut Dice) -> Exchange {
    if let Some(exchange) = what_is_where(scene, dice).filter(|_| dice.percent(45)) {
        return exchange;
    }
    if dice.percent(40) {
        let forms = [
            "What do you see?",
            "What is in the picture?",
            "What does the picture show?",
            "Give a short description of the picture.",
            "What is this?",
        ];
        (say(dice, &forms, [""; 3]), caption::summary(scene, dice))
    } else {
        let forms = [
            "Describe the picture.",
            "Describe the picture in detail.",
            "Tell me everything you see.",
            "What can you tell me about this picture?",
        ];
        let answer = caption::description(scene, dice);
        (say(dice, &forms, [""; 3]), answer)
    }
}

/// What is at one of the nine places, in full; one time in eight at a place where nothing is. `None`
/// where there is no such place.
fn what_is_where(scene: &Scene, dice: &mut Dice) -> Option<Exchange> {
    let empty = dice.percent(12);
    let place = dice.any(Place::ALL.iter().copied().filter(|place| {
        let centres = scene.centres();
        let near = centres.filter(|centre| place.is_near(*centre)).count();
        let here = scene
            .objects
            .iter()
            .filter(|one| one.place() == Some(*place));
        if empty {
            near == 0
        } else {
            near == 1 && here.count() == 1
        }
    }))?;
    let forms = [
        "What is {x}?",
        "What do you see {x}?",
        "Tell me what is {x}.",
    ];
    let found = scene.objects.iter().find(|one| one.place() == Some(place));
    let answer = match found {
        Some(object) => format!("{}.", capital(&caption::in_full(object))),
        None => "Nothing.".to_owned(),
    };
    Some((say(dice, &forms, [place.phrase(), "", ""]), answer))
}

/// Any question about a scene; `None` where the dice took one that it has no clear answer to.
fn ask_freely(scene: &Scene, dice: &mut Dice) -> Option<Question> {
    match dice.pick(SEEN) {
        QuestionKind::Colour if !scene.letterings.is_empty() && dice.percent(25) => {
            ask::letters_colour(scene, scene.number().is_some(), dice)
        }
        QuestionKind::Colour => {
            let absent = dice.below(Colour::ALL.len() + 1) == 0;
            let shape = dice.any(Shape::ALL.iter().copied().filter(|shape| {
                let count = scene.count(Some(*shape), None);
                if absent { count == 0 } else { count == 1 }
            }))?;
            ask::colour(scene, shape, dice)
        }
        QuestionKind::Shape => {
            let absent = dice.below(Shape::ALL.len() + 1) == 0;
            let colour = dice.any(Colour::ALL.iter().copied().filter(|colour| {
                let count = scene.count(None, Some(*colour));
                if absent { count == 0 } else { count == 1 }
            }))?;
            ask::shape(scene, colour, dice)
        }
        QuestionKind::Presence if dice.percent(10) => {
            Some(ask::written(scene, dice.percent(50), dice))
        }
        QuestionKind::Presence => {
            let wanted = dice.percent(50);
            let known = any_known(dice, |known| (known.count(scene) > 0) == wanted)?;
            Some(ask::presence(scene, known, dice))
        }
        QuestionKind::Count => {
            // Most things are there once or not at all: the number is drawn before the thing, high
            // ones more often.
            let counts: BTreeSet<usize> = knowns()
                .map(|(known, _)| known.count(scene))
                .filter(|count| *count <= 5)
                .collect();
            let counts: Vec<usize> = counts.into_iter().collect();
            let weights: Vec<usize> = counts.iter().map(|count| count.max(&1).pow(2)).collect();
            let wanted = counts[dice.weighted(&weights)];
            let known = one_of_knowns(dice, |known| known.count(scene) == wanted)?;
            Some(ask::count(scene, known, dice))
        }
        QuestionKind::Position => {
            let absent = dice.percent(10);
            let known = any_known(dice, |known| known.count(scene) == usize::from(!absent))?;
            ask::position(scene, known, dice)
        }
        QuestionKind::Digits if scene.number().is_some() || dice.percent(9) => {
            Some(ask::number(scene, dice))
        }
        QuestionKind::Word if scene.word().is_some() || dice.percent(100 / WORDS.len()) => {
            Some(ask::word(scene, dice))
        }
        QuestionKind::Digits | QuestionKind::Word => None,
        QuestionKind::Compare => match dice.below(3) {
            0 => {
                let pair = two(scene, dice)?;
                ask::larger(scene, pair, dice.percent(50), dice)
            }
            1 => {
                let pair = two(scene, dice)?;
                let (a, b) = if dice.percent(50) {
                    (Known::from(pair[0].shape), Known::from(pair[1].shape))
                } else {
                    (Known::from(pair[0].colour), Known::from(pair[1].colour))
                };
                // As many of one as of the other is what is found most.
                let fair = a.count(scene) != b.count(scene) || dice.percent(25);
                (a != b && fair).then(|| ask::more(scene, a, b, dice))
            }
            _ => {
                let known = any_known(dice, |known| known.count(scene) == 1)?;
                ask::size(scene, known, dice)
            }
        },
        QuestionKind::Relation => {
            let pair = two(scene, dice)?;
            ask::relation(scene, pair, dice)
        }
        QuestionKind::Texture => {
            let absent = dice.percent(15);
            let known = any_known(dice, |known| known.count(scene) == usize::from(!absent))?;
            ask::texture(scene, known, dice)
        }
        QuestionKind::Text => None,
    }
}

/// All shapes, a shape, a colour, or a combination that training has, and how often it is asked
/// about: what is rare in pictures is rare in questions, which would tell that it is never there.
fn knowns() -> impl Iterator<Item = (Known, usize)> {
    let shapes = Shape::ALL.iter().copied().map(Known::from);
    let colours = Colour::ALL.iter().copied().map(Known::from);
    let both = World::Train
        .subjects()
        .map(|one| (Known::from(one), World::Train.frequency(one)));
    std::iter::once(Known::ANY)
        .chain(shapes)
        .chain(colours)
        .map(|known| (known, 40))
        .chain(both)
}

/// One of those that fit, if any does.
fn one_of_knowns(dice: &mut Dice, fits: impl Fn(Known) -> bool) -> Option<Known> {
    let fitting: Vec<(Known, usize)> = knowns().filter(|(known, _)| fits(*known)).collect();
    let frequencies: Vec<usize> = fitting.iter().map(|(_, frequency)| *frequency).collect();
    let drawn = dice.weighted(&frequencies);
    fitting.get(drawn).map(|(known, _)| *known)
}

/// A shape, a colour or a combination, of those that fit.
fn any_known(dice: &mut Dice, fits: impl Fn(Known) -> bool) -> Option<Known> {
    // Which of shape and colour is told: combinations are many, but not to drown the others.
    let told = [(true, false), (false, true), (true, true)][dice.weighted(&[3, 2, 5])];
    one_of_knowns(dice, |known| {
        (known.shape.is_some(), known.colour.is_some()) == told && fits(known)
    })
}

/// Two different things of which there is one each.
fn two(scene: &Scene, dice: &mut Dice) -> Option<[Combination; 2]> {
    let lone = |object: &&Object| Known::from(object.combination()).count(scene) == 1;
    let mut lone: Vec<Combination> = scene
        .objects
        .iter()
        .filter(lone)
        .map(Object::combination)
        .collect();
    dice.shuffle(&mut lone);
    Some([*lone.first()?, *lone.get(1)?])
}
