//! Captions as the web has them: right, wrong, vague; and descriptions as a teacher gives them.

use super::ask::{Known, capital, say, with_article};
use super::dice::Dice;
use super::scene::{Object, Scene};
use super::vocabulary::{Shape, World, number_word};

/// What a caption tells: how many of a colour and shape, or of a shape, and what is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub groups: Vec<(Known, usize)>,
    pub writing: Vec<String>,
}

impl Told {
    /// All there is to tell.
    pub fn all(scene: &Scene) -> Self {
        let groups = scene.groups().into_iter();
        let all = Self {
            groups: groups.map(|(one, count)| (one.into(), count)).collect(),
            writing: scene
                .letterings
                .iter()
                .map(|one| one.text.clone())
                .collect(),
        };
        match scene.has_colours() {
            true => all,
            false => all.without_colours(),
        }
    }

    /// What is told of objects that are named one by one.
    fn each(named: impl Iterator<Item = Known>) -> Self {
        let mut told = Self::default();
        named.for_each(|one| told.add(one, 1));
        told
    }

    fn add(&mut self, known: Known, count: usize) {
        match self.groups.iter_mut().find(|(other, _)| *other == known) {
            Some((_, sum)) => *sum += count,
            None => self.groups.push((known, count)),
        }
    }

    /// The same without colours: "three hearts" where there are two red ones and a blue one.
    fn without_colours(mut self) -> Self {
        for (mut one, count) in std::mem::take(&mut self.groups) {
            one.colour = None;
            self.add(one, count);
        }
        self
    }
}

/// A caption and what it tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Caption {
    pub text: String,
    pub told: Told,
}

/// "a, b and c".
pub(super) fn listed(parts: &[String]) -> String {
    match parts {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn parts(told: &Told) -> Vec<String> {
    let groups = told.groups.iter().map(|(known, count)| match count {
        1 => with_article(&known.name()),
        _ => format!("{} {}", number_word(*count), known.plural()),
    });
    groups.chain(told.writing.iter().map(written)).collect()
}

fn written(text: &String) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("the number {text}")
    } else {
        format!("the word \"{text}\"")
    }
}

/// A caption that is right. Half of them name no colours. Where colours are not told, it takes shapes
/// and places to find the caption's picture.
pub(super) fn right(scene: &Scene, dice: &mut Dice) -> Caption {
    let colours = dice.percent(50) && scene.has_colours();
    told(scene, colours, dice)
}

/// Half of the captions tell how many there are of everything, the others where things are.
fn told(scene: &Scene, colours: bool, dice: &mut Dice) -> Caption {
    let one_by_one = !scene.objects.is_empty() && dice.percent(50);
    match one_by_one {
        true => things(scene, colours, dice),
        false => groups(scene, colours, dice),
    }
}

/// "two red hearts and a star"; one in seven leaves something out, as captions do.
fn groups(scene: &Scene, colours: bool, dice: &mut Dice) -> Caption {
    let mut told = Told::all(scene);
    if !colours {
        told = told.without_colours();
    }
    dice.shuffle(&mut told.groups);
    if told.groups.len() > 1 && dice.percent(15) {
        told.groups.pop();
    }
    worded(&parts(&told), told, dice)
}

/// The most things that a caption tells one by one.
const NAMED: usize = 3;

/// "a large star at the top left and a striped heart on the right". Which traits are told differs
/// from caption to caption, so that each of them has to be seen in some.
fn things(scene: &Scene, colours: bool, dice: &mut Dice) -> Caption {
    let mut objects: Vec<&Object> = scene.objects.iter().collect();
    dice.shuffle(&mut objects);
    objects.truncate(NAMED);
    let (places, sizes, textures) = (dice.percent(80), dice.percent(35), dice.percent(40));
    let known = |object: &Object| match colours {
        true => Known::from(object.combination()),
        false => Known::from(object.shape),
    };
    let told = Told {
        writing: Told::all(scene).writing,
        ..Told::each(objects.iter().map(|object| known(object)))
    };
    let things = objects.iter().map(|object| {
        let size = sizes.then(|| object.size.name());
        let texture = Some(object.texture.name())
            .filter(|_| textures && object.texture != super::Texture::Plain);
        let name = known(object).name();
        let words: Vec<&str> = [size, texture, Some(name.as_str())]
            .into_iter()
            .flatten()
            .collect();
        let thing = with_article(&words.join(" "));
        match object.place().filter(|_| places) {
            Some(place) => format!("{thing} {}", place.phrase()),
            None => thing,
        }
    });
    let parts: Vec<String> = things.chain(told.writing.iter().map(written)).collect();
    worded(&parts, told, dice)
}

/// As the web words it.
fn worded(parts: &[String], told: Told, dice: &mut Dice) -> Caption {
    let forms = [
        "{x}",
        "{x}",
        "{x}",
        "{y}.",
        "a picture of {x}",
        "picture with {x}",
        "photo: {x}",
        "{x}, stock image",
        "{x} - clip art",
        "{y} | free download",
    ];
    let list = listed(parts);
    Caption {
        text: say(dice, &forms, [&list, &capital(&list), ""]),
        told,
    }
}

/// A caption that is wrong: of another picture, or of this one with every shape or every colour
/// another. Colours are always told: without them it might be right.
pub(super) fn wrong(scene: &Scene, another: &Scene, dice: &mut Dice) -> Caption {
    let mut twisted = scene.clone();
    // A number or a word that is right would say more than a colour that is not.
    let can_twist = !twisted.objects.is_empty() && twisted.letterings.is_empty();
    if !can_twist || dice.percent(40) {
        return told(another, true, dice);
    }
    let by = dice.whole(1, 7);
    let of_shape = dice.percent(50);
    for object in &mut twisted.objects {
        let mut one = object.combination();
        // The next one that training has, so that no caption names what is held out.
        let mut steps = by;
        while steps > 0 || !World::Train.has(one) || one == object.combination() {
            let next = |at: usize| (at + 1) % Shape::ALL.len();
            if of_shape {
                one.shape = Shape::ALL[next(one.shape as usize)];
            } else {
                one.colour = super::Colour::ALL[next(one.colour as usize)];
            }
            steps = steps.saturating_sub(1);
        }
        (object.shape, object.colour) = (one.shape, one.colour);
    }
    told(&twisted, true, dice)
}

/// A caption that would fit any picture of the world.
pub(super) fn vague(dice: &mut Dice) -> Caption {
    let forms = [
        "a picture",
        "image",
        "a nice picture",
        "some shapes",
        "colourful shapes",
        "untitled",
        "stock photo, free download",
        "geometric design",
        "abstract art print",
        "wallpaper",
        "design element, vector",
        "photo of the day",
        "click to enlarge",
        "new arrivals",
        "IMG_{x}",
        "DSC_{x}.jpg",
        "picture {x}",
    ];
    let number = dice.whole(1000, 9999).to_string();
    Caption {
        text: say(dice, &forms, [&number, "", ""]),
        told: Told::default(),
    }
}

/// One sentence that tells all there is.
pub(super) fn summary(scene: &Scene, dice: &mut Dice) -> String {
    let told = Told::all(scene);
    let parts = parts(&told);
    let list = listed(&parts);
    let are = if told.groups.first().is_some_and(|(_, count)| *count > 1) {
        "are"
    } else {
        "is"
    };
    match dice.below(3) {
        0 => format!("There {are} {list}."),
        1 => format!("I see {list}."),
        _ => format!("The picture shows {list}."),
    }
}

/// "a large striped red star".
pub(super) fn in_full(object: &Object, scene: &Scene) -> String {
    let pattern = match object.texture {
        super::Texture::Plain => String::new(),
        other => format!("{other} "),
    };
    with_article(&format!(
        "{} {pattern}{}",
        object.size,
        Known::of(object, scene).name()
    ))
}

/// A sentence for each thing: size, colour, shape, pattern and place.
pub(super) fn description(scene: &Scene, dice: &mut Dice) -> String {
    let mut sentences = Vec::new();
    let count = scene.objects.len();
    if count != 1 {
        let shapes = if count == 0 {
            "no".to_owned()
        } else {
            number_word(count)
        };
        sentences.push(match dice.below(2) {
            0 => format!("There are {shapes} shapes."),
            _ => format!("The picture shows {shapes} shapes."),
        });
    }
    let place_first = dice.percent(50);
    for object in &scene.objects {
        let thing = in_full(object, scene);
        sentences.push(match object.place() {
            Some(place) if place_first => format!("{} is {thing}.", capital(place.phrase())),
            Some(place) => format!("{} is {}.", capital(&thing), place.phrase()),
            None => format!("There is {thing}."),
        });
    }
    sentences.extend(written_there(scene));
    sentences.join(" ")
}

/// As [`description`] tells it, but things in any order, and their traits before or after what they
/// are: who reads it has to tie together what belongs together, as who looks at a picture has.
pub(super) fn retold(scene: &Scene, dice: &mut Dice) -> String {
    let mut objects: Vec<&Object> = scene.objects.iter().collect();
    dice.shuffle(&mut objects);
    let count = number_word(objects.len());
    let mut sentences = vec![format!("There are {count} shapes.")];
    sentences.retain(|_| objects.len() != 1);
    for object in objects {
        let place = object
            .place()
            .map_or_else(String::new, |place| format!(" {}", place.phrase()));
        let known = Known::of(object, scene);
        let texture = Some(object.texture).filter(|texture| *texture != super::Texture::Plain);
        let size = object.size.name();
        let mut traits: Vec<&str> = [
            known.colour.map(|colour| colour.name()),
            texture.map(|texture| texture.name()),
            Some(size),
        ]
        .into_iter()
        .flatten()
        .collect();
        dice.shuffle(&mut traits);
        let (traits, shape) = (traits.join(", "), with_article(object.shape.name()));
        let thing = in_full(object, scene);
        sentences.push(match dice.below(4) {
            0 if !place.is_empty() => format!("{} is {thing}.", capital(place.trim_start())),
            0 | 1 => format!("There is {thing}{place}."),
            2 => format!("{}{place}: {traits}.", capital(&shape)),
            _ => format!("{}: {shape}{place}.", capital(&traits)),
        });
    }
    sentences.extend(written_there(scene));
    sentences.join(" ")
}

/// What is written, a sentence each.
fn written_there(scene: &Scene) -> impl Iterator<Item = String> {
    scene.letterings.iter().map(|lettering| {
        let what = if lettering.is_number() {
            format!("number {}", lettering.text)
        } else {
            format!("word \"{}\"", lettering.text)
        };
        match scene.has_colours() {
            true => format!("The {what} is written in {}.", lettering.colour),
            false => format!("The {what} is written there."),
        }
    })
}
