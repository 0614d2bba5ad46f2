//! JPEG with libjpeg-turbo's arithmetic: the bytes that Pillow has, to the bit.
//!
//! [`segments`] reads the file from marker to marker. A file of one scan that has all components
//! goes block by block through [`sequential`] and [`transform`] into [`rows`]; any other first fills
//! the coefficients of the [`whole`] picture. From rows of blocks come rows of samples, of the
//! picture's size by [`upsample`], and of RGB by [`color`].
//!
//! Damage is passed over as libjpeg does it, which shows something of most files. A file that ends
//! early is refused: Pillow then waits for more, and gives up.

mod bits;
mod color;
mod entropy;
mod error;
mod frame;
mod huffman;
mod level;
mod progressive;
mod rows;
mod segments;
mod sequential;
mod smooth;
mod standard;
mod tables;
mod transform;
mod upsample;
mod whole;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::ImageError;
use super::decode::{DecodeOptions, rgb_image};
use color::Colors;
use entropy::{Entropy, Place, for_each_block};
use error::Stop;
use frame::{Block, Frame, Scan};
use level::Level;
use rows::Rows;
use segments::{Event, Segments, ZIGZAG};
use tables::Tables;
use whole::Whole;

/// Decodes grey, YCbCr, RGB, CMYK and YCCK of 8 bits, sequential and progressive, with Huffman's
/// codes.
///
/// It takes at most eight bytes a pixel beside the result, and 32 MiB.
pub(super) fn decode(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    decode_at(Level::detect(), bytes, options)
}

fn decode_at(level: Level, bytes: &[u8], options: DecodeOptions) -> Result<RgbImage, ImageError> {
    let mut segments = Segments::new(bytes)?;
    let Event::Scan(scan, at) = segments.next()? else {
        return Err(Stop::NoFrame.into());
    };
    let frame = segments.frame.clone().ok_or(Stop::NoFrame)?;
    let (width, height) = (frame.width as u32, frame.height as u32);
    options.check(width, height)?;
    // Damaged EXIF data is no reason to refuse a picture.
    let orientation = Orientation::from_exif_chunk(&segments.exif);
    let decoder = Decoder {
        level,
        bytes,
        steps: vec![None; frame.components.len()],
        frame,
        segments,
    };
    let mut picture = rgb_image(width, height, decoder.run(scan, at)?);
    if let Some(orientation) = orientation
        && options.upright
    {
        let mut turned = DynamicImage::ImageRgb8(picture);
        turned.apply_orientation(orientation);
        picture = turned.into_rgb8();
    }
    Ok(picture)
}

/// A file whose head is read.
#[derive(Debug)]
struct Decoder<'a> {
    level: Level,
    bytes: &'a [u8],
    segments: Segments<'a>,
    frame: Frame,
    /// Of quantisation, by component: the table that holds when the first of its scans begins.
    steps: Vec<Option<Block>>,
}

impl Decoder<'_> {
    /// From the first scan on, to `[height, width, 3]`.
    fn run(mut self, scan: Scan, at: usize) -> Result<Vec<u8>, Stop> {
        let colors = Colors::of(&self.frame, self.segments.has_jfif, self.segments.adobe);
        let rows = Rows::new(&self.frame, colors);
        if self.frame.is_progressive {
            return self.run_whole(scan, at, rows);
        }
        self.segments.complete_codes();
        if scan.parts.len() < self.frame.components.len() {
            self.run_whole(scan, at, rows)
        } else {
            self.run_once(&scan, at, rows)
        }
    }

    /// The Huffman tables of a scan; those of quantisation stay with the components.
    fn prepare(&mut self, scan: &Scan) -> Result<Tables, Stop> {
        for part in &scan.parts {
            let steps = &mut self.steps[part.component];
            if steps.is_none() {
                let number = usize::from(self.frame.components[part.component].table);
                let table = self.segments.quantisation.get(number).copied().flatten();
                *steps = Some(table.ok_or(Stop::MissingTable)?.map(|step| step as i16));
            }
        }
        Tables::new(&self.segments, &self.frame, scan)
    }

    /// A scan that has everything.
    fn run_once(mut self, scan: &Scan, at: usize, mut rows: Rows) -> Result<Vec<u8>, Stop> {
        let tables = self.prepare(scan)?;
        let steps: Vec<Block> = self.steps.iter().flatten().copied().collect();
        let mut entropy = Entropy::new(self.bytes, at, self.segments.restart_interval);
        for unit in 0..self.frame.units_high() {
            for_each_block(
                &self.frame,
                scan,
                unit,
                &mut entropy,
                |entropy, place, has_data| {
                    let part = &scan.parts[place.part];
                    let mut block = [0; 64];
                    let mut is_flat = true;
                    if has_data {
                        let Entropy { bits, previous, .. } = entropy;
                        let previous = &mut previous[place.part];
                        let (dc, ac) = (tables.dc(part), tables.ac(part));
                        sequential::decode(bits, previous, dc, ac, |place, value| {
                            is_flat &= place == 0;
                            block[usize::from(ZIGZAG[place & 127] & 63)] = value;
                        });
                    }
                    let samples = self.level.inverse(&block, is_flat, &steps[part.component]);
                    let row = place.row - unit * self.frame.components[part.component].v;
                    rows.put(part.component, row, place.column, &samples);
                },
            )?;
            rows.complete(self.level);
        }
        self.segments.resume(entropy.bits.position());
        match self.segments.next() {
            Ok(Event::End) => Ok(rows.into_picture()),
            Ok(Event::Scan(..)) => Err(Stop::Marker(segments::START_OF_SCAN)),
            // By then Pillow has all rows, and is content if it could read ahead.
            Err(Stop::CutOff) if entropy.bits.is_followed() => Ok(rows.into_picture()),
            Err(stop) => Err(stop),
        }
    }

    /// All scans, and then the picture.
    fn run_whole(mut self, scan: Scan, at: usize, mut rows: Rows) -> Result<Vec<u8>, Stop> {
        let mut whole = Whole::new(&self.frame);
        let mut event = Event::Scan(scan, at);
        while let Event::Scan(scan, at) = event {
            let tables = self.prepare(&scan)?;
            let entropy = Entropy::new(self.bytes, at, self.segments.restart_interval);
            let behind = whole.read(&self.frame, &scan, &tables, entropy)?;
            self.segments.resume(behind);
            event = self.segments.next()?;
        }
        let smoothing = whole.smoothing(&self.frame, &self.steps);
        for unit in 0..self.frame.units_high() {
            for (part, component) in self.frame.components.iter().enumerate() {
                // A component without a scan is grey.
                let steps = self.steps[part].unwrap_or([0; 64]);
                let first = unit * component.v;
                for row in first..component.blocks_high().min(first + component.v) {
                    for column in 0..component.blocks_wide() {
                        let place = Place { part, row, column };
                        let (mut block, mut is_flat) = whole.block(place);
                        if let Some(smoothing) = &smoothing {
                            whole.smooth(&self.frame, smoothing, place, &steps, &mut block);
                            is_flat = false;
                        }
                        let samples = self.level.inverse(&block, is_flat, &steps);
                        rows.put(part, row - first, column, &samples);
                    }
                }
            }
            rows.complete(self.level);
        }
        Ok(rows.into_picture())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Numbers that look random (xorshift).
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn every_level_transforms_alike() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for round in 0..20_000 {
            // Anything from a flat block to one that is out of all bounds.
            let (bits, density) = (round % 16, round % 7 + 1);
            let mut number = |_| {
                let number = random(&mut state) as i16 >> bits;
                if random(&mut state) % 7 < density {
                    number
                } else {
                    0
                }
            };
            let mut block: Block = std::array::from_fn(&mut number);
            let steps: Block = std::array::from_fn(|place| number(place) >> 4);
            if round % 5 == 0 {
                block[8 - round as usize % 8..].fill(0);
            }
            let plain = Level::Plain.inverse(&block, false, &steps);
            assert_eq!(
                Level::detect().inverse(&block, false, &steps),
                plain,
                "{block:?} {steps:?}"
            );
            if block[1..].iter().all(|coefficient| *coefficient == 0) {
                assert_eq!(
                    Level::Plain.inverse(&block, true, &steps),
                    plain,
                    "{block:?} {steps:?}"
                );
            }
        }
    }

    #[test]
    fn every_level_decodes_alike() {
        const END_AND_START: &[u8] = &[0xff, 0xd9, 0xff, 0xd8];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
        let files = fs::read(folder.join("jpegs.bin")).unwrap();
        // Cut where one ends and the next begins: here it does not matter what they are.
        let mut decoded = 0;
        let mut rest = files.as_slice();
        while let Some(end) = rest.windows(4).position(|bytes| bytes == END_AND_START) {
            let (file, after) = rest.split_at(end + 2);
            rest = after;
            let options = DecodeOptions::default();
            let plain = decode_at(Level::Plain, file, options).ok();
            assert!(decode_at(Level::detect(), file, options).ok() == plain);
            decoded += usize::from(plain.is_some());
        }
        assert!(decoded >= 150, "{decoded}");
    }
}
