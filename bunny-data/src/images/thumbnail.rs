//! Pictures in pages, as small JPEGs inside them.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageReader, ImageResult, Limits};

use super::ImageSource;
use crate::html;
use bunny_base::caught;

/// The picture as an `<img>` that holds its own bytes, or a note on why it cannot be shown.
pub(crate) fn shown(images: &ImageSource, name: &str, side: u32) -> String {
    let note = |why: &dyn std::fmt::Display| {
        format!(
            "<p class=\"note\">{}</p>",
            html::escape(&format!("{name}: {why}"))
        )
    };
    // What a decoder does not survive is no picture.
    match images
        .read(name)
        .map(|bytes| caught(|| thumbnail(&bytes, side)))
    {
        Ok(None) => note(&"not a picture that can be read"),
        Ok(Some(Ok((width, height, jpeg)))) => format!(
            "<img title=\"{width} × {height}\" alt=\"{}\" src=\"data:image/jpeg;base64,{}\">",
            html::escape(name),
            STANDARD.encode(jpeg)
        ),
        Ok(Some(Err(error))) => note(&error),
        Err(error) => note(&error),
    }
}

/// A picture's width and height, and a JPEG of it whose longer side is at most `side`.
fn thumbnail(bytes: &[u8], side: u32) -> ImageResult<(u32, u32, Vec<u8>)> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(Limits::default());
    let picture = reader.decode()?;
    let (width, height) = (picture.width(), picture.height());
    let small = if width.max(height) > side {
        picture.thumbnail(side, side)
    } else {
        picture
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&small.to_rgb8())?;
    Ok((width, height, jpeg))
}
