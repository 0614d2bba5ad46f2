//! The first frame of a GIF.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, MemoryLimit};
use image::RgbImage;

use super::ImageError;
use super::decode::{DecodeOptions, rgb_image};

/// Decodes the first frame onto the whole screen, which a frame that reaches beyond it enlarges.
///
/// What the frame does not cover has the transparent colour, or else the first one: as in Pillow,
/// whose conversion to RGB shows transparent places in the palette's colour.
pub(super) fn decode(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let mut reader = gif::DecodeOptions::new();
    reader.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = NonZeroU64::new(options.max_bytes()) {
        reader.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = reader
        .read_info(Cursor::new(bytes))
        .map_err(ImageError::decode)?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder.next_frame_info().map_err(ImageError::decode)?;
    let frame = frame.ok_or(ImageError::Empty {
        width: 0,
        height: 0,
    })?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let width = screen.0.max((left + frame_width) as u32);
    let height = screen.1.max((top + frame_height) as u32);
    options.check(width, height)?;
    let background = frame.transparent.unwrap_or(0);
    let palette = frame
        .palette
        .clone()
        .or_else(|| decoder.global_palette().map(<[u8]>::to_vec));
    let palette = palette.unwrap_or_default();
    let mut indices = vec![0; decoder.buffer_size()];
    decoder
        .read_into_buffer(&mut indices)
        .map_err(ImageError::decode)?;

    // Indices beyond the palette are greys.
    let colors: Vec<[u8; 3]> = (0..=u8::MAX)
        .map(|index| {
            palette
                .as_chunks::<3>()
                .0
                .get(usize::from(index))
                .copied()
                .unwrap_or([index; 3])
        })
        .collect();
    let stride = width as usize * 3;
    let mut picture = colors[usize::from(background)].repeat(width as usize * height as usize);
    if frame_width > 0 {
        let rows = picture.chunks_exact_mut(stride).skip(top);
        for (row, indices) in rows.zip(indices.chunks_exact(frame_width)) {
            for (pixel, index) in row[left * 3..]
                .as_chunks_mut::<3>()
                .0
                .iter_mut()
                .zip(indices)
            {
                *pixel = colors[usize::from(*index)];
            }
        }
    }
    Ok(rgb_image(width, height, picture))
}
