//! Questions about a scene, and their answers, which follow from its truth alone.

use super::dice::Dice;
use super::scene::{Object, Scene};
use super::vocabulary::{Colour, Combination, Place, Shape, Size, Texture, named, number_word};

named! {
    /// What a question is about.
    QuestionKind {
        /// The colour of a shape.
        Colour = "colour",
        /// The shape of a colour.
        Shape = "shape",
        /// Whether something is there.
        Presence = "presence",
        /// How many there are, up to five.
        Count = "count",
        /// In which part of the picture something is.
        Position = "position",
        /// Which number is written.
        Digits = "digits",
        /// Which word is written.
        Word = "word",
        /// Which of two is larger, or of which there are more.
        Compare = "compare",
        /// On which side of one thing another is.
        Relation = "relation",
        /// How something is patterned.
        Texture = "texture",
        /// No picture at all: arithmetic and facts.
        Text = "text",
    }
}

/// A question with its answer in two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it is about.
    pub kind: QuestionKind,
    /// The question as a person would put it.
    pub text: String,
    /// The answer in one or two words: the form in which answers are graded.
    pub short: String,
    /// The answer as a sentence.
    pub long: String,
    /// How many answers the question leaves open.
    pub choices: usize,
}

/// What asks for the short form.
const BRIEF: &[&str] = &[
    "Answer with one word.",
    "Answer the question using a single word or phrase.",
    "Answer in a word or two.",
    "Answer briefly.",
    "Give a short answer.",
];

impl Question {
    /// The question with a request for the short form.
    pub(super) fn brief(&self, dice: &mut Dice) -> String {
        let space = if dice.percent(50) { "\n" } else { " " };
        // "One word" would be wrong of an answer of two.
        let from = usize::from(self.short.contains(' '));
        format!("{}{space}{}", self.text, say(dice, &BRIEF[from..], [""; 3]))
    }
}

/// A template with its `{x}`, `{y}` and `{z}` filled in.
fn fill(template: &str, parts: [&str; 3]) -> String {
    let mut text = template.to_owned();
    for (name, part) in ["{x}", "{y}", "{z}"].iter().zip(parts) {
        text = text.replace(name, part);
    }
    text
}

/// One of several forms, filled in.
pub(super) fn say(dice: &mut Dice, forms: &[&str], parts: [&str; 3]) -> String {
    fill(forms[dice.below(forms.len())], parts)
}

/// With its first letter as a capital.
pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// "a star", "an orange star".
pub(super) fn with_article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// What the person knows of a thing: its shape, its colour, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub shape: Option<Shape>,
    pub colour: Option<Colour>,
}

impl From<Combination> for Known {
    fn from(one: Combination) -> Self {
        Self {
            shape: Some(one.shape),
            colour: Some(one.colour),
        }
    }
}

impl From<Shape> for Known {
    fn from(shape: Shape) -> Self {
        Self {
            shape: Some(shape),
            colour: None,
        }
    }
}

impl From<Colour> for Known {
    fn from(colour: Colour) -> Self {
        Self {
            shape: None,
            colour: Some(colour),
        }
    }
}

impl Known {
    /// "red star", "star", "red shape", "shape".
    pub fn name(self) -> String {
        self.words(self.shape.map_or("shape", Shape::name))
    }

    /// "red stars", "stars", "red shapes", "shapes".
    pub fn plural(self) -> String {
        self.words(self.shape.map_or("shapes", Shape::plural))
    }

    fn words(self, noun: &str) -> String {
        match self.colour {
            Some(colour) => format!("{colour} {noun}"),
            None => noun.to_owned(),
        }
    }

    /// The one it means.
    pub fn only(self, scene: &Scene) -> Option<&Object> {
        scene.only(self.shape, self.colour)
    }

    /// How many it means.
    pub fn count(self, scene: &Scene) -> usize {
        scene.count(self.shape, self.colour)
    }
}

/// The two spellings of one word, as people have them.
fn spelling(text: String, dice: &mut Dice) -> String {
    if dice.percent(35) {
        text.replace("colour", "color")
    } else {
        text
    }
}

fn absent(name: &str, dice: &mut Dice) -> String {
    let forms = [
        "There is no {x} in the picture.",
        "None: there is no {x}.",
        "I see no {x} here.",
    ];
    say(dice, &forms, [name, "", ""])
}

/// What colour a shape has; `None` where there are several of it.
pub(super) fn colour(scene: &Scene, shape: Shape, dice: &mut Dice) -> Option<Question> {
    let name = shape.name();
    let forms = [
        "What colour is the {x}?",
        "Which colour does the {x} have?",
        "What is the colour of the {x}?",
        "Tell me the colour of the {x}.",
        "The {x} is of what colour?",
    ];
    let text = spelling(say(dice, &forms, [name, "", ""]), dice);
    let (short, long) = match scene.find(Some(shape), None).count() {
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
pub(super) fn shape(scene: &Scene, colour: Colour, dice: &mut Dice) -> Option<Question> {
    let forms = [
        "What shape is {x}?",
        "Which shape is {x}?",
        "What is the {x} shape?",
        "What shape is the {x} object?",
        "Name the shape that is {x}.",
    ];
    let text = say(dice, &forms, [colour.name(), "", ""]);
    let (short, long) = match scene.find(None, Some(colour)).count() {
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

fn yes_or_no(yes: bool, text: String, there_is: String, dice: &mut Dice) -> Question {
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

/// Whether something is there.
pub(super) fn presence(scene: &Scene, known: Known, dice: &mut Dice) -> Question {
    let name = with_article(&known.name());
    let forms = [
        "Is there {x}?",
        "Is there {x} in the picture?",
        "Do you see {x}?",
        "Can you see {x} here?",
        "Does the picture show {x}?",
    ];
    let text = say(dice, &forms, [&name, "", ""]);
    yes_or_no(known.count(scene) > 0, text, name, dice)
}

/// Whether a number, or a word, is written there.
pub(super) fn written(scene: &Scene, number: bool, dice: &mut Dice) -> Question {
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

/// How many there are.
pub(super) fn count(scene: &Scene, known: Known, dice: &mut Dice) -> Question {
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

/// Where something is; `None` where there are several of it, or its place is not clear.
pub(super) fn position(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
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

/// Which number is written.
pub(super) fn number(scene: &Scene, dice: &mut Dice) -> Question {
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
pub(super) fn word(scene: &Scene, dice: &mut Dice) -> Question {
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
        choices: super::WORDS.len() + 1,
    }
}

/// What colour the number, or the word, is written in; `None` where there is none.
pub(super) fn letters_colour(scene: &Scene, number: bool, dice: &mut Dice) -> Option<Question> {
    let found = if number { scene.number() } else { scene.word() };
    let name = if number { "number" } else { "word" };
    let forms = [
        "What colour is the {x}?",
        "In what colour is the {x} written?",
    ];
    let colour = found?.colour.name();
    Some(Question {
        kind: QuestionKind::Colour,
        text: spelling(say(dice, &forms, [name, "", ""]), dice),
        short: colour.to_owned(),
        long: say(dice, &["The {x} is {y}.", "It is {y}."], [name, colour, ""]),
        choices: Colour::ALL.len(),
    })
}

/// Which of two is larger, or smaller; `None` where either is not the only one, or both have one
/// size.
pub(super) fn larger(
    scene: &Scene,
    [a, b]: [Combination; 2],
    larger: bool,
    dice: &mut Dice,
) -> Option<Question> {
    let one = Known::from(a).only(scene)?;
    let other = Known::from(b).only(scene)?;
    if one.size == other.size {
        return None;
    }
    let wanted = if larger { Size::Large } else { Size::Small };
    let answer = if one.size == wanted { a } else { b }.to_string();
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
        text: say(dice, &forms, [&a.to_string(), &b.to_string(), word]),
        short: answer,
        long,
        choices: 2,
    })
}

/// Whether there are more of one than of the other, fewer, or as many.
pub(super) fn more(scene: &Scene, a: Known, b: Known, dice: &mut Dice) -> Question {
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

/// Whether something is large or small; `None` where it is not the only one.
pub(super) fn size(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
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

/// On which side of `b` there is `a`; `None` where either is not the only one, or that is not clear.
pub(super) fn relation(
    scene: &Scene,
    [a, b]: [Combination; 2],
    dice: &mut Dice,
) -> Option<Question> {
    let one = Known::from(a).only(scene)?;
    let other = Known::from(b).only(scene)?;
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
    let (one, other) = (a.to_string(), b.to_string());
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

/// How something is patterned; `None` where there are several of it, or it is too small to tell.
pub(super) fn texture(scene: &Scene, known: Known, dice: &mut Dice) -> Option<Question> {
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
