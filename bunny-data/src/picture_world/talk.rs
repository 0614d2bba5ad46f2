//! Conversations about a picture, and without one.

use std::collections::BTreeSet;

use super::ask::{self, Known, Question, QuestionKind, capital, say};
use super::caption;
use super::dice::Dice;
use super::general;
use super::palette::Palette;
use super::scene::Scene;
use super::theme::{Beside, theme};
use super::vocabulary::{Colour, Place, Shape, Size, Texture, WORDS, World};

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

/// How often each of them is asked about a picture: more often, what takes longest to learn from
/// pictures, and is answered in a word.
const OF_PICTURES: &[usize] = &[1, 1, 2, 3, 2, 3, 3, 2, 2, 1];
/// And about a description, where nothing is hard to see.
const OF_DESCRIPTIONS: &[usize] = &[1; SEEN.len()];

/// What is said and answered.
pub(super) type Exchange = (String, String);

/// A picture of the training world, made for a question of any kind, with that question. One in three
/// is made for counting: where things are drawn at random, there are seldom several of a kind.
pub(super) fn scene(writing: Beside, dice: &mut Dice) -> (Scene, Question) {
    let kind = match dice.percent(26) {
        true => QuestionKind::Count,
        false => *dice.pick(SEEN),
    };
    let theme = theme(kind, dice.bits(), World::Train, writing, dice)
        .expect("a picture belongs to every kind of SEEN");
    (theme.scene, theme.question)
}

/// A conversation of two to four turns about a picture, the question it was made for among them: so much
/// is told in more that they can be answered from what was said before, without looking.
pub(super) fn about_picture(dice: &mut Dice) -> (Scene, Vec<Exchange>) {
    let (scene, question) = scene(Beside::Often, dice);
    let scene = match question.kind {
        // Colours are to be counted too.
        QuestionKind::Count if dice.percent(50) => scene,
        _ => developed(scene, dice),
    };
    // Descriptions are the answers that tell most, as in the mixes that Bunny is tuned on; with one turn
    // in five they are half of all that is answered.
    let turns = dice.whole(2, 4);
    let exchanges = conversation(&scene, question, turns, 20, OF_PICTURES, dice);
    (scene, exchanges)
}

/// A conversation of six to twelve turns about what is described, in colours or as if in black and white.
pub(super) fn about_description(in_colours: bool, dice: &mut Dice) -> (Scene, Vec<Exchange>) {
    let (mut scene, question) = scene(Beside::Seldom, dice);
    if !in_colours {
        scene.palette = Palette::Greys([1.0 / 3.0; 3]);
    }
    // Describing it again would be copying.
    let turns = dice.whole(6, 12);
    let exchanges = conversation(&scene, question, turns, 10, OF_DESCRIPTIONS, dice);
    (scene, exchanges)
}

/// A scene as it comes, two times in ten in colours without a name, two times in colours that are
/// halves of things, and once in black and white, if everything stays in sight.
pub(super) fn developed(scene: Scene, dice: &mut Dice) -> Scene {
    let palette = match dice.weighted(&[5, 2, 2, 1]) {
        1 => Palette::free(&scene, dice),
        2 => Palette::halves(&scene, dice),
        3 => Palette::greys(&scene, dice),
        _ => None,
    };
    Scene {
        palette: palette.unwrap_or(Palette::Named),
        ..scene
    }
}

/// Questions and answers about a scene, of which `question` is one, unless it tells of colours where
/// there are none.
fn conversation(
    scene: &Scene,
    question: Question,
    turns: usize,
    describing: usize,
    weights: &[usize],
    dice: &mut Dice,
) -> Vec<Exchange> {
    let fits = scene.has_colours() || !tells_colours(&question);
    let mut question = Some(question).filter(|_| fits);
    let first = dice.below(turns);
    let mut exchanges: Vec<Exchange> = Vec::with_capacity(turns);
    // A picture with little in it is soon talked about.
    for _ in 0..20 * turns {
        if exchanges.len() == turns {
            break;
        }
        let exchange = match question.take_if(|_| exchanges.len() == first) {
            Some(question) => said(&question, dice),
            None if dice.percent(describing) => describe(scene, dice),
            None => match ask_freely(scene, weights, dice) {
                Some(question) => said(&question, dice),
                None => continue,
            },
        };
        // The same question twice in a conversation is odd.
        if exchanges.iter().all(|(asked, _)| *asked != exchange.0) {
            exchanges.push(exchange);
        }
    }
    exchanges
}

/// Whether colours are in a question or its answer; a word that is written may be a colour's.
fn tells_colours(question: &Question) -> bool {
    let tells = |text: &str| {
        let mut words = text.split(|letter: char| !letter.is_alphabetic());
        words.any(|word| Colour::ALL.iter().any(|one| one.name() == word))
    };
    let is_of_writing = matches!(question.kind, QuestionKind::Digits | QuestionKind::Word);
    !is_of_writing
        && (question.kind == QuestionKind::Colour
            || tells(&question.text)
            || tells(&question.short))
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
    let place = clear_place(scene, dice.percent(12), dice)?;
    let forms = [
        "What is {x}?",
        "What do you see {x}?",
        "Tell me what is {x}.",
    ];
    let found = scene.objects.iter().find(|one| one.place() == Some(place));
    let answer = match found {
        Some(object) => format!("{}.", capital(&caption::in_full(object, scene))),
        None => "Nothing.".to_owned(),
    };
    Some((say(dice, &forms, [place.phrase(), "", ""]), answer))
}

/// A place at which there is one object and nothing near, or nothing at all.
fn clear_place(scene: &Scene, empty: bool, dice: &mut Dice) -> Option<Place> {
    dice.any(Place::ALL.iter().copied().filter(|place| {
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
    }))
}

/// Any question about a scene, kinds by their weights; `None` where the dice took one that it has no clear answer to.
fn ask_freely(scene: &Scene, weights: &[usize], dice: &mut Dice) -> Option<Question> {
    if let Palette::Halves(halves) = &scene.palette
        && dice.percent(60)
    {
        return ask::halves(scene, halves, dice);
    }
    match SEEN[dice.weighted(weights)] {
        QuestionKind::Colour if !scene.letterings.is_empty() && dice.percent(25) => {
            ask::letters_colour(scene, scene.number().is_some(), dice)
        }
        QuestionKind::Colour if !scene.has_colours() => None,
        QuestionKind::Colour => {
            let absent = dice.below(Colour::ALL.len() + 1) == 0;
            let shape = dice.any(Shape::ALL.iter().copied().filter(|shape| {
                let count = Known::from(*shape).count(scene);
                if absent { count == 0 } else { count == 1 }
            }))?;
            ask::colour(scene, shape, dice)
        }
        QuestionKind::Shape if !scene.has_colours() || dice.percent(35) => {
            let place = clear_place(scene, dice.below(Shape::ALL.len() + 1) == 0, dice)?;
            Some(ask::shape_at(scene, place, dice))
        }
        QuestionKind::Shape => {
            let absent = dice.below(Shape::ALL.len() + 1) == 0;
            let colour = dice.any(Colour::ALL.iter().copied().filter(|colour| {
                let count = Known::from(*colour).count(scene);
                if absent { count == 0 } else { count == 1 }
            }))?;
            ask::shape(scene, colour, dice)
        }
        QuestionKind::Presence if dice.percent(10) => {
            Some(ask::written(scene, dice.percent(50), dice))
        }
        QuestionKind::Presence => {
            let wanted = dice.percent(50);
            let extra = Extra::any(&[10, 4, 3, 3], dice);
            let known = described(scene, extra, dice, |known| {
                (known.count(scene) > 0) == wanted
            })?;
            Some(ask::presence(scene, known, dice))
        }
        QuestionKind::Count => {
            // Most things are there once or not at all: the number is drawn before the thing, high
            // ones more often.
            let extra = Extra::any(&[10, 4, 3, 0], dice);
            let knowns: Vec<Known> = knowns(Told::any(&[3, 3, 3, 1], scene, dice))
                .into_iter()
                .flat_map(|known| extra.added_to(known))
                .filter(|known| known.is_clear(scene))
                .collect();
            let counts: BTreeSet<usize> = knowns
                .iter()
                .map(|known| known.count(scene))
                .filter(|count| *count <= 5)
                .collect();
            let counts: Vec<usize> = counts.into_iter().collect();
            let weights: Vec<usize> = counts.iter().map(|count| count.max(&1).pow(2)).collect();
            let wanted = *counts.get(dice.weighted(&weights))?;
            let known = dice.any(knowns.into_iter().filter(|one| one.count(scene) == wanted))?;
            Some(ask::count(scene, known, dice))
        }
        QuestionKind::Position => {
            let absent = dice.percent(10);
            let extra = Extra::any(&[10, 3, 3, 0], dice);
            let known = described(scene, extra, dice, |known| {
                known.count(scene) == usize::from(!absent)
            })?;
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
                let by_shape = !scene.has_colours() || dice.percent(50);
                let [a, b] = pair.map(|one| match by_shape {
                    true => Known {
                        colour: None,
                        ..one
                    },
                    false => Known { shape: None, ..one },
                });
                // As many of one as of the other is what is found most.
                let fair = a.count(scene) != b.count(scene) || dice.percent(25);
                (a != b && fair).then(|| ask::more(scene, a, b, dice))
            }
            _ => {
                let extra = Extra::any(&[10, 0, 3, 0], dice);
                let known = described(scene, extra, dice, |known| known.count(scene) == 1)?;
                ask::size(scene, known, dice)
            }
        },
        QuestionKind::Relation => {
            let pair = two(scene, dice)?;
            ask::relation(scene, pair, dice)
        }
        QuestionKind::Texture => {
            let absent = dice.percent(15);
            let extra = Extra::any(&[10, 3, 0, 0], dice);
            let known = described(scene, extra, dice, |known| {
                known.count(scene) == usize::from(!absent)
            })?;
            ask::texture(scene, known, dice)
        }
        QuestionKind::Text => None,
    }
}

/// What of a thing is told first of all.
#[derive(Clone, Copy)]
enum Told {
    Shape,
    Colour,
    Both,
    Nothing,
}

impl Told {
    /// One of them by weights, in their order; without a colour where there are none.
    fn any(weights: &[usize; 4], scene: &Scene, dice: &mut Dice) -> Self {
        let [shape, colour, both, nothing] = *weights;
        let weights = match scene.has_colours() {
            true => [shape, colour, both, nothing],
            false => [shape + both, 0, 0, nothing],
        };
        [Self::Shape, Self::Colour, Self::Both, Self::Nothing][dice.weighted(&weights)]
    }
}

/// All that there is to tell of things: every shape, every colour, every combination that training
/// has, or that they are shapes.
fn knowns(told: Told) -> Vec<Known> {
    match told {
        Told::Shape => Shape::ALL.iter().copied().map(Known::from).collect(),
        Told::Colour => Colour::ALL.iter().copied().map(Known::from).collect(),
        Told::Both => World::Train.subjects().map(Known::from).collect(),
        Told::Nothing => vec![Known::ANY],
    }
}

/// What more may be told of a thing than what it is: as "large", "striped" or "at the top" have little
/// to do with shapes and colours, a learner has to find all that is said in one thing, and cannot know
/// every combination by heart.
#[derive(Clone, Copy)]
enum Extra {
    Nothing,
    Size,
    Texture,
    Place,
}

impl Extra {
    /// One of them by weights, in their order.
    fn any(weights: &[usize; 4], dice: &mut Dice) -> Self {
        [Self::Nothing, Self::Size, Self::Texture, Self::Place][dice.weighted(weights)]
    }

    /// What is known with one more trait, in all ways.
    fn added_to(self, known: Known) -> Vec<Known> {
        let with = |extra: Known| Known {
            shape: known.shape,
            colour: known.colour,
            ..extra
        };
        match self {
            Self::Nothing => vec![known],
            Self::Size => Size::ALL.iter().map(|one| with((*one).into())).collect(),
            Self::Texture => Texture::ALL.iter().map(|one| with((*one).into())).collect(),
            Self::Place => Place::ALL.iter().map(|one| with((*one).into())).collect(),
        }
    }
}

/// A shape, a colour or a combination, with one more trait, of those that fit and that can be told.
fn described(
    scene: &Scene,
    extra: Extra,
    dice: &mut Dice,
    fits: impl Fn(Known) -> bool,
) -> Option<Known> {
    let told = Told::any(&[3, 2, 5, 0], scene, dice);
    let all = knowns(told)
        .into_iter()
        .flat_map(|known| extra.added_to(known));
    dice.any(all.filter(|known| known.is_clear(scene) && fits(*known)))
}

/// Two different things of which there is one each.
fn two(scene: &Scene, dice: &mut Dice) -> Option<[Known; 2]> {
    let things = scene.objects.iter().map(|object| Known::of(object, scene));
    let mut lone: Vec<Known> = things.filter(|one| one.count(scene) == 1).collect();
    dice.shuffle(&mut lone);
    Some([*lone.first()?, *lone.get(1)?])
}
