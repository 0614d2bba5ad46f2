//! Pictures to the pixels that a vision tower reads.
//!
//! A file is decoded to 8-bit RGB, put on a square canvas (or not), resized with Pillow's bicubic
//! filter to the bit, cropped where the tower crops, scaled to `0..1` and normalised per channel.

mod config;
mod data_url;
mod decode;
mod error;
mod file_url;
mod gif;
mod jpeg;
mod png;
mod resize;
mod tiff;

use std::{ops::Range, str::FromStr};

use image::RgbImage;

use resize::Side;

pub use data_url::{DataUrlError, data_url};
pub use decode::{DecodeOptions, decode, decode_file};
pub use error::ImageError;
pub use file_url::file_url;

/// What becomes of a picture that is not square: `image_aspect_ratio` of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aspect {
    /// It goes on a square canvas of the mean colour, in the middle: fine-tuning and all published
    /// models.
    Pad,
    /// The processor takes it as it is: pre-training.
    Square,
}

impl Aspect {
    /// The name in `config.json` and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Pad => "pad",
            Aspect::Square => "square",
        }
    }
}

impl FromStr for Aspect {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "pad" => Ok(Aspect::Pad),
            "square" => Ok(Aspect::Square),
            _ => Err(ImageError::UnknownAspect {
                name: name.to_owned(),
            }),
        }
    }
}

/// Whose processor it is; they differ in shape and in rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `SiglipImageProcessor`: squashed to the size.
    Siglip,
    /// `CLIPImageProcessor`: shorter side to the size, then the middle (odd rests floored).
    Clip,
    /// EVA-CLIP's torchvision transform: as CLIP, odd rests halved to even, bytes divided by 255.
    EvaClip,
}

/// Normalised pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// `[3, height, width]`, row-major.
    pub data: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Turns decoded pictures to what a tower reads.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// Whose rules are followed.
    pub kind: Kind,
    /// Side of the square that the tower reads.
    pub size: usize,
    /// Mean per channel, of values in `0..1`.
    pub mean: [f64; 3],
    /// Standard deviation per channel.
    pub std: [f64; 3],
    /// What becomes of pictures that are not square.
    pub aspect: Aspect,
}

impl ImageProcessor {
    /// SigLIP's: `google/siglip-so400m-patch14-384` has `size` 384.
    pub fn siglip(size: usize) -> Self {
        Self {
            kind: Kind::Siglip,
            size,
            mean: [0.5; 3],
            std: [0.5; 3],
            aspect: Aspect::Pad,
        }
    }

    /// EVA02-CLIP-L's, of `size` 336.
    pub fn eva_clip(size: usize) -> Self {
        Self {
            kind: Kind::EvaClip,
            size,
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.26130258, 0.27577711],
            aspect: Aspect::Pad,
        }
    }

    /// OpenAI CLIP's, of `size` 336.
    pub fn clip(size: usize) -> Self {
        Self {
            kind: Kind::Clip,
            ..Self::eva_clip(size)
        }
    }

    /// The same for pictures that are fitted otherwise.
    #[must_use]
    pub fn with_aspect(mut self, aspect: Aspect) -> Self {
        self.aspect = aspect;
        self
    }

    /// The colour of the canvas behind a padded picture.
    pub fn padding(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0) as u8)
    }

    /// Fits, resizes and normalises. An empty picture becomes a canvas of the padding colour.
    pub fn process(&self, picture: &RgbImage) -> Pixels {
        let canvas = Canvas::new(picture, self.aspect, self.padding());
        let (width, height) = self.resized(canvas.width, canvas.height);
        let bytes = resize::bicubic(&canvas, &self.side(width), &self.side(height));
        let tables = self.tables();
        let pixels = bytes.as_chunks::<3>().0;
        let mut data = Vec::with_capacity(3 * pixels.len());
        for (channel, table) in tables.iter().enumerate() {
            data.extend(
                pixels
                    .iter()
                    .map(|pixel| table[usize::from(pixel[channel])]),
            );
        }
        Pixels {
            data,
            height: self.size,
            width: self.size,
        }
    }

    /// The size before the crop.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        if self.kind == Kind::Siglip {
            return (self.size, self.size);
        }
        // int(size * long / short), in Python's true division
        let longer =
            |long: usize, short: usize| ((self.size * long) as f64 / short as f64) as usize;
        if width <= height {
            (self.size, longer(height, width))
        } else {
            (longer(width, height), self.size)
        }
    }

    /// A side of the resized picture, of which the middle is made.
    fn side(&self, length: usize) -> Side {
        let rest = length - self.size;
        let start = match self.kind {
            Kind::EvaClip => (rest as f64 / 2.0).round_ties_even() as usize,
            Kind::Siglip | Kind::Clip => rest / 2,
        };
        Side {
            length,
            made: start..start + self.size,
        }
    }

    /// The normalised value of every byte, per channel, in the reference's order of roundings.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            std::array::from_fn(|byte| {
                let value = match self.kind {
                    Kind::EvaClip => byte as f32 / 255.0,
                    Kind::Siglip | Kind::Clip => (byte as f64 * RESCALE_FACTOR) as f32,
                };
                (value - mean) / std
            })
        })
    }
}

/// 1/255, as `preprocessor_config.json` writes it.
const RESCALE_FACTOR: f64 = 0.00392156862745098;

/// A picture in place on its canvas, which is never laid out in memory.
struct Canvas<'a> {
    picture: &'a RgbImage,
    /// Columns and rows of the canvas.
    width: usize,
    height: usize,
    /// Where the picture's corner lies.
    left: usize,
    top: usize,
    color: [u8; 3],
}

impl<'a> Canvas<'a> {
    fn new(picture: &'a RgbImage, aspect: Aspect, color: [u8; 3]) -> Self {
        // A canvas has at least one pixel, so that an empty picture is all margin.
        let width = (picture.width() as usize).max(1);
        let height = (picture.height() as usize).max(1);
        match aspect {
            Aspect::Square => Self {
                picture,
                width,
                height,
                left: 0,
                top: 0,
                color,
            },
            Aspect::Pad => {
                let side = width.max(height);
                let (left, top) = ((side - width) / 2, (side - height) / 2);
                Self {
                    picture,
                    width: side,
                    height: side,
                    left,
                    top,
                    color,
                }
            }
        }
    }

    /// The picture's row at a row of the canvas.
    fn picture_row(&self, y: usize) -> Option<usize> {
        y.checked_sub(self.top)
            .filter(|y| *y < self.picture.height() as usize)
    }

    /// The columns that the picture lies in.
    fn picture_columns(&self) -> Range<usize> {
        self.left..self.left + self.picture.width() as usize
    }

    /// The rows that it lies in.
    fn picture_rows(&self) -> Range<usize> {
        self.top..self.top + self.picture.height() as usize
    }

    /// A row of the canvas, `[width, 3]`, with a row of the picture in its place.
    fn row(&self, picture_row: &[u8]) -> Vec<u8> {
        let mut row = self.color.repeat(self.width);
        row[self.left * 3..][..picture_row.len()].copy_from_slice(picture_row);
        row
    }
}
