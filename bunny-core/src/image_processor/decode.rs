//! Files to 8-bit RGB, as Pillow's `open(…).convert("RGB")` has it.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::ImageError;

/// How pictures are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Turn the picture as its EXIF orientation says. The reference never does; photographs from
    /// a telephone lie on their side without it.
    pub upright: bool,
    /// More pixels than these are refused before any is decoded.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    /// As in training: not turned, at most 2²⁸ pixels.
    fn default() -> Self {
        Self {
            upright: false,
            max_pixels: 1 << 28,
        }
    }
}

impl DecodeOptions {
    /// As in chat: upright, at most 2²⁸ pixels.
    pub fn upright() -> Self {
        Self {
            upright: true,
            ..Self::default()
        }
    }
}

/// Decodes a file: [`decode`], with the file's name in errors.
pub fn decode_file(path: impl AsRef<Path>, options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })?;
    decode(&bytes, options).map_err(|source| ImageError::File {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Decodes PNG, JPEG, WebP, GIF (the first frame), BMP or TIFF to RGB; what the bytes begin with
/// tells which. Alpha is dropped, not blended.
///
/// # Errors
/// Bytes that are no picture, that end early or are damaged; no pixels; too many of them.
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let failed = |source| ImageError::Decode { source };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| ImageError::UnknownFormat)?;
    if reader.format().is_none() {
        return Err(ImageError::UnknownFormat);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.max_pixels.saturating_mul(8).max(1 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { width, height });
    }
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(ImageError::TooLarge {
            width,
            height,
            limit: options.max_pixels,
        });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    if options.upright {
        picture.apply_orientation(orientation);
    }
    Ok(picture.into_rgb8())
}
