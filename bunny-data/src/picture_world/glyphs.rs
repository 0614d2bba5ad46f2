//! The skeletons of digits and capital letters, and their designs in five by seven squares.
//!
//! A skeleton is a list of strokes on a grid, `x` from 0 to 6, `y` from 0 at the top to 8 at the
//! foot, each point two digits:
//! ```text
//! -00 08 68    straight lines from point to point
//! ~61 60 00    a curve from the first point to the last, drawn towards those between
//! o00 60 68    a closed curve that the points draw towards themselves
//! ```
//! Curves are quadratic B-splines: between two inner points they pass through the middle.

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(super) type Point = [f32; 2];

/// One letter: its lines, and its squares.
#[derive(Debug)]
pub(super) struct Glyph {
    /// Strokes as chains of points; 6 wide and 8 high.
    pub strokes: Vec<Vec<Point>>,
    /// Ends of straight strokes that stand on the foot or hang from the top: where feet go.
    pub feet: Vec<Point>,
    /// Seven rows of five squares, the leftmost in bit 4.
    pub squares: [u8; 7],
}

/// The skeleton's width and height.
pub(super) const WIDTH: f32 = 6.0;
pub(super) const HEIGHT: f32 = 8.0;

/// The glyph of a digit or a letter; `None` for anything else.
pub(super) fn glyph(character: char) -> Option<&'static Glyph> {
    static GLYPHS: LazyLock<BTreeMap<char, Glyph>> = LazyLock::new(|| {
        let parsed = DESIGNS
            .iter()
            .map(|(character, strokes, squares)| (*character, parse(strokes, *squares)));
        parsed.collect()
    });
    GLYPHS.get(&character.to_ascii_uppercase())
}

fn parse(strokes: &str, squares: [u8; 7]) -> Glyph {
    let mut glyph = Glyph {
        strokes: Vec::new(),
        feet: Vec::new(),
        squares,
    };
    for stroke in strokes.split('/') {
        let (kind, points) = stroke.split_at(1);
        let digit = |byte: u8| f32::from(byte - b'0');
        let points: Vec<Point> = points
            .split(' ')
            .map(|point| [digit(point.as_bytes()[0]), digit(point.as_bytes()[1])])
            .collect();
        glyph.strokes.push(match kind {
            "~" => open_curve(&points),
            "o" => closed_curve(&points),
            _ => {
                let (first, last) = (points[0], points[points.len() - 1]);
                for (end, next) in [(first, points[1]), (last, points[points.len() - 2])] {
                    let upright = (next[1] - end[1]).abs() > (next[0] - end[0]).abs();
                    if upright && (end[1] == 0.0 || end[1] == HEIGHT) {
                        glyph.feet.push(end);
                    }
                }
                points
            }
        });
    }
    glyph
}

fn middle(a: Point, b: Point) -> Point {
    [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]
}

/// Appends a quadratic curve from the last point of `chain`.
fn curve(chain: &mut Vec<Point>, towards: Point, to: Point) {
    const STEPS: usize = 6;
    let from = chain[chain.len() - 1];
    for step in 1..=STEPS {
        let t = step as f32 / STEPS as f32;
        let blend = |axis: usize| {
            (1.0 - t) * (1.0 - t) * from[axis]
                + 2.0 * t * (1.0 - t) * towards[axis]
                + t * t * to[axis]
        };
        chain.push([blend(0), blend(1)]);
    }
}

fn open_curve(points: &[Point]) -> Vec<Point> {
    let mut chain = vec![points[0]];
    let inner = &points[1..points.len() - 1];
    for (at, &towards) in inner.iter().enumerate() {
        let to = match inner.get(at + 1) {
            Some(next) => middle(towards, *next),
            None => points[points.len() - 1],
        };
        curve(&mut chain, towards, to);
    }
    chain
}

fn closed_curve(points: &[Point]) -> Vec<Point> {
    let mut chain = vec![middle(points[points.len() - 1], points[0])];
    for (at, &towards) in points.iter().enumerate() {
        curve(
            &mut chain,
            towards,
            middle(towards, points[(at + 1) % points.len()]),
        );
    }
    chain
}

type Design = (char, &'static str, [u8; 7]);

#[rustfmt::skip]
const DESIGNS: &[Design] = &[
    ('0', "o00 60 68 08", [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110]),
    ('1', "-12 30 38/-18 58", [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', "~02 00 60 64 08/-08 68", [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111]),
    ('3', "~01 00 60 64 24/~24 64 68 08 07", [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('4', "-48 40 05 65", [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', "-60 10 14/~14 33 63 68 08 07", [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', "~61 60 00 06/o03 63 68 08", [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', "-00 60 28", [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000]),
    ('8', "o10 50 54 14/o04 64 68 08", [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', "~62 68 08 07/o00 60 65 05", [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100]),
    ('A', "-08 30 68/-15 55", [0b00100, 0b01010, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001]),
    ('B', "-08 00 30/-04 34/-08 38/~30 60 64 34/~34 64 68 38", [0b11110, 0b10001, 0b10001, 0b11110, 0b10001, 0b10001, 0b11110]),
    ('C', "~61 60 00 08 68 67", [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110]),
    ('D', "-08 00 30/-08 38/~30 60 68 38", [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110]),
    ('E', "-60 00 08 68/-04 44", [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111]),
    ('F', "-60 00 08/-04 44", [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000]),
    ('G', "~61 60 00 08 68 65/-65 35", [0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01110]),
    ('H', "-00 08/-60 68/-04 64", [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001]),
    ('I', "-30 38/-10 50/-18 58", [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('J', "-50 55/~55 58 08 06", [0b00111, 0b00010, 0b00010, 0b00010, 0b00010, 0b10010, 0b01100]),
    ('K', "-00 08/-60 04/-23 68", [0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001]),
    ('L', "-00 08 68", [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111]),
    ('M', "-08 00 35 60 68", [0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001]),
    ('N', "-08 00 68 60", [0b10001, 0b11001, 0b10101, 0b10101, 0b10011, 0b10001, 0b10001]),
    ('O', "o00 60 68 08", [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('P', "-08 00 30/-04 34/~30 60 64 34", [0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000]),
    ('Q', "o00 60 68 08/-46 68", [0b01110, 0b10001, 0b10001, 0b10001, 0b10101, 0b10010, 0b01101]),
    ('R', "-08 00 30/-04 34/~30 60 64 34/-34 68", [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001]),
    ('S', "~61 60 00 04 64 68 08 07", [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('T', "-00 60/-30 38", [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('U', "-00 05/~05 08 68 65/-65 60", [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('V', "-00 38 60", [0b10001, 0b10001, 0b10001, 0b10001, 0b01010, 0b01010, 0b00100]),
    ('W', "-00 18 33 58 60", [0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b11011, 0b10001]),
    ('X', "-00 68/-60 08", [0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b01010, 0b10001]),
    ('Y', "-00 34 60/-34 38", [0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('Z', "-00 60 08 68", [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b10000, 0b11111]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture_world::WORDS;

    #[test]
    fn every_digit_and_every_letter_of_the_words_has_a_glyph_of_its_own() {
        for character in ('0'..='9').chain(WORDS.iter().flat_map(|word| word.chars())) {
            let glyph = glyph(character).unwrap();
            assert!(glyph.strokes.iter().all(|stroke| stroke.len() > 1));
            for [x, y] in glyph.strokes.iter().flatten() {
                assert!((0.0..=WIDTH).contains(x) && (0.0..=HEIGHT).contains(y));
            }
        }
        assert!(glyph('!').is_none());
        let mut squares: Vec<_> = DESIGNS.iter().map(|(.., squares)| squares).collect();
        squares.sort_unstable();
        squares.dedup();
        assert_eq!(squares.len(), 36, "each design once");
    }
}
