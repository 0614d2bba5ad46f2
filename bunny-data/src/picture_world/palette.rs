//! The colours of a picture: those that its things are called by, or others that nobody names.

use super::dice::Dice;
use super::scene::{Background, Lettering, Object, Scene};
use super::vocabulary::{Colour, Combination, Shape};

/// Levels of red, green and blue.
pub(super) type Rgb = [f32; 3];

/// The colours of a picture. Nothing that is said of one without named colours names any, so that
/// shapes have to be known by their form.
#[derive(Clone, Debug, PartialEq)]
pub enum Palette {
    /// Everything has the colour that it is called by.
    Named,
    /// Black and white, as through a filter of some colour before the lens: how much of red, green and
    /// blue is in its greys, 1 together.
    Greys([f32; 3]),
    /// Any colours: one or two for each object, then for each lettering.
    Free(Vec<Fill>),
    /// Two colours with names for each object; letterings have the colours that they are called by.
    Halves(Vec<Halves>),
}

/// A thing that has one colour on one side and another on the other, both with names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Halves {
    /// What the colours are called.
    pub names: [Colour; 2],
    /// How the thing is filled with them.
    pub fill: Fill,
}

/// What fills a thing: a colour, or two that meet along a line through it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// On one side, and on the other.
    pub colours: [[f32; 3]; 2],
    /// Across the line, of unit length.
    pub across: [f32; 2],
    /// From the thing's centre to the line, in its radii.
    pub offset: f32,
    /// How wide the band is in which one becomes the other, in radii; 0 for an edge.
    pub blend: f32,
}

impl Fill {
    /// A single colour.
    pub(super) const fn plain(colour: Rgb) -> Self {
        Self {
            colours: [colour; 2],
            across: [1.0, 0.0],
            offset: 0.0,
            blend: 0.0,
        }
    }

    /// Whether there are two colours.
    pub fn is_parted(&self) -> bool {
        self.colours[0] != self.colours[1]
    }

    /// The colour at a point that is given in radii, of which a pixel has the size `pixel`.
    pub(super) fn at(&self, [x, y]: [f32; 2], pixel: f32) -> Rgb {
        let from = x * self.across[0] + y * self.across[1] - self.offset;
        let share = (0.5 + from / self.blend.max(pixel)).clamp(0.0, 1.0);
        mix(self.colours[0], self.colours[1], share)
    }

    /// Of what is between its two colours.
    pub(super) fn middle(&self) -> Rgb {
        mix(self.colours[0], self.colours[1], 0.5)
    }
}

impl Palette {
    /// Greys in which everything stands out from the background; `None` where none were found.
    pub(super) fn greys(scene: &Scene, dice: &mut Dice) -> Option<Self> {
        const TRIES: usize = 8;
        const STANDS_OUT: f32 = 36.0;
        let (tints, strength) = tints(&scene.background);
        let objects = scene.objects.iter();
        // A rainbow has all levels.
        let objects = objects.filter(|one| one.colour != Colour::Rainbow);
        let letterings = scene.letterings.iter().map(Lettering::rgb);
        let colours: Vec<Rgb> = objects.map(Object::rgb).chain(letterings).collect();
        (0..TRIES).find_map(|_| {
            let shares = [0; 3].map(|_| dice.real(0.0, 1.0));
            let sum = shares.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            let shares = shares.map(|share| share / sum);
            let [one, other] = tints.map(|tint| level(tint, shares));
            let low = one.min(other) - strength / 2.0 - STANDS_OUT;
            let high = one.max(other) + strength / 2.0 + STANDS_OUT;
            let out = |colour: &Rgb| !(low..=high).contains(&level(*colour, shares));
            colours.iter().all(out).then_some(Self::Greys(shares))
        })
    }

    /// Two colours for each object, which do not run into each other; `None` where there are no objects.
    ///
    /// Any colour may be a half of any shape, with another that the shape may have alone in training:
    /// so which shapes a colour goes with tells nothing.
    pub(super) fn halves(scene: &Scene, dice: &mut Dice) -> Option<Self> {
        let one_of_two = |shape: Shape, dice: &mut Dice| loop {
            let names = [0; 2].map(|_| *dice.pick(Colour::ALL));
            let [one, other] = names.map(Colour::rgb);
            let is_known = |colour: &Colour| {
                !Combination {
                    colour: *colour,
                    shape,
                }
                .is_held_out()
            };
            if !names.contains(&Colour::Rainbow)
                && distance(one, other) > 2.0 * APART
                && names.iter().any(is_known)
            {
                return names;
            }
        };
        let mut halves = Vec::with_capacity(scene.objects.len());
        for object in &scene.objects {
            let names = one_of_two(object.shape, dice);
            let fill = Fill {
                colours: names.map(|name| name.shaded(shade(dice))),
                across: direction(dice),
                offset: dice.real(-0.15, 0.15),
                blend: 0.0,
            };
            halves.push(Halves { names, fill });
        }
        (!halves.is_empty()).then_some(Self::Halves(halves))
    }

    /// What fills objects, and then letterings, where it is not what they are called.
    pub(super) fn fills(&self) -> impl Iterator<Item = &Fill> {
        let (free, halves): (&[Fill], &[Halves]) = match self {
            Self::Named | Self::Greys(_) => (&[], &[]),
            Self::Free(fills) => (fills, &[]),
            Self::Halves(halves) => (&[], halves),
        };
        free.iter().chain(halves.iter().map(|one| &one.fill))
    }

    /// Colours that stand out from the background and from each other; `None` where none were found.
    ///
    /// Six things of ten have two, which says that a shape has nothing to do with a colour. Those may
    /// be any; one alone never makes a combination that training must not show.
    pub(super) fn free(scene: &Scene, dice: &mut Dice) -> Option<Self> {
        const TRIES: usize = 40;
        let (tints, strength) = tints(&scene.background);
        let stands_out = |colour: Rgb| {
            let far = |tint: &Rgb| distance(*tint, colour) > APART + strength;
            tints.iter().all(far)
        };
        let objects = scene.objects.iter().map(|object| Some(object.shape));
        let letterings = scene.letterings.iter().map(|_| None);
        let mut fills: Vec<Fill> = Vec::new();
        for shape in objects.chain(letterings) {
            let is_parted = dice.percent(60);
            let fill = (0..TRIES).find_map(|_| {
                let fill = match is_parted {
                    true => two_colours(dice),
                    false => Fill::plain(any_colour(dice)),
                };
                let [one, other] = fill.colours;
                let is_clear = stands_out(one)
                    && stands_out(other)
                    && (fill.blend == 0.0 || stands_out(fill.middle()))
                    && fills
                        .iter()
                        .all(|fill| distance(fill.middle(), mix(one, other, 0.5)) > APART);
                let may_be = match is_parted {
                    true => distance(one, other) > 2.0 * APART,
                    false => shape.is_none_or(|shape| !is_held_out(shape, one)),
                };
                (is_clear && may_be).then_some(fill)
            })?;
            fills.push(fill);
        }
        Some(Self::Free(fills))
    }
}

/// How far two colours are from each other, at least, that lie side by side.
const APART: f32 = 60.0;

fn any_colour(dice: &mut Dice) -> Rgb {
    [0; 3].map(|_| dice.real(6.0, 250.0))
}

fn two_colours(dice: &mut Dice) -> Fill {
    Fill {
        colours: [0; 2].map(|_| any_colour(dice)),
        across: direction(dice),
        offset: dice.real(-0.3, 0.3),
        blend: match dice.percent(50) {
            true => 0.0,
            false => dice.real(0.3, 1.6),
        },
    }
}

/// Any direction, of unit length.
fn direction(dice: &mut Dice) -> [f32; 2] {
    let [x, y] = [0; 2].map(|_| dice.real(-1.0, 1.0));
    let length = (x * x + y * y).sqrt();
    match length > 0.0 {
        true => [x / length, y / length],
        false => [1.0, 0.0],
    }
}

/// Levels by which a colour is off: no two reds are quite the same.
pub(super) fn shade(dice: &mut Dice) -> Rgb {
    [0; 3].map(|_| dice.real(-14.0, 14.0))
}

/// Whether a shape of a colour would be called by the name of a combination that only the test has.
fn is_held_out(shape: Shape, colour: Rgb) -> bool {
    let named = Colour::ALL
        .iter()
        .copied()
        .filter(|one| *one != Colour::Rainbow);
    let nearest = named.min_by(|a, b| {
        let [a, b] = [a, b].map(|one| distance(one.rgb(), colour));
        a.total_cmp(&b)
    });
    nearest.is_some_and(|colour| Combination { colour, shape }.is_held_out())
}

/// The lightest and the darkest of a background, or its two ends, and how far clouds take it from them.
fn tints(background: &Background) -> ([Rgb; 2], f32) {
    match *background {
        Background::Plain(tint) => ([tint; 2], 0.0),
        Background::Gradient(from, to, _) => ([from, to], 0.0),
        Background::Clouds { tint, strength, .. } => ([tint; 2], strength),
    }
}

/// The grey of a colour.
pub(super) fn level(colour: Rgb, shares: [f32; 3]) -> f32 {
    (0..3)
        .map(|channel| colour[channel] * shares[channel])
        .sum()
}

/// Some of one colour, and `share` of the other.
pub(super) fn mix(one: Rgb, other: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|channel| one[channel] + share * (other[channel] - one[channel]))
}

fn distance(one: Rgb, other: Rgb) -> f32 {
    let squares = (0..3).map(|channel| (one[channel] - other[channel]).powi(2));
    squares.sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::{Part, talk};
    use super::*;

    #[test]
    fn a_free_colour_would_never_make_what_is_held_out() {
        let (mut plain, mut parted) = (0, 0);
        for index in 0..3500 {
            let (scene, _) = talk::about_picture(&mut Part::Conversations.dice(5, index));
            let Palette::Free(fills) = &scene.palette else {
                continue;
            };
            assert_eq!(fills.len(), scene.objects.len() + scene.letterings.len());
            for (object, fill) in scene.objects.iter().zip(fills) {
                let [one, other] = fill.colours;
                if fill.is_parted() {
                    assert!(distance(one, other) > 100.0, "{fill:?}");
                    parted += 1;
                    continue;
                }
                for held_out in Combination::all().filter(|one| one.is_held_out()) {
                    let named = Colour::ALL.iter().filter(|one| **one != Colour::Rainbow);
                    let is_nearest = named
                        .map(|other| distance(other.rgb(), one))
                        .all(|other| distance(held_out.colour.rgb(), one) <= other);
                    assert!(
                        !(is_nearest && object.shape == held_out.shape),
                        "{held_out} in {fill:?}"
                    );
                }
                plain += 1;
            }
        }
        // Some three pictures of ten, of two objects or more.
        assert!(plain > 500 && parted > 800, "{plain} {parted}");
    }

    #[test]
    fn every_colour_is_half_of_every_shape_and_never_all_of_it() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..4000 {
            let (scene, _) = talk::about_picture(&mut Part::Conversations.dice(6, index));
            let Palette::Halves(halves) = &scene.palette else {
                continue;
            };
            assert_eq!(halves.len(), scene.objects.len());
            for (object, Halves { names, fill }) in scene.objects.iter().zip(halves) {
                let combinations = names.map(|colour| Combination {
                    colour,
                    shape: object.shape,
                });
                assert!(!combinations.iter().all(|one| one.is_held_out()));
                assert!(fill.is_parted());
                seen.extend(combinations);
            }
        }
        // All but eight rainbows.
        assert_eq!(seen.len(), 88);
    }

    #[test]
    fn two_colours_meet_along_a_line() {
        let fill = Fill {
            colours: [[0.0; 3], [100.0; 3]],
            across: [0.0, 1.0],
            offset: 0.5,
            blend: 0.4,
        };
        assert_eq!(fill.at([0.9, 0.2], 0.01), [0.0; 3]);
        assert_eq!(fill.at([-0.9, 0.5], 0.01), [50.0; 3]);
        assert_eq!(fill.at([0.0, 0.8], 0.01), [100.0; 3]);
        let edge = Fill { blend: 0.0, ..fill };
        assert_eq!(edge.at([0.0, 0.48], 0.01), [0.0; 3]);
        assert_eq!(edge.at([0.0, 0.52], 0.01), [100.0; 3]);
    }
}
