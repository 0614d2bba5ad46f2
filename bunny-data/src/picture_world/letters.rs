//! Letters in the fonts: how wide they run, and which pixels they cover.

use super::glyphs::{self, Glyph, HEIGHT, Point, WIDTH};
use super::outline::to_line;
use super::scene::Font;

/// How the strokes of a font look; lengths in heights of a letter.
struct Style {
    /// Width of a letter.
    width: f32,
    /// Between two letters.
    gap: f32,
    /// Half the width of a stroke.
    half_stroke: f32,
    /// Half the width of a foot, if it has feet.
    half_foot: f32,
    /// How far the top leans to the right.
    slant: f32,
}

impl Style {
    /// How far strokes and feet stick out at both ends.
    fn margin(&self) -> f32 {
        self.half_stroke + self.half_foot
    }
}

impl Font {
    fn style(self) -> Style {
        let plain = Style {
            width: 0.56,
            gap: 0.24,
            half_stroke: 0.055,
            half_foot: 0.0,
            slant: 0.0,
        };
        match self {
            Self::Thin => plain,
            Self::Bold => Style {
                width: 0.60,
                gap: 0.32,
                half_stroke: 0.105,
                ..plain
            },
            Self::Slab => Style {
                gap: 0.34,
                half_stroke: 0.065,
                half_foot: 0.13,
                ..plain
            },
            Self::Slanted => Style {
                half_stroke: 0.075,
                slant: 0.22,
                gap: 0.28,
                ..plain
            },
            Self::Pixel => Style {
                width: 5.0 / 7.0,
                gap: 1.0 / 7.0,
                ..plain
            },
        }
    }

    /// The width of a text, in heights of a letter.
    pub(super) fn width(self, text: &str) -> f32 {
        let style = self.style();
        let letters = text.chars().count() as f32;
        letters * style.width
            + (letters - 1.0).max(0.0) * style.gap
            + style.slant
            + 2.0 * style.margin()
    }
}

/// A text, laid out.
pub(super) struct Line {
    font: Font,
    style: Style,
    glyphs: Vec<&'static Glyph>,
    width: f32,
}

impl Line {
    /// Characters without a glyph are left out.
    pub fn new(font: Font, text: &str) -> Self {
        Self {
            font,
            style: font.style(),
            glyphs: text.chars().filter_map(glyphs::glyph).collect(),
            width: font.width(text),
        }
    }

    /// The signed distance of a point from the letters, both in heights of a letter; the text's
    /// middle is at 0 and `y` points down.
    pub fn distance(&self, [x, y]: Point) -> f32 {
        let Style {
            width,
            gap,
            half_stroke,
            half_foot,
            slant,
        } = self.style;
        let y = y + 0.5;
        // Upright again, and from the left edge of the first letter's skeleton.
        let x = x + self.width / 2.0 - self.style.margin() - slant * (1.0 - y);
        let advance = width + gap;
        // Only the letter nearest to the point can cover it: strokes stay within half a gap.
        let letter = ((x + gap / 2.0) / advance).max(0.0) as usize;
        let letter = letter.min(self.glyphs.len().saturating_sub(1));
        let Some(glyph) = self.glyphs.get(letter) else {
            return f32::INFINITY;
        };
        let x = x - letter as f32 * advance;
        if self.font == Font::Pixel {
            return squares(glyph, [x, y]);
        }
        let scaled = |[x, y]: Point| [x / WIDTH * width, y / HEIGHT];
        let lines = glyph.strokes.iter().flat_map(|stroke| stroke.windows(2));
        let strokes = lines
            .map(|line| to_line([x, y], scaled(line[0]), scaled(line[1])))
            .fold(f32::INFINITY, f32::min);
        let feet = glyph.feet.iter().filter(|_| half_foot > 0.0).map(|foot| {
            let [foot_x, foot_y] = scaled(*foot);
            to_line(
                [x, y],
                [foot_x - half_foot, foot_y],
                [foot_x + half_foot, foot_y],
            )
        });
        feet.fold(strokes, f32::min) - half_stroke
    }
}

/// The signed distance from a glyph's squares: the nearest square counts.
fn squares(glyph: &Glyph, [x, y]: Point) -> f32 {
    const SIDE: f32 = 1.0 / 7.0;
    let mut nearest = f32::INFINITY;
    for (row, bits) in glyph.squares.iter().enumerate() {
        for column in (0..5).filter(|column| bits & (0b10000 >> column) != 0) {
            let dx = (x - (column as f32 + 0.5) * SIDE).abs();
            let dy = (y - (row as f32 + 0.5) * SIDE).abs();
            nearest = nearest.min(dx.max(dy) - SIDE / 2.0);
        }
    }
    nearest
}
