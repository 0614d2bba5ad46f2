//! The first page of a TIFF.

mod directory;

use std::io::{Cursor, Read, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::ImageError;
use super::decode::{DecodeOptions, narrow_16, rgb_image};
use directory::Directory;

/// Decodes grey, palette, RGB and CMYK, with alpha or without. Orientation is always followed, as
/// Pillow follows it on opening.
pub(super) fn decode(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let directory = Directory::read(bytes).unwrap_or_default();
    directory.check(bytes.len(), options)?;
    let (bytes, is_palette) = directory.as_indices(bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(options.max_bytes()).unwrap_or(usize::MAX);
    let decoder = Decoder::new(Cursor::new(bytes.as_ref())).map_err(ImageError::decode)?;
    let mut decoder = decoder.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(ImageError::decode)?;
    options.check(width, height)?;
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten();
    let inks = Inks::read(&mut decoder, is_palette)?;

    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder
        .read_image_to_buffer(&mut samples)
        .map_err(ImageError::decode)?;
    let stored = samples.as_buffer(0).byte_len();
    let is_grey = matches!(inks, Inks::Grey { .. });
    let bytes = to_bytes(samples, is_grey)?;
    let sample_size = (stored / bytes.len().max(1)).max(1);
    let bytes = match inks.packed_bits() {
        Some(bits) => unpack(
            &bytes,
            width as usize,
            layout.row_stride.map_or(0, usize::from),
            bits,
        ),
        None => bytes,
    };
    // Where the samples of a pixel lie: side by side, or each in a plane of its own.
    let pixels = width as usize * height as usize;
    let (step, plane) = match layout.plane_stride {
        Some(plane) if layout.planes > 1 => (1, usize::from(plane) / sample_size),
        _ => (inks.samples(), 1),
    };
    if bytes.len() < (pixels - 1) * step + (inks.read_samples() - 1) * plane + 1 {
        return Err(ImageError::CutOff);
    }
    let rgb =
        (0..pixels).flat_map(|pixel| inks.color(|sample| bytes[pixel * step + sample * plane]));
    let picture = rgb_image(width, height, rgb.collect());
    Ok(match orientation.and_then(Orientation::from_exif) {
        None | Some(Orientation::NoTransforms) => picture,
        Some(orientation) => {
            let mut picture = DynamicImage::ImageRgb8(picture);
            picture.apply_orientation(orientation);
            picture.into_rgb8()
        }
    })
}

/// What the samples of a pixel mean.
enum Inks {
    /// Grey, then perhaps others that are not read.
    Grey { bits: u8, samples: usize },
    /// An index of these colours.
    Palette { bits: u8, colors: Vec<[u8; 3]> },
    /// Red, green, blue, then perhaps others that are not read.
    Rgb { samples: usize },
    /// Red, green and blue that are multiplied with the alpha behind them.
    Premultiplied,
    /// Cyan, magenta, yellow, black, then perhaps others that are not read.
    Cmyk { samples: usize },
}

impl Inks {
    fn read<R: Read + Seek>(
        decoder: &mut Decoder<R>,
        is_palette: bool,
    ) -> Result<Self, ImageError> {
        let associated = |decoder: &mut Decoder<R>| {
            decoder
                .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
                .ok()
                .flatten()
                == Some(vec![1])
        };
        let color_type = decoder.colortype().map_err(ImageError::decode)?;
        Ok(match color_type {
            ColorType::Gray(bits @ (1 | 2 | 4 | 8)) if is_palette => Inks::Palette {
                bits,
                colors: read_palette(decoder, bits)?,
            },
            ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16 | 32)) => Inks::Grey { bits, samples: 1 },
            ColorType::GrayA(8 | 16)
            | ColorType::Multiband {
                bit_depth: 8 | 16,
                num_samples: 2,
            } => Inks::Grey {
                bits: 8,
                samples: 2,
            },
            ColorType::RGB(8 | 16) => Inks::Rgb { samples: 3 },
            ColorType::RGBA(8) if associated(decoder) => Inks::Premultiplied,
            ColorType::RGBA(8 | 16) => Inks::Rgb { samples: 4 },
            ColorType::CMYK(8 | 16) => Inks::Cmyk { samples: 4 },
            ColorType::CMYKA(8 | 16) => Inks::Cmyk { samples: 5 },
            _ => {
                return Err(ImageError::Unsupported {
                    what: format!("TIFF with {color_type:?}"),
                });
            }
        })
    }

    /// Samples that a pixel has.
    fn samples(&self) -> usize {
        match self {
            Inks::Palette { .. } => 1,
            Inks::Premultiplied => 4,
            Inks::Grey { samples, .. } | Inks::Rgb { samples } | Inks::Cmyk { samples } => *samples,
        }
    }

    /// Samples that are read.
    fn read_samples(&self) -> usize {
        match self {
            Inks::Grey { .. } | Inks::Palette { .. } => 1,
            Inks::Rgb { .. } => 3,
            Inks::Premultiplied | Inks::Cmyk { .. } => 4,
        }
    }

    /// Bits of a sample, where several share a byte.
    fn packed_bits(&self) -> Option<u8> {
        match self {
            Inks::Grey { bits, .. } | Inks::Palette { bits, .. } => {
                Some(*bits).filter(|bits| *bits < 8)
            }
            _ => None,
        }
    }

    fn color(&self, sample: impl Fn(usize) -> u8) -> [u8; 3] {
        match self {
            Inks::Grey { bits, .. } => {
                let top = if *bits < 8 { (1u8 << bits) - 1 } else { 255 };
                [sample(0) * (255 / top); 3]
            }
            Inks::Palette { colors, .. } => colors
                .get(usize::from(sample(0)))
                .copied()
                .unwrap_or_default(),
            Inks::Rgb { .. } => [0, 1, 2].map(sample),
            Inks::Premultiplied => {
                let alpha = u32::from(sample(3));
                [0, 1, 2].map(|c| {
                    (u32::from(sample(c)) * 255)
                        .checked_div(alpha)
                        .unwrap_or(0)
                        .min(255) as u8
                })
            }
            Inks::Cmyk { .. } => {
                // Pillow's: what black leaves, less the ink's share of it, rounded.
                let left = 255 - u32::from(sample(3));
                [0, 1, 2].map(|c| {
                    let product = u32::from(sample(c)) * left + 128;
                    (left - (((product >> 8) + product) >> 8)) as u8
                })
            }
        }
    }
}

/// Brings samples to bytes as Pillow does: what is more than a byte wide in grey is clipped.
fn to_bytes(samples: DecodingResult, is_grey: bool) -> Result<Vec<u8>, ImageError> {
    let unsupported = |what: &str| {
        Err(ImageError::Unsupported {
            what: format!("TIFF with {what} samples"),
        })
    };
    Ok(match samples {
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => samples
            .into_iter()
            .map(|value| narrow_16(value, is_grey))
            .collect(),
        DecodingResult::I16(samples) if is_grey => {
            samples.into_iter().map(|v| v.clamp(0, 255) as u8).collect()
        }
        DecodingResult::U32(samples) if is_grey => {
            samples.into_iter().map(|v| v.min(255) as u8).collect()
        }
        DecodingResult::I32(samples) if is_grey => {
            samples.into_iter().map(|v| v.clamp(0, 255) as u8).collect()
        }
        // A cast from float cuts towards zero, and clips.
        DecodingResult::F32(samples) if is_grey => samples.into_iter().map(|v| v as u8).collect(),
        DecodingResult::F32(_) | DecodingResult::F64(_) | DecodingResult::F16(_) => {
            return unsupported("float");
        }
        _ => return unsupported("signed or wide"),
    })
}

/// Samples of 1, 2 or 4 bits, the first in the high bits, to a byte each; rows begin with a byte.
fn unpack(bytes: &[u8], width: usize, stride: usize, bits: u8) -> Vec<u8> {
    let per_byte = usize::from(8 / bits);
    let mask = (1u8 << bits) - 1;
    let stride = stride.max(width.div_ceil(per_byte));
    bytes
        .chunks_exact(stride)
        .flat_map(|row| {
            (0..width).map(move |x| {
                (row[x / per_byte] >> (8 - bits as usize * (x % per_byte + 1))) & mask
            })
        })
        .collect()
}

/// `ColorMap`: all reds, then greens, then blues, of 16 bits.
fn read_palette<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    bits: u8,
) -> Result<Vec<[u8; 3]>, ImageError> {
    let map = decoder
        .get_tag_u16_vec(Tag::ColorMap)
        .map_err(ImageError::decode)?;
    let count = 1 << bits;
    if map.len() < 3 * count {
        return Err(ImageError::Unsupported {
            what: format!("TIFF whose ColorMap has {} values", map.len()),
        });
    }
    Ok((0..count)
        .map(|index| [0, 1, 2].map(|c| (map[c * count + index] >> 8) as u8))
        .collect())
}
