//! What there is in the world, and what it is called.

use bunny_base::random::mix_all;

/// Gives an enum the list of its values, their names, and serde's words for them.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($(#[$value_doc:meta])* $value:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $kind {
            $($(#[$value_doc])* $value),+
        }

        impl $kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The word for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The form of an object.
    Shape {
        /// A disc.
        Circle = "circle",
        /// A square that stands on a side.
        Square = "square",
        /// A triangle that stands on a side.
        Triangle = "triangle",
        /// A star of five points.
        Star = "star",
        /// A rhombus that stands on a corner, higher than wide.
        Diamond = "diamond",
        /// A cross of four equal arms.
        Cross = "cross",
        /// A disc with a hole.
        Ring = "ring",
        /// A heart.
        Heart = "heart",
    }
}

impl Shape {
    /// The word for several.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Star => "stars",
            Self::Diamond => "diamonds",
            Self::Cross => "crosses",
            Self::Ring => "rings",
            Self::Heart => "hearts",
        }
    }
}

named! {
    /// The colour of an object or of letters.
    Colour {
        /// Red.
        Red = "red",
        /// Orange.
        Orange = "orange",
        /// Yellow.
        Yellow = "yellow",
        /// Green.
        Green = "green",
        /// Blue.
        Blue = "blue",
        /// Purple.
        Purple = "purple",
        /// Black.
        Black = "black",
        /// White.
        White = "white",
        /// Pink.
        Pink = "pink",
        /// Brown.
        Brown = "brown",
        /// Turquoise.
        Turquoise = "turquoise",
        /// From one hue to another, over most of the circle.
        Rainbow = "rainbow",
    }
}

named! {
    /// How the surface of an object is patterned.
    Texture {
        /// One colour.
        Plain = "plain",
        /// Stripes through which the background shines.
        Striped = "striped",
        /// Dots through which the background shines.
        Dotted = "dotted",
        /// One colour with a black or white border.
        Outlined = "outlined",
    }
}

named! {
    /// How large an object is.
    Size {
        /// 26 to 32 of 112 pixels across.
        Small = "small",
        /// 44 to 54 of 112 pixels across.
        Large = "large",
    }
}

named! {
    /// Where in the picture something is: its thirds, across and down.
    Place {
        /// The upper left third.
        TopLeft = "top left",
        /// The upper middle third.
        Top = "top",
        /// The upper right third.
        TopRight = "top right",
        /// The left middle third.
        Left = "left",
        /// The middle.
        Middle = "middle",
        /// The right middle third.
        Right = "right",
        /// The lower left third.
        BottomLeft = "bottom left",
        /// The lower middle third.
        Bottom = "bottom",
        /// The lower right third.
        BottomRight = "bottom right",
    }
}

/// How far from the border between two thirds a centre must be to be clearly in one of them.
const CLEAR: f32 = 0.035;

/// How far beyond the border of a third something may still be said to be in it.
const NEAR: f32 = 0.1;

impl Place {
    /// The place of a centre, given in fractions of the picture, where it is clear.
    pub fn of([x, y]: [f32; 2]) -> Option<Self> {
        let third = |at: f32| {
            let third = ((at * 3.0) as usize).min(2);
            let clear = [1.0 / 3.0, 2.0 / 3.0]
                .iter()
                .all(|border| (at - border).abs() >= CLEAR);
            clear.then_some(third)
        };
        Some(Self::ALL[third(y)? * 3 + third(x)?])
    }

    /// The ranges of `x` and `y` in which a centre is clearly here.
    pub(crate) fn range(self) -> [[f32; 2]; 2] {
        let third = |at: usize| {
            let (low, high) = (at as f32 / 3.0, (at + 1) as f32 / 3.0);
            // A little more than asked for, so that rounding does not matter.
            [low + CLEAR + 0.002, high - CLEAR - 0.002]
        };
        [third(self as usize % 3), third(self as usize / 3)]
    }

    /// Whether a centre is here, or so near to it that one could say so.
    pub(super) fn is_near(self, [x, y]: [f32; 2]) -> bool {
        let near = |at: f32, third: usize| {
            let low = third as f32 / 3.0;
            (low - NEAR..low + 1.0 / 3.0 + NEAR).contains(&at)
        };
        near(x, self as usize % 3) && near(y, self as usize / 3)
    }

    /// The words that follow "is".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::TopLeft => "at the top left",
            Self::Top => "at the top",
            Self::TopRight => "at the top right",
            Self::Left => "on the left",
            Self::Middle => "in the middle",
            Self::Right => "on the right",
            Self::BottomLeft => "at the bottom left",
            Self::Bottom => "at the bottom",
            Self::BottomRight => "at the bottom right",
        }
    }
}

/// A shape in a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Combination {
    /// The colour.
    pub colour: Colour,
    /// The shape.
    pub shape: Shape,
}

impl std::fmt::Display for Combination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.colour, self.shape)
    }
}

impl Combination {
    /// All 96.
    pub fn all() -> impl Iterator<Item = Self> {
        Shape::ALL.iter().flat_map(|&shape| {
            Colour::ALL
                .iter()
                .map(move |&colour| Self { colour, shape })
        })
    }

    /// Whether training never sees it: one shape of every colour but rainbow, 11 of the 96; of every
    /// shape one colour or two. All shapes are seen as rainbows, so that a shape in some hue is nothing
    /// unheard of.
    pub fn is_held_out(self) -> bool {
        let at = 5 * self.shape as usize + 3 * self.colour as usize;
        self.colour != Colour::Rainbow && at % Shape::ALL.len() == 7
    }
}

/// Which of the two worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum World {
    /// What is learned from: no combination and no number that is held out.
    Train,
    /// What is asked about: every question is about a held-out combination, or beside one.
    Test,
}

impl World {
    /// Whether such an object may stand in a picture.
    pub fn has(self, combination: Combination) -> bool {
        self == Self::Test || !combination.is_held_out()
    }

    /// What questions are about.
    pub(crate) fn subjects(self) -> impl Iterator<Item = Combination> {
        Combination::all().filter(move |one| one.is_held_out() == (self == Self::Test))
    }

    /// Whether a number may be written in a picture. Of the numbers of two and three digits, a
    /// sixth is held out, and the test asks about those alone; single digits are in both worlds.
    pub fn has_number(self, number: usize) -> bool {
        number < 10 || number_is_held_out(number) == (self == Self::Test)
    }
}

fn number_is_held_out(number: usize) -> bool {
    mix_all(&[0x4E55_4D42, number as u64]).is_multiple_of(6)
}

/// Words that may be written in a picture, none longer than five letters.
pub const WORDS: &[&str] = &[
    "apple", "bird", "blue", "bus", "cat", "dog", "fish", "hat", "house", "key", "milk", "moon",
    "red", "ship", "sun", "zoo",
];

const UNITS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// The word for a number up to twenty; digits beyond.
pub(crate) fn number_word(number: usize) -> String {
    UNITS
        .get(number)
        .map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// The number that a word up to "twenty" stands for.
pub(crate) fn word_number(word: &str) -> Option<usize> {
    UNITS.iter().position(|unit| *unit == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shape_of_every_colour_is_held_out_and_of_every_shape_one_colour_or_two() {
        let held: Vec<Combination> = World::Test.subjects().collect();
        assert_eq!(held.len(), 11);
        assert_eq!(World::Train.subjects().count(), 85);
        for shape in Shape::ALL {
            let count = held.iter().filter(|one| one.shape == *shape).count();
            assert!((1..=2).contains(&count), "{shape}: {count}");
        }
        for colour in Colour::ALL {
            let count = held.iter().filter(|one| one.colour == *colour).count();
            assert_eq!(count, usize::from(*colour != Colour::Rainbow), "{colour}");
        }
    }

    #[test]
    fn about_a_sixth_of_longer_numbers_is_held_out() {
        let held = (10..1000).filter(|n| !World::Train.has_number(*n)).count();
        assert!((140..190).contains(&held), "{held} of 990");
        assert!((0..10).all(|n| World::Train.has_number(n) && World::Test.has_number(n)));
    }

    #[test]
    fn a_centre_in_the_range_of_a_place_is_there() {
        for place in Place::ALL {
            let [[x0, x1], [y0, y1]] = place.range();
            for centre in [[x0, y0], [x0, y1], [x1, y0], [x1, y1]] {
                assert_eq!(Place::of(centre), Some(*place));
            }
        }
        assert_eq!(Place::of([0.34, 0.5]), None, "near a border");
    }
}
