//! From a scene to pixels: background, shapes, letters, and what a camera and a file do to them.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::dice::Dice;
use super::letters::Line;
use super::outline;
use super::palette::{Fill, Palette, Rgb, level, mix};
use super::scene::{Background, Lettering, Object, Scene};
use super::vocabulary::{Colour, Texture};
use bunny_base::random::mix_all;

/// What photographing and storing a scene does to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish {
    /// Pixels of the longer side.
    pub longer_side: u32,
    /// How much of each pixel its neighbours get, 0 to 0.5.
    pub blur: f32,
    /// The largest error of a pixel, in levels of 255.
    pub noise: f32,
    /// JPEG's quality, 1 to 100.
    pub quality: u8,
    /// Seeds the noise.
    pub seed: u64,
}

impl Finish {
    /// Most pictures are sharp and clean; some are not.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self {
            longer_side: dice.whole(104, 152) as u32,
            blur: if dice.percent(30) {
                dice.real(0.1, 0.5)
            } else {
                0.0
            },
            noise: if dice.percent(50) {
                dice.real(2.0, 22.0)
            } else {
                0.0
            },
            quality: dice.whole(45, 95) as u8,
            seed: dice.bits(),
        }
    }
}

/// An RGB picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Three bytes a pixel.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The bytes of a JPEG file.
    pub fn to_jpeg(&self, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 << 10);
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(
                &self.pixels,
                self.width,
                self.height,
                ExtendedColorType::Rgb8,
            )
            .expect("a vector takes any picture whose sides fit in 16 bits");
        bytes
    }
}

impl Colour {
    /// Levels of red, green and blue; a rainbow's are in the middle of all.
    pub(super) const fn rgb(self) -> Rgb {
        match self {
            Self::Red => [214.0, 32.0, 36.0],
            Self::Orange => [246.0, 134.0, 18.0],
            Self::Yellow => [248.0, 222.0, 32.0],
            Self::Green => [34.0, 152.0, 58.0],
            Self::Blue => [34.0, 84.0, 214.0],
            Self::Purple => [140.0, 46.0, 176.0],
            Self::Black => [18.0, 18.0, 20.0],
            Self::White => [248.0, 248.0, 246.0],
            Self::Pink => [250.0, 150.0, 190.0],
            Self::Brown => [112.0, 64.0, 26.0],
            Self::Turquoise => [44.0, 206.0, 200.0],
            Self::Rainbow => [128.0; 3],
        }
    }

    /// The same, off by some levels.
    pub(super) fn shaded(self, shade: Rgb) -> Rgb {
        let usual = self.rgb();
        [0, 1, 2].map(|channel| (usual[channel] + shade[channel]).clamp(0.0, 255.0))
    }
}

/// Draws a scene.
pub fn paint(scene: &Scene, finish: &Finish) -> Picture {
    let longer = finish.longer_side.max(1) as f32;
    let side = |fraction: f32| (longer * fraction).round().max(1.0) as u32;
    let (width, height) = if scene.aspect >= 1.0 {
        (finish.longer_side.max(1), side(1.0 / scene.aspect))
    } else {
        (side(scene.aspect), finish.longer_side.max(1))
    };
    let mut canvas = Canvas {
        width: width as usize,
        height: height as usize,
        longer,
        pixels: vec![[0.0; 3]; (width * height) as usize],
    };
    canvas.background(&scene.background);
    let mut fills = scene.palette.fills();
    for object in &scene.objects {
        canvas.object(object, fills.next());
    }
    for lettering in &scene.letterings {
        canvas.lettering(lettering, fills.next());
    }
    canvas.blur(finish.blur);
    Picture {
        width,
        height,
        pixels: canvas.levels(finish, &scene.palette),
    }
}

struct Canvas {
    width: usize,
    height: usize,
    longer: f32,
    pixels: Vec<Rgb>,
}

/// How much of what is below a pattern shows through its gaps.
const GAP: f32 = 0.62;

impl Canvas {
    fn background(&mut self, background: &Background) {
        let paint: Box<dyn Fn([f32; 2]) -> Rgb> = match *background {
            Background::Plain(tint) => Box::new(move |_| tint),
            Background::Gradient(from, to, [dx, dy]) => Box::new(move |[x, y]| {
                let along = 0.5 + (x - 0.5) * dx + (y - 0.5) * dy;
                mix(from, to, along.clamp(0.0, 1.0))
            }),
            Background::Clouds {
                tint,
                strength,
                across,
                seed,
            } => {
                let clouds = Clouds::new(across, seed);
                Box::new(move |at| {
                    let height = strength * (clouds.height(at) - 0.5);
                    tint.map(|level| level + height)
                })
            }
        };
        let (width, height) = (self.width as f32, self.height as f32);
        for (row, pixels) in self.pixels.chunks_exact_mut(self.width).enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = paint([column as f32 / width, row as f32 / height]);
            }
        }
    }

    /// Calls `cover` with the pixels of a box, in pixels from `centre`, and mixes in the colour it
    /// gives by the share it gives.
    fn cover(
        &mut self,
        centre: [f32; 2],
        reach: [f32; 2],
        mut cover: impl FnMut([f32; 2]) -> (Rgb, f32),
    ) {
        let centre = [
            centre[0] * self.width as f32,
            centre[1] * self.height as f32,
        ];
        let range = |middle: f32, reach: f32, end: usize| {
            let low = (middle - reach - 1.0).max(0.0) as usize;
            let high = (middle + reach + 2.0).max(0.0) as usize;
            low.min(end)..high.min(end)
        };
        for row in range(centre[1], reach[1], self.height) {
            for column in range(centre[0], reach[0], self.width) {
                let from = [
                    column as f32 + 0.5 - centre[0],
                    row as f32 + 0.5 - centre[1],
                ];
                let (colour, share) = cover(from);
                if share > 0.0 {
                    let pixel = &mut self.pixels[row * self.width + column];
                    *pixel = mix(*pixel, colour, share.min(1.0));
                }
            }
        }
    }

    /// Draws an object in its own colour, or in free ones.
    fn object(&mut self, object: &Object, free: Option<&Fill>) {
        let radius = object.radius * self.longer;
        let t = object.tilt;
        // The cosine and sine of the angle whose half has the tangent t.
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let is_dark = match free {
            Some(fill) => level(fill.middle(), [0.3, 0.6, 0.1]) < 110.0,
            None => matches!(
                object.colour,
                Colour::Black | Colour::Blue | Colour::Purple | Colour::Red | Colour::Brown
            ),
        };
        let border = match is_dark {
            true => Colour::White.rgb(),
            false => Colour::Black.rgb(),
        };
        let unit = self.longer / 112.0;
        self.cover(object.centre, [1.3 * radius; 2], |[x, y]| {
            let p = [(cos * x + sin * y) / radius, (cos * y - sin * x) / radius];
            let colour = match (free, object.colour) {
                (Some(fill), _) => fill.at(p, 1.0 / radius),
                (None, Colour::Rainbow) => rainbow(p, object.hue),
                (None, _) => object.rgb(),
            };
            let distance = outline::distance(object.shape, p) * radius;
            let covered = (0.5 - distance).clamp(0.0, 1.0);
            if covered == 0.0 {
                return (colour, 0.0);
            }
            match object.texture {
                Texture::Plain => (colour, covered),
                Texture::Striped => {
                    let gap = wave((p[0] + p[1]) * radius / (unit * 5.6));
                    (colour, covered * (1.0 - GAP * gap))
                }
                Texture::Dotted => {
                    let [x, y] = [p[0] * radius / (unit * 5.6), p[1] * radius / (unit * 5.6)];
                    let off = |at: f32| at - at.round();
                    let from = (off(x) * off(x) + off(y) * off(y)).sqrt();
                    let gap = ((0.33 - from) * 5.0 + 0.5).clamp(0.0, 1.0);
                    (colour, covered * (1.0 - 1.1 * GAP * gap))
                }
                Texture::Outlined => {
                    let inner = (0.5 - distance - 0.11 * radius).clamp(0.0, 1.0);
                    (mix(border, colour, inner), covered)
                }
            }
        });
    }

    fn lettering(&mut self, lettering: &Lettering, free: Option<&Fill>) {
        let height = lettering.height * self.longer;
        let line = Line::new(lettering.font, &lettering.text);
        let own = Fill::plain(lettering.rgb());
        let fill = free.unwrap_or(&own);
        let reach = [
            0.5 * height * lettering.font.width(&lettering.text),
            0.65 * height,
        ];
        self.cover(lettering.centre, reach, |[x, y]| {
            let p = [x / height, y / height];
            let distance = line.distance(p) * height;
            // In its radii: a lettering reaches about as far as it is high.
            (fill.at(p, 1.0 / height), (0.5 - distance).clamp(0.0, 1.0))
        });
    }

    /// One pass of weights (share/2, 1 − share, share/2) across and one down.
    fn blur(&mut self, share: f32) {
        if share <= 0.0 {
            return;
        }
        let (width, height) = (self.width, self.height);
        let mut smooth = |first: &dyn Fn(usize) -> usize, step: usize, lines: usize, len: usize| {
            let mut line = vec![[0.0; 3]; len];
            for at in 0..lines {
                for (k, pixel) in line.iter_mut().enumerate() {
                    *pixel = self.pixels[first(at) + k * step];
                }
                for k in 0..len {
                    let (before, after) = (line[k.saturating_sub(1)], line[(k + 1).min(len - 1)]);
                    let around = mix(before, after, 0.5);
                    self.pixels[first(at) + k * step] = mix(line[k], around, share);
                }
            }
        };
        smooth(&|row| row * width, 1, height, width);
        smooth(&|column| column, width, width, height);
    }

    /// Levels of 0 to 255, with noise; all three the same in a picture of greys.
    fn levels(&self, finish: &Finish, palette: &Palette) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 * self.pixels.len());
        for (at, pixel) in self.pixels.iter().enumerate() {
            let mut noise = [0.0; 3];
            if finish.noise > 0.0 {
                // Two bytes a channel: their sum is mostly near the middle, as errors are.
                let random = mix_all(&[finish.seed, at as u64]).to_le_bytes();
                noise = [0, 1, 2].map(|channel| {
                    let sum = f32::from(random[2 * channel]) + f32::from(random[2 * channel + 1]);
                    (sum / 255.0 - 1.0) * finish.noise
                });
            }
            let (pixel, noise) = match palette {
                Palette::Greys(shares) => ([level(*pixel, *shares); 3], [noise[0]; 3]),
                _ => (*pixel, noise),
            };
            // The cast ends at 0 and 255.
            bytes.extend([0, 1, 2].map(|channel| (pixel[channel] + noise[channel] + 0.5) as u8));
        }
        bytes
    }
}

/// The hue at a point of an object that reaches from -1 to 1, as a pure colour. They begin at `first`,
/// and two thirds of the circle lie between one side and the other.
fn rainbow([x, y]: [f32; 2], first: f32) -> Rgb {
    let hue = first + (x + y) / 3.0;
    // The three levels rise and fall with the hue, a third of the circle apart.
    [0.0, 1.0 / 3.0, 2.0 / 3.0].map(|shift| {
        let at = hue + shift;
        let from_peak = (at - at.round()).abs();
        20.0 + 225.0 * (2.0 - 6.0 * from_peak).clamp(0.0, 1.0)
    })
}

/// 0 and 1 in turns, half a unit each, with soft edges.
fn wave(at: f32) -> f32 {
    let phase = at - at.floor();
    let ramp = (phase - 0.5).abs() - 0.25;
    (0.5 + 5.0 * ramp).clamp(0.0, 1.0)
}

/// Smooth random heights, 0 to 1: random ones at the points of a lattice, blended between them.
struct Clouds {
    across: usize,
    heights: Vec<f32>,
}

impl Clouds {
    /// `across` clouds in each direction.
    fn new(across: u32, seed: u64) -> Self {
        let across = across as usize;
        let height = |at| (mix_all(&[seed, at]) >> 40) as f32 / (1 << 24) as f32;
        Self {
            across,
            heights: (0..(across as u64 + 2).pow(2)).map(height).collect(),
        }
    }

    /// The height at a place, given in fractions of the picture.
    fn height(&self, [x, y]: [f32; 2]) -> f32 {
        let (x, y) = (x * self.across as f32, y * self.across as f32);
        let (left, top) = (x as usize, y as usize);
        let at = |dx, dy| self.heights[(top + dy) * (self.across + 2) + left + dx];
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (ease(x - left as f32), ease(y - top as f32));
        let upper = at(0, 0) + u * (at(1, 0) - at(0, 0));
        let lower = at(0, 1) + u * (at(1, 1) - at(0, 1));
        upper + v * (lower - upper)
    }
}
