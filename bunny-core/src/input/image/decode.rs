//! Files to 8-bit RGB, as Pillow's `open(…).convert("RGB")` has it.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::{ImageError, gif, jpeg, png, tiff};

/// Sides that no camera has: JPEG and GIF cannot name longer ones.
pub(super) const MAX_SIDE: u32 = 65_535;

/// How pictures are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Turn the picture as its EXIF orientation says. Training never does; photographs from a
    /// telephone lie on their side without it. (TIFF is always turned: Pillow does so on opening.)
    pub upright: bool,
    /// More pixels than these are refused before any is decoded.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    /// As in training: not turned, and as many pixels as Pillow takes.
    fn default() -> Self {
        Self {
            upright: false,
            max_pixels: 178_956_970,
        }
    }
}

impl DecodeOptions {
    /// As in chat: upright.
    pub fn upright() -> Self {
        Self {
            upright: true,
            ..Self::default()
        }
    }

    /// Refuses sizes without pixels, and those beyond the limits.
    pub(super) fn check(&self, width: u32, height: u32) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > MAX_SIDE {
            return Err(ImageError::TooLarge {
                width,
                height,
                limit: self.max_pixels,
            });
        }
        Ok(())
    }

    /// The most that decoding a picture may take: 4 samples of 16 bits.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(8).max(1 << 20)
    }
}

/// Decodes a file: [`decode`], with the file's name in errors.
pub fn decode_file(path: impl AsRef<Path>, options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let path = path.as_ref();
    let bytes = read(path).map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })?;
    decode(&bytes, options).map_err(|source| ImageError::File {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The bytes of a file, which may be a pipe; a device that never ends is no picture.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    /// More than any picture that has no more pixels than are decoded.
    const LARGEST: u64 = 2 << 30;
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(LARGEST);
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(io::Error::other("it is longer than any picture")),
        false => Ok(bytes),
    }
}

/// Decodes PNG, JPEG, WebP, GIF (the first frame), BMP or TIFF (the first page) to RGB; what the
/// bytes begin with tells which. Alpha is dropped, not blended; colour profiles are ignored.
///
/// The bytes are those of Pillow, of 12.3 as of 13.0, JPEG's and lossless WebP's among them; lossy
/// WebP differs by a few steps of 255.
///
/// # Errors
/// Bytes that are no picture, that end early or are damaged; no pixels; too many of them.
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let format = image::guess_format(bytes).map_err(|_| ImageError::UnknownFormat)?;
    match format {
        ImageFormat::Gif => gif::decode(bytes, options),
        ImageFormat::Tiff => tiff::decode(bytes, options),
        ImageFormat::Jpeg => jpeg::decode(bytes, options),
        ImageFormat::Png => decode_common(&png::with_end(bytes), format, options),
        ImageFormat::WebP | ImageFormat::Bmp => decode_common(bytes, format, options),
        _ => Err(ImageError::UnknownFormat),
    }
}

/// The formats that `image` decodes, and what it rounds otherwise than Pillow.
fn decode_common(
    bytes: &[u8],
    format: ImageFormat,
    options: DecodeOptions,
) -> Result<RgbImage, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.max_bytes());
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(ImageError::decode)?;
    let (width, height) = decoder.dimensions();
    options.check(width, height)?;
    // Damaged EXIF data is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // With a transparent colour it comes with alpha, and is still grey to Pillow: so the header is
    // asked, for depth and colour type.
    let grey_16 = format == ImageFormat::Png && bytes.get(24..26) == Some(&[16, 0]);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(ImageError::decode)?;
    if options.upright {
        picture.apply_orientation(orientation);
    }
    let mut picture = into_rgb(picture, grey_16);
    if format == ImageFormat::Bmp {
        floor_bmp_16(bytes, &mut picture);
    }
    Ok(picture)
}

/// Drops alpha and brings 16 bits to 8: grey pictures are clipped at 255, all others lose their
/// low byte.
fn into_rgb(picture: DynamicImage, grey_16: bool) -> RgbImage {
    let (width, height) = (picture.width(), picture.height());
    let narrow = |value: u16| narrow_16(value, grey_16);
    let bytes: Vec<u8> = match picture {
        DynamicImage::ImageLuma16(grey) => grey
            .as_raw()
            .iter()
            .flat_map(|value| [narrow(*value); 3])
            .collect(),
        DynamicImage::ImageLumaA16(grey) => grey
            .pixels()
            .flat_map(|pixel| [narrow(pixel.0[0]); 3])
            .collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.as_raw().iter().map(|value| narrow(*value)).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba
            .pixels()
            .flat_map(|pixel| [0, 1, 2].map(|c| narrow(pixel.0[c])))
            .collect(),
        picture => return picture.into_rgb8(),
    };
    rgb_image(width, height, bytes)
}

/// Pillow keeps 16-bit grey whole (`I;16`) and clips it on conversion; of 16-bit colours it reads
/// the high byte alone.
pub(super) fn narrow_16(value: u16, grey: bool) -> u8 {
    if grey {
        value.min(255) as u8
    } else {
        (value >> 8) as u8
    }
}

/// `[height, width, 3]` as a picture.
pub(super) fn rgb_image(width: u32, height: u32, bytes: Vec<u8>) -> RgbImage {
    RgbImage::from_raw(width, height, bytes).expect("three bytes were made for every pixel")
}

/// Brings samples of 5 and 6 bits, which come scaled and rounded, to Pillow's `value * 255 / 31`
/// without the rest.
fn floor_bmp_16(bytes: &[u8], picture: &mut RgbImage) {
    const BITS: usize = 28;
    const COMPRESSION: usize = 30;
    const GREEN_MASK: usize = 58;
    if bytes.get(BITS..BITS + 2) != Some(&[16, 0]) {
        return;
    }
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    let green_bits = match (word(COMPRESSION), word(GREEN_MASK)) {
        (Some(0), _) | (Some(3), Some(0x03e0)) => 5,
        (Some(3), Some(0x07e0)) => 6,
        _ => return,
    };
    let floor = |byte: u8, bits: u32| {
        let top = (1u16 << bits) - 1;
        ((u16::from(byte) >> (8 - bits)) * 255 / top) as u8
    };
    for pixel in picture.pixels_mut() {
        let [red, green, blue] = pixel.0;
        pixel.0 = [floor(red, 5), floor(green, green_bits), floor(blue, 5)];
    }
}
