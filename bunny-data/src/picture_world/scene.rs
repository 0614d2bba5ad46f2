//! The truth of a picture: what is in it, and where.

use super::palette::{Palette, Rgb};
use super::vocabulary::{Colour, Combination, Place, Shape, Size, Texture};

/// Everything in a picture, and nothing of how it was photographed.
///
/// Centres are fractions of width and height; lengths are fractions of the longer side.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Width over height.
    pub aspect: f32,
    /// What everything stands on.
    pub background: Background,
    /// The shapes, the one behind first.
    pub objects: Vec<Object>,
    /// Numbers and words, before all shapes.
    pub letterings: Vec<Lettering>,
    /// The colours that all of it has.
    pub palette: Palette,
}

/// A shape in a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Its form.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Levels by which it is off from that colour's usual ones; a rainbow has none.
    pub shade: [f32; 3],
    /// Its pattern.
    pub texture: Texture,
    /// Whether it is large or small.
    pub size: Size,
    /// Its centre.
    pub centre: [f32; 2],
    /// From its centre to its farthest edge.
    pub radius: f32,
    /// The tangent of half the angle by which it is turned.
    pub tilt: f32,
    /// Where its hues begin, from 0 to 1, when it is a rainbow.
    pub hue: f32,
}

impl Object {
    /// Colour and shape.
    pub fn combination(&self) -> Combination {
        Combination {
            colour: self.colour,
            shape: self.shape,
        }
    }

    /// Levels of red, green and blue.
    pub(super) fn rgb(&self) -> Rgb {
        self.colour.shaded(self.shade)
    }

    /// Where it is, if that is clear.
    pub fn place(&self) -> Option<Place> {
        Place::of(self.centre)
    }
}

/// A number or a word in a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct Lettering {
    /// What is written: digits, or a word of [`WORDS`](super::WORDS).
    pub text: String,
    /// In which colour.
    pub colour: Colour,
    /// Levels by which it is off from that colour's usual ones.
    pub shade: [f32; 3],
    /// In which letters.
    pub font: Font,
    /// Its centre.
    pub centre: [f32; 2],
    /// The height of its letters.
    pub height: f32,
}

impl Lettering {
    /// Levels of red, green and blue.
    pub(super) fn rgb(&self) -> Rgb {
        self.colour.shaded(self.shade)
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        self.text.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// How letters are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Font {
    /// Fine strokes.
    Thin,
    /// Heavy strokes.
    Bold,
    /// Strokes with feet.
    Slab,
    /// Strokes that lean to the right.
    Slanted,
    /// Five by seven squares.
    Pixel,
}

impl Font {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Thin,
        Self::Bold,
        Self::Slab,
        Self::Slanted,
        Self::Pixel,
    ];
}

/// What everything stands on: greys and pale tints, which no object is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Background {
    /// One tint.
    Plain([f32; 3]),
    /// From one tint to another, along a direction.
    Gradient([f32; 3], [f32; 3], [f32; 2]),
    /// A tint with soft clouds.
    Clouds {
        /// The tint between the clouds' lightest and darkest.
        tint: [f32; 3],
        /// Levels between those two.
        strength: f32,
        /// How many clouds fit across.
        across: u32,
        /// Seeds their forms.
        seed: u64,
    },
}

impl Scene {
    /// Whether things have the colours that they are called by.
    pub fn has_colours(&self) -> bool {
        self.palette == Palette::Named
    }

    /// The centres of all that is in it.
    pub fn centres(&self) -> impl Iterator<Item = [f32; 2]> {
        let letterings = self.letterings.iter().map(|one| one.centre);
        self.objects.iter().map(|one| one.centre).chain(letterings)
    }

    /// The number that is written.
    pub fn number(&self) -> Option<&Lettering> {
        self.letterings.iter().find(|one| one.is_number())
    }

    /// The word that is written.
    pub fn word(&self) -> Option<&Lettering> {
        self.letterings.iter().find(|one| !one.is_number())
    }

    /// How many there are of each colour and shape, in the order in which they are met.
    pub fn groups(&self) -> Vec<(Combination, usize)> {
        let mut groups: Vec<(Combination, usize)> = Vec::new();
        for object in &self.objects {
            let combination = object.combination();
            match groups.iter_mut().find(|(one, _)| *one == combination) {
                Some((_, count)) => *count += 1,
                None => groups.push((combination, 1)),
            }
        }
        groups
    }

    /// Whether `a` is clearly to the left of `b`.
    pub fn left_of(&self, a: &Object, b: &Object) -> bool {
        let [x, y] = self.apart(a, b);
        x > CLEARLY && x > y.abs()
    }

    /// Whether `a` is clearly above `b`.
    pub fn above(&self, a: &Object, b: &Object) -> bool {
        let [x, y] = self.apart(a, b);
        y > CLEARLY && y > x.abs()
    }

    /// From the centre of `a` to that of `b`, in fractions of the picture.
    fn apart(&self, a: &Object, b: &Object) -> [f32; 2] {
        [b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]]
    }
}

/// How much of the picture lies between two things of which one is clearly left of the other.
const CLEARLY: f32 = 0.15;
