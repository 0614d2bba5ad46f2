//! Questions about a scene, and their answers, which follow from its truth alone.

mod amounts;
mod attributes;
mod halves;
mod known;
mod pairs;
mod writing;

use super::dice::Dice;
use super::vocabulary::named;

pub(super) use amounts::{count, more, presence};
pub(super) use attributes::{colour, position, shape, shape_at, size, texture};
pub(super) use halves::halves;
pub(super) use known::Known;
pub(super) use pairs::{larger, relation};
pub(super) use writing::{letters_colour, number, word, written};

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
        // "One word" would be wrong of some answers, and must not tell which they are.
        let several = matches!(self.kind, QuestionKind::Position | QuestionKind::Compare)
            || self.short.contains(" and ");
        let from = usize::from(several);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture_world::palette::Palette;
    use crate::picture_world::scene::{Background, Font, Lettering, Object, Scene};
    use crate::picture_world::vocabulary::{Colour, Combination, Place, Shape, Size, Texture};

    /// ```text
    /// red star (small)                 large striped blue circle
    ///
    ///           small yellow circle
    ///
    /// red ring (small)                 "42" in green
    /// ```
    fn scene() -> Scene {
        let object = |shape, colour, size, texture, centre| Object {
            shape,
            colour,
            shade: [0.0; 3],
            texture,
            size,
            centre,
            radius: if size == Size::Large { 0.17 } else { 0.08 },
            tilt: 0.0,
            hue: 0.0,
        };
        use {Colour::*, Shape::*, Size::*, Texture::*};
        Scene {
            aspect: 1.0,
            background: Background::Plain([128.0; 3]),
            objects: vec![
                object(Star, Red, Small, Plain, [0.15, 0.15]),
                object(Circle, Blue, Large, Striped, [0.8, 0.2]),
                object(Circle, Yellow, Small, Plain, [0.45, 0.5]),
                object(Ring, Red, Small, Plain, [0.15, 0.85]),
            ],
            letterings: vec![Lettering {
                text: "42".to_owned(),
                colour: Green,
                shade: [0.0; 3],
                font: Font::Bold,
                centre: [0.75, 0.85],
                height: 0.2,
            }],
            palette: Palette::Named,
        }
    }

    fn both(colour: Colour, shape: Shape) -> Known {
        Combination { colour, shape }.into()
    }

    #[test]
    fn answers_follow_from_the_scene() {
        let (scene, mut dice) = (scene(), Dice::new(&[1]));
        let dice = &mut dice;
        let short = |question: Option<Question>| question.map(|question| question.short);
        let answer = |text: &str| Some(text.to_owned());
        assert_eq!(short(colour(&scene, Shape::Star, dice)), answer("red"));
        assert_eq!(short(colour(&scene, Shape::Heart, dice)), answer("none"));
        assert_eq!(
            short(colour(&scene, Shape::Circle, dice)),
            None,
            "there are two"
        );
        assert_eq!(short(shape(&scene, Colour::Blue, dice)), answer("circle"));
        assert_eq!(
            short(shape(&scene, Colour::Red, dice)),
            None,
            "there are two"
        );
        assert_eq!(short(shape(&scene, Colour::Green, dice)), answer("none"));
        for (known, here, several) in [
            (Known::from(Shape::Circle), "yes", "2"),
            (Known::from(Colour::Red), "yes", "2"),
            (both(Colour::Red, Shape::Star), "yes", "1"),
            (both(Colour::Blue, Shape::Star), "no", "0"),
            (Known::ANY, "yes", "4"),
        ] {
            assert_eq!(presence(&scene, known, dice).short, here);
            assert_eq!(count(&scene, known, dice).short, several);
        }
        for (colour, shape, place) in [
            (Colour::Red, Shape::Star, "top left"),
            (Colour::Blue, Shape::Circle, "top right"),
            (Colour::Yellow, Shape::Circle, "middle"),
            (Colour::Red, Shape::Ring, "bottom left"),
            (Colour::White, Shape::Ring, "none"),
        ] {
            let known = both(colour, shape);
            assert_eq!(short(position(&scene, known, dice)), answer(place));
        }
        assert_eq!(number(&scene, dice).short, "42");
        assert_eq!(word(&scene, dice).short, "none");
        assert_eq!(short(letters_colour(&scene, true, dice)), answer("green"));
        assert_eq!(short(letters_colour(&scene, false, dice)), None);
        assert_eq!(written(&scene, true, dice).short, "yes");
        assert_eq!(written(&scene, false, dice).short, "no");
    }

    #[test]
    fn comparisons_follow_from_the_scene() {
        let (scene, mut dice) = (scene(), Dice::new(&[2]));
        let dice = &mut dice;
        let short = |question: Option<Question>| question.map(|question| question.short);
        let answer = |text: &str| Some(text.to_owned());
        let star = both(Colour::Red, Shape::Star);
        let circle = both(Colour::Blue, Shape::Circle);
        let ring = both(Colour::Red, Shape::Ring);
        assert_eq!(
            short(larger(&scene, [star, circle], true, dice)),
            answer("blue circle")
        );
        assert_eq!(
            short(larger(&scene, [star, circle], false, dice)),
            answer("red star")
        );
        assert_eq!(
            short(larger(&scene, [star, ring], true, dice)),
            None,
            "of one size"
        );
        let (circles, stars, rings) =
            (Shape::Circle.into(), Shape::Star.into(), Shape::Ring.into());
        assert_eq!(more(&scene, circles, stars, dice).short, "more");
        assert_eq!(more(&scene, stars, circles, dice).short, "fewer");
        assert_eq!(more(&scene, rings, stars, dice).short, "equal");
        assert_eq!(
            short(relation(&scene, [star, circle], dice)),
            answer("left")
        );
        assert_eq!(
            short(relation(&scene, [circle, star], dice)),
            answer("right")
        );
        assert_eq!(short(relation(&scene, [star, ring], dice)), answer("above"));
        assert_eq!(short(relation(&scene, [ring, star], dice)), answer("below"));
        assert_eq!(short(texture(&scene, circle, dice)), answer("striped"));
        assert_eq!(
            short(texture(&scene, star, dice)),
            None,
            "too small to tell"
        );
        assert_eq!(short(size(&scene, circle, dice)), answer("large"));
        assert_eq!(
            short(size(&scene, Shape::Circle.into(), dice)),
            None,
            "there are two"
        );
    }

    #[test]
    fn a_trait_more_tells_things_apart() {
        let scene = scene();
        let large = Known {
            size: Some(Size::Large),
            ..Shape::Circle.into()
        };
        assert_eq!(large.name(), "large circle");
        assert_eq!(large.plural(), "large circles");
        assert_eq!(large.count(&scene), 1);
        assert_eq!(large.only(&scene).unwrap().colour, Colour::Blue);
        let at = |place| Known {
            place: Some(place),
            ..both(Colour::Red, Shape::Ring)
        };
        assert_eq!(at(Place::BottomLeft).name(), "red ring at the bottom left");
        assert_eq!(at(Place::BottomLeft).count(&scene), 1);
        assert_eq!(at(Place::TopLeft).count(&scene), 0);
        assert!(at(Place::TopLeft).is_clear(&scene));
        // The circle in the middle is small, that on the right large.
        let striped = |known: Known| Known {
            texture: Some(Texture::Striped),
            ..known
        };
        assert!(!striped(Shape::Circle.into()).is_clear(&scene));
        assert!(striped(Colour::Blue.into()).is_clear(&scene));
        assert_eq!(striped(Colour::Blue.into()).count(&scene), 1);
    }

    #[test]
    fn no_form_is_left_unfilled() {
        let scene = scene();
        for seed in 0..200 {
            let dice = &mut Dice::new(&[seed]);
            let star = both(Colour::Red, Shape::Star);
            let circle = both(Colour::Blue, Shape::Circle);
            let questions = [
                colour(&scene, Shape::Star, dice),
                shape(&scene, Colour::Blue, dice),
                Some(presence(&scene, star, dice)),
                Some(count(&scene, star, dice)),
                position(&scene, star, dice),
                Some(number(&scene, dice)),
                Some(word(&scene, dice)),
                larger(&scene, [star, circle], true, dice),
                Some(more(&scene, star, circle, dice)),
                relation(&scene, [star, circle], dice),
                texture(&scene, circle, dice),
                size(&scene, star, dice),
            ];
            for question in questions {
                let question = question.unwrap();
                for text in [question.brief(dice), question.short, question.long] {
                    assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
                }
            }
        }
    }
}
