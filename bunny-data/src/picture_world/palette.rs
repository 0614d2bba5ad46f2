//! The colours of a picture: those that its things are called by, or others that nobody names.

use super::dice::Dice;
use super::scene::{Background, Scene};
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
    /// Any colours: one for each object, then for each lettering.
    Free(Vec<[f32; 3]>),
}

impl Palette {
    /// Greys in which everything stands out from the background; `None` where none were found.
    pub(super) fn greys(scene: &Scene, dice: &mut Dice) -> Option<Self> {
        const TRIES: usize = 8;
        const STANDS_OUT: f32 = 36.0;
        let (tints, strength) = tints(&scene.background);
        let objects = scene.objects.iter().map(|one| one.colour);
        let letterings = scene.letterings.iter().map(|one| one.colour);
        // A rainbow has all levels.
        let colours: Vec<Colour> = objects
            .chain(letterings)
            .filter(|colour| *colour != Colour::Rainbow)
            .collect();
        (0..TRIES).find_map(|_| {
            let shares = [0; 3].map(|_| dice.real(0.0, 1.0));
            let sum = shares.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            let shares = shares.map(|share| share / sum);
            let [one, other] = tints.map(|tint| level(tint, shares));
            let low = one.min(other) - strength / 2.0 - STANDS_OUT;
            let high = one.max(other) + strength / 2.0 + STANDS_OUT;
            let out = |colour: &Colour| !(low..=high).contains(&level(colour.rgb(), shares));
            colours.iter().all(out).then_some(Self::Greys(shares))
        })
    }

    /// Colours that stand out from the background and from each other, and in which no object looks
    /// like a combination that training must not show; `None` where none were found.
    pub(super) fn free(scene: &Scene, dice: &mut Dice) -> Option<Self> {
        const TRIES: usize = 40;
        const APART: f32 = 60.0;
        let (tints, strength) = tints(&scene.background);
        let objects = scene.objects.iter().map(|object| Some(object.shape));
        let letterings = scene.letterings.iter().map(|_| None);
        let mut colours: Vec<Rgb> = Vec::new();
        for shape in objects.chain(letterings) {
            let colour = (0..TRIES).find_map(|_| {
                let colour = [0; 3].map(|_| dice.real(6.0, 250.0));
                let is_clear = tints
                    .iter()
                    .all(|tint| distance(*tint, colour) > APART + strength)
                    && colours.iter().all(|other| distance(*other, colour) > APART)
                    && shape.is_none_or(|shape| !resembles_held_out(shape, colour));
                is_clear.then_some(colour)
            })?;
            colours.push(colour);
        }
        Some(Self::Free(colours))
    }
}

/// Whether a shape of a colour may be taken for a combination that only the test has: no other colour
/// that has a name is nearer by a quarter.
fn resembles_held_out(shape: Shape, colour: Rgb) -> bool {
    let named = || {
        Colour::ALL
            .iter()
            .copied()
            .filter(|one| *one != Colour::Rainbow)
    };
    let is_held_out = |colour| Combination { colour, shape }.is_held_out();
    let nearest = |held_out: bool| {
        named()
            .filter(|one| is_held_out(*one) == held_out)
            .map(|one| distance(one.rgb(), colour))
            .fold(f32::INFINITY, f32::min)
    };
    nearest(true) < 1.25 * nearest(false)
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

fn distance(one: Rgb, other: Rgb) -> f32 {
    let squares = (0..3).map(|channel| (one[channel] - other[channel]).powi(2));
    squares.sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::{Part, talk};
    use super::*;

    #[test]
    fn free_colours_never_look_like_what_is_held_out() {
        let mut shown = 0;
        for index in 0..2000 {
            let (scene, _) = talk::about_picture(&mut Part::Conversations.dice(5, index));
            let Palette::Free(colours) = &scene.palette else {
                continue;
            };
            assert_eq!(colours.len(), scene.objects.len() + scene.letterings.len());
            for (object, colour) in scene.objects.iter().zip(colours) {
                let named = Colour::ALL.iter().filter(|one| **one != Colour::Rainbow);
                let nearest = named
                    .min_by(|a, b| {
                        distance(a.rgb(), *colour).total_cmp(&distance(b.rgb(), *colour))
                    })
                    .unwrap();
                let combination = Combination {
                    colour: *nearest,
                    shape: object.shape,
                };
                assert!(!combination.is_held_out(), "{combination} in {colour:?}");
                shown += 1;
            }
        }
        // Some four pictures of ten, of two objects or more.
        assert!(shown > 1000, "{shown}");
    }
}
