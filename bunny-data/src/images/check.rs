//! What can be wrong with one picture's bytes.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};
use memchr::memchr;
use serde::Serialize;

/// What is wrong with one picture.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PictureFault {
    /// The file ends before the picture does.
    Truncated,
    /// These bytes are no picture of a kind that is read here (an HTML error page, often).
    NotAPicture,
    /// The name says one kind, the bytes another: a GIF named `.jpg`.
    Mislabelled {
        /// What the bytes are.
        is: &'static str,
    },
    /// Decoding it fails.
    Undecodable {
        /// What the decoder found.
        why: String,
    },
}

/// How closely pictures are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PictureCheck {
    /// Not at all.
    None,
    /// That they are there.
    Exist,
    /// That they are whole and of the kind their name says; nothing is decoded.
    #[default]
    Whole,
    /// That they decode, too: some ten times slower.
    Decode,
}

/// The faults of the picture `name`, whose file holds `bytes`.
pub fn faults(name: &str, bytes: &[u8], check: PictureCheck) -> Vec<PictureFault> {
    let mut faults = Vec::new();
    if check < PictureCheck::Whole {
        return faults;
    }
    if bytes.is_empty() {
        return vec![PictureFault::Truncated];
    }
    let Ok(format) = image::guess_format(bytes) else {
        return vec![PictureFault::NotAPicture];
    };
    if !format.reading_enabled() {
        return vec![PictureFault::NotAPicture];
    }
    if ImageFormat::from_path(name).is_ok_and(|named| named != format) {
        faults.push(PictureFault::Mislabelled { is: kind(format) });
    }
    if !is_whole(format, bytes) {
        faults.push(PictureFault::Truncated);
    } else if check == PictureCheck::Decode
        && let Err(error) = ImageReader::with_format(Cursor::new(bytes), format).decode()
    {
        faults.push(PictureFault::Undecodable {
            why: error.to_string(),
        });
    }
    faults
}

/// Width and height, from the first bytes; `None` for what is no picture.
pub fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?
        .into_dimensions()
        .ok()
}

fn kind(format: ImageFormat) -> &'static str {
    format
        .extensions_str()
        .first()
        .copied()
        .unwrap_or("unknown")
}

/// Whether the bytes reach the picture's own end mark.
fn is_whole(format: ImageFormat, bytes: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg_ends(bytes).is_some(),
        ImageFormat::Png => png_ends(bytes).is_some(),
        ImageFormat::Gif => gif_ends(bytes).is_some(),
        ImageFormat::WebP => {
            le_u32(bytes, 4).is_some_and(|size| bytes.len() as u64 >= u64::from(size) + 8)
        }
        ImageFormat::Bmp => {
            le_u32(bytes, 2).is_some_and(|size| bytes.len() as u64 >= u64::from(size))
        }
        // TIFF keeps its parts in any order, with no end mark; decoding tells.
        _ => true,
    }
}

/// Walks a JPEG's segments, and over the coded data between them, to its end mark (`FF D9`).
fn jpeg_ends(bytes: &[u8]) -> Option<()> {
    let mut at = 2;
    loop {
        at += memchr(0xFF, bytes.get(at..)?)? + 1;
        match *bytes.get(at)? {
            0xD9 => return Some(()),
            // Stuffing and restarts of coded data, padding, and marks without a length.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 1,
            0xFF => {}
            _ => {
                let length = u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]);
                at += 1 + usize::from(length.max(2));
            }
        }
    }
}

/// Walks a PNG's chunks to `IEND`.
fn png_ends(bytes: &[u8]) -> Option<()> {
    let mut at = 8;
    loop {
        let chunk = bytes.get(at..)?;
        let length = u32::from_be_bytes(chunk.get(..4)?.try_into().ok()?) as usize;
        // length · type · data · checksum
        let end = length.checked_add(12)?;
        chunk.get(..end)?;
        if chunk[4..8] == *b"IEND" {
            return Some(());
        }
        at += end;
    }
}

/// Walks a GIF's blocks to its trailer.
fn gif_ends(bytes: &[u8]) -> Option<()> {
    let table = |flags: u8| {
        if flags & 0x80 == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            0x3B => return Some(()),
            0x21 => at += 2,
            0x2C => at += 11 + table(*bytes.get(at + 9)?),
            _ => return None,
        }
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, RgbImage};

    use super::*;

    fn picture(format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(67, 41, |x, y| {
            Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8])
        });
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(image)
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_cut_of_a_picture_is_seen() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
            ImageFormat::Bmp,
        ] {
            let bytes = picture(format);
            let name = format!("a.{}", kind(format));
            assert_eq!(
                faults(&name, &bytes, PictureCheck::Decode),
                [],
                "{format:?}"
            );
            for end in 0..bytes.len() {
                assert_ne!(
                    faults(&name, &bytes[..end], PictureCheck::Whole),
                    [],
                    "{format:?} cut at {end}"
                );
            }
            let longer = [&bytes[..], &[0; 9]].concat();
            assert_eq!(
                faults(&name, &longer, PictureCheck::Whole),
                [],
                "{format:?} with a tail"
            );
        }
    }

    #[test]
    fn a_gif_named_jpg_is_told() {
        let gif = picture(ImageFormat::Gif);
        assert_eq!(
            faults("a.jpg", &gif, PictureCheck::Whole),
            [PictureFault::Mislabelled { is: "gif" }]
        );
        assert_eq!(
            faults("a.JPEG", &picture(ImageFormat::Jpeg), PictureCheck::Whole),
            []
        );
        assert_eq!(
            faults("a.jpg", b"<html>404</html>", PictureCheck::Whole),
            [PictureFault::NotAPicture]
        );
    }

    #[test]
    fn only_decoding_sees_damage_inside() {
        let mut png = picture(ImageFormat::Png);
        let middle = png.len() / 2;
        png[middle] ^= 0xFF;
        assert_eq!(faults("a.png", &png, PictureCheck::Whole), []);
        assert!(matches!(
            faults("a.png", &png, PictureCheck::Decode)[..],
            [PictureFault::Undecodable { .. }]
        ));
    }
}
