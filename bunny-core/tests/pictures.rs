//! Pictures against Pillow, transformers and torchvision; `tests/reference/pictures.py` made the
//! fixtures.

use std::fs;
use std::path::{Path, PathBuf};

use bunny_core::image_processor::{Aspect, DecodeOptions, ImageProcessor, Pixels, decode_file};
use image::RgbImage;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pictures")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn entries(name: &str) -> Vec<Value> {
    serde_json::from_slice(&bytes(name)).unwrap()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap()
}

fn number(entry: &Value, field: &str) -> usize {
    entry[field].as_u64().unwrap() as usize
}

fn options(entry: &Value) -> DecodeOptions {
    if entry["upright"] == true {
        DecodeOptions::upright()
    } else {
        DecodeOptions::default()
    }
}

fn processor(entry: &Value) -> ImageProcessor {
    let side = number(entry, "side");
    let processor = match text(entry, "kind") {
        "siglip" => ImageProcessor::siglip(side),
        "eva" => ImageProcessor::eva_clip(side),
        _ => ImageProcessor::clip(side),
    };
    processor.with_aspect(text(entry, "aspect").parse::<Aspect>().unwrap())
}

fn le_bytes(pixels: &Pixels) -> Vec<u8> {
    pixels
        .data
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Largest and mean difference of a decoded file to what Pillow makes of it.
fn difference(entry: &Value, expected: &[u8]) -> (u8, f64) {
    let name = text(entry, "name");
    let picture =
        decode_file(fixture("files").join(name), options(entry)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (picture.width() as usize, picture.height() as usize),
        (number(entry, "width"), number(entry, "height")),
        "{name}"
    );
    let expected = &expected[number(entry, "offset")..][..picture.as_raw().len()];
    let differences = || {
        picture
            .as_raw()
            .iter()
            .zip(expected)
            .map(|(a, b)| a.abs_diff(*b))
    };
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / expected.len() as f64)
}

#[test]
fn lossless_files_decode_as_in_pillow() {
    let expected = bytes("decoded.bin");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in entries("decoded.json")
        .iter()
        .filter(|entry| entry["lossy"] == false)
    {
        let found = std::panic::catch_unwind(|| difference(entry, &expected));
        match found {
            Ok((0, _)) => {}
            other => wrong.push(format!(
                "{} {} {:?}",
                text(entry, "name"),
                text(entry, "mode"),
                other.ok()
            )),
        }
        count += 1;
    }
    assert!(count >= 55, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lossy_files_decode_close_to_pillow() {
    let expected = bytes("decoded.bin");
    for entry in entries("decoded.json")
        .iter()
        .filter(|entry| entry["lossy"] == true)
    {
        let name = text(entry, "name");
        let (largest, mean) = difference(entry, &expected);
        println!("{name}: largest difference {largest}, mean {mean:.4}");
        // Pillow's libjpeg-turbo and libwebp round otherwise than the decoders here.
        assert!(largest <= 4 && mean < 0.5, "{name}: {largest} {mean}");
    }
}

#[test]
fn pixels_equal_the_processors_to_the_bit() {
    let expected = bytes("pixels.bin");
    let entries = entries("pixels.json");
    for entry in &entries {
        let name = text(entry, "name");
        let picture = decode_file(fixture("files").join(name), DecodeOptions::default()).unwrap();
        let found = le_bytes(&processor(entry).process(&picture));
        assert!(
            found == expected[number(entry, "offset")..][..found.len()],
            "{entry}"
        );
    }
    assert!(entries.len() >= 120, "{}", entries.len());
}

#[test]
fn pixels_of_whole_size_equal_the_processors_to_the_bit() {
    let picture = decode_file(fixture("large.png"), DecodeOptions::default()).unwrap();
    for entry in entries("large.json") {
        let found = crc32(&le_bytes(&processor(&entry).process(&picture)));
        assert_eq!(
            u64::from(found),
            entry["crc32"].as_u64().unwrap(),
            "{entry}"
        );
    }
}

/// CRC-32 as in zlib, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn every_byte_is_normalised_to_the_bit() {
    let tables: Value = serde_json::from_slice(&bytes("tables.json")).unwrap();
    let greys = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(y * 16 + x) as u8; 3]));
    for (kind, processor) in [
        ("siglip", ImageProcessor::siglip(16)),
        ("eva", ImageProcessor::eva_clip(16)),
        ("clip", ImageProcessor::clip(16)),
    ] {
        let found = processor.process(&greys).data;
        let expected = tables[kind]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|channel| channel.as_array().unwrap());
        let expected: Vec<u64> = expected.map(|bits| bits.as_u64().unwrap()).collect();
        let found: Vec<u64> = found.iter().map(|value| value.to_bits().into()).collect();
        assert_eq!(found, expected, "{kind}");
    }
}
