//! Pictures against Pillow, transformers and torchvision; `tests/reference/pictures.py` made the
//! fixtures.

use std::fs;
use std::path::{Path, PathBuf};

use bunny_core::input::image::{
    Aspect, DecodeOptions, ImageError, ImageProcessor, Kind, Pixels, decode, decode_file,
};
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
        // Pillow's libwebp rounds otherwise than the decoder here.
        assert!(largest <= 4 && mean < 0.5, "{name}: {largest} {mean}");
    }
}

#[test]
fn photographs_decode_as_in_pillow() {
    let expected = bytes("decoded.bin");
    let mut count = 0;
    for entry in entries("decoded.json") {
        let name = text(&entry, "name");
        if name.ends_with(".jpg") {
            assert_eq!(difference(&entry, &expected).0, 0, "{name}");
            count += 1;
        }
    }
    assert!(count >= 14, "{count}");
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

#[test]
fn photographs_lie_as_taken_unless_upright_is_asked_for() {
    let path = fixture("files/upright-6.jpg");
    let lying = decode_file(&path, DecodeOptions::default()).unwrap();
    let upright = decode_file(&path, DecodeOptions::upright()).unwrap();
    assert_eq!(
        (lying.dimensions(), upright.dimensions()),
        ((10, 6), (6, 10))
    );
}

#[test]
fn pictures_that_are_cut_off_are_errors() {
    for entry in entries("decoded.json") {
        let name = text(&entry, "name");
        let whole = bytes(&format!("files/{name}"));
        for kept in (0..whole.len()).step_by(1 + whole.len() / 60) {
            if let Ok(picture) = decode(&whole[..kept], DecodeOptions::default()) {
                // What is missing is no pixel: a checksum, an end mark, a second frame, EXIF data.
                let complete = decode(&whole, DecodeOptions::default()).unwrap();
                assert!(
                    !name.ends_with(".jpg") && picture == complete,
                    "{name}: {kept} of {}",
                    whole.len()
                );
            }
        }
    }
}

#[test]
fn pngs_without_their_end_are_taken_where_pillow_takes_them() {
    // The code behind the last row, which ends its block, has up to 15 bits: the decoder waits for the
    // two bytes, and Pillow does not.
    const END_OF_BLOCK: usize = 2;
    let needed: Value = serde_json::from_slice(&bytes("cut-pngs.json")).unwrap();
    let needed = needed.as_object().unwrap();
    for (name, needed) in needed {
        let needed = needed.as_u64().unwrap() as usize;
        let whole = bytes(&format!("files/{name}"));
        let complete = decode(&whole, DecodeOptions::default()).unwrap();
        for kept in 0..whole.len() {
            match decode(&whole[..kept], DecodeOptions::default()) {
                Ok(picture) => assert!(kept >= needed && picture == complete, "{name}: {kept}"),
                Err(error) => assert!(
                    kept < needed + END_OF_BLOCK,
                    "{name}: {kept} of {needed}: {error}"
                ),
            }
        }
    }
    assert!(needed.len() >= 20, "{}", needed.len());
}

#[test]
fn stray_bytes_between_the_segments_of_a_jpeg_are_passed_over() {
    for name in [
        "rgb-420.jpg",
        "progressive.jpg",
        "grey.jpg",
        "upright-6.jpg",
    ] {
        let whole = bytes(&format!("files/{name}"));
        let expected = decode(&whole, DecodeOptions::default()).unwrap();
        // Behind the start of image and the first segment.
        let length = u16::from_be_bytes([whole[4], whole[5]]);
        let (head, rest) = whole.split_at(4 + usize::from(length));
        for stray in [&[0][..], &[0xff, 0], &[0x12, 0x34, 0], &[0xff, 0xff]] {
            let strewn = [head, stray, rest].concat();
            let picture = decode(&strewn, DecodeOptions::default());
            assert_eq!(picture.unwrap(), expected, "{name}: {stray:x?}");
            let cut = decode(&strewn[..strewn.len() - 2], DecodeOptions::default());
            assert!(matches!(cut, Err(ImageError::CutOff)), "{name}: {cut:?}");
        }
    }
}

#[test]
fn what_is_no_picture_is_an_unknown_format() {
    for bytes in [&b""[..], b"hello", &[0; 100], b"%PDF-1.4"] {
        assert!(matches!(
            decode(bytes, DecodeOptions::default()),
            Err(ImageError::UnknownFormat)
        ));
    }
}

#[test]
fn pictures_beyond_the_limit_are_refused_before_they_are_decoded() {
    for entry in entries("decoded.json") {
        let name = text(&entry, "name");
        let pixels = (number(&entry, "width") * number(&entry, "height")) as u64;
        let limited = DecodeOptions {
            max_pixels: pixels - 1,
            ..options(&entry)
        };
        let error = decode(&bytes(&format!("files/{name}")), limited).unwrap_err();
        assert!(
            matches!(error, ImageError::TooLarge { .. }),
            "{name}: {error}"
        );
        assert!(
            decode(
                &bytes(&format!("files/{name}")),
                DecodeOptions {
                    max_pixels: pixels,
                    ..limited
                }
            )
            .is_ok(),
            "{name}"
        );
    }
}

#[test]
fn pictures_without_pixels_are_refused_and_processed_as_padding() {
    let mut gif = bytes("files/palette.gif");
    gif[6..10].fill(0);
    let frame = gif
        .windows(5)
        .position(|bytes| bytes == [0x2c, 0, 0, 0, 0])
        .unwrap();
    gif[frame + 5..frame + 9].fill(0);
    let error = decode(&gif, DecodeOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::Empty {
                width: 0,
                height: 0
            }
        ),
        "{error}"
    );

    for (width, height) in [(0, 0), (0, 5), (5, 0)] {
        let pixels = ImageProcessor::siglip(8).process(&RgbImage::new(width, height));
        assert!(
            pixels
                .data
                .iter()
                .all(|value| *value == (127.0 / 255.0 - 0.5) / 0.5),
            "{width}x{height}"
        );
    }
}

#[test]
fn thin_pictures_are_processed_without_making_what_the_crop_leaves_out() {
    // Resized whole, this would have 336 x 3,360,000 pixels.
    let thin = RgbImage::from_fn(3, 30_000, |_, y| image::Rgb([(y % 251) as u8; 3]));
    let pixels = ImageProcessor::eva_clip(336)
        .with_aspect(Aspect::Square)
        .process(&thin);
    assert_eq!(pixels.data.len(), 3 * 336 * 336);
}

#[test]
fn a_picture_in_its_place_is_the_canvas_laid_out() {
    let sides = [
        (1, 1),
        (1, 40),
        (40, 1),
        (3, 17),
        (17, 3),
        (100, 64),
        (64, 100),
        (16, 30),
        (30, 31),
    ];
    for (width, height) in sides {
        let noise = |x: u32, y: u32| [13, 29, 53].map(|step| ((x * step) ^ (y * 7 * step)) as u8);
        let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb(noise(x, y)));
        for processor in [
            ImageProcessor::siglip(16),
            ImageProcessor::clip(16),
            ImageProcessor::eva_clip(16),
        ] {
            let side = width.max(height);
            let (left, top) = ((side - width) / 2, (side - height) / 2);
            let color = image::Rgb(processor.padding());
            let mut canvas = RgbImage::from_pixel(side, side, color);
            image::imageops::replace(&mut canvas, &picture, left.into(), top.into());
            let found = processor.process(&picture);
            let expected = processor.with_aspect(Aspect::Square).process(&canvas);
            assert!(found == expected, "{width}x{height}");
        }
    }
}

#[test]
fn the_margins_of_a_canvas_cost_nothing() {
    // Read whole, these have four billion pixels.
    let white = image::Rgb([255; 3]);
    for (width, height) in [(1, 65_535), (65_535, 1)] {
        let line = RgbImage::from_pixel(width, height, white);
        let pixels = ImageProcessor::siglip(8).process(&line);
        // A line so thin is not seen.
        let is_margin = |value: &f32| *value == (127.0 / 255.0 - 0.5) / 0.5;
        assert!(pixels.data.iter().all(is_margin), "{width}x{height}");
    }
}

#[test]
fn errors_name_the_file() {
    let missing = decode_file(fixture("files/none.png"), DecodeOptions::default()).unwrap_err();
    assert!(missing.to_string().contains("none.png"), "{missing}");
    let wrong = decode_file(fixture("decoded.json"), DecodeOptions::default()).unwrap_err();
    assert!(
        wrong.to_string().contains("decoded.json: not a picture"),
        "{wrong}"
    );
}

fn configured(json: &str) -> Result<ImageProcessor, ImageError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("preprocessor_config.json");
    fs::write(&path, json).unwrap();
    ImageProcessor::from_preprocessor_config(path)
}

#[test]
fn published_configurations_give_the_processors_of_their_towers() {
    // As google/siglip-so400m-patch14-384 and openai/clip-vit-large-patch14-336 have them.
    let siglip = configured(
        r#"{"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
            "size": {"height": 384, "width": 384}}"#,
    );
    assert_eq!(siglip.unwrap(), ImageProcessor::siglip(384));
    let clip = configured(
        r#"{"crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 336,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711]}"#,
    );
    assert_eq!(
        clip.unwrap(),
        ImageProcessor {
            kind: Kind::Clip,
            ..ImageProcessor::eva_clip(336)
        }
    );
}

#[test]
fn a_processor_is_what_its_own_configuration_says() {
    let siglip = ImageProcessor::siglip(384);
    let unusual = ImageProcessor {
        mean: [0.4, 0.5, 0.6],
        std: [0.1, 0.2, 0.3],
        ..ImageProcessor::siglip(112)
    };
    for processor in [
        siglip.clone(),
        unusual,
        ImageProcessor::clip(336),
        ImageProcessor::eva_clip(336),
    ] {
        let said = processor.preprocessor_config();
        assert_eq!(configured(&said.to_string()).unwrap(), processor, "{said}");
    }
    // The fields of google/siglip-so400m-patch14-384, but for the name of what text and pictures
    // are prepared by together.
    let published: Value = serde_json::from_str(
        r#"{"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
            "resample": 3, "rescale_factor": 0.00392156862745098,
            "size": {"height": 384, "width": 384}}"#,
    )
    .unwrap();
    assert_eq!(siglip.preprocessor_config(), published);
}

#[test]
fn configurations_that_would_not_be_followed_are_errors_naming_the_field() {
    for (field, setting) in [
        ("resample", r#""resample": 2"#),
        ("rescale_factor", r#""rescale_factor": 0.5"#),
        ("do_normalize", r#""do_normalize": false"#),
        ("do_center_crop", r#""do_center_crop": true"#),
        ("size", r#""size": {"height": 384, "width": 512}"#),
        ("size", r#""size": 0"#),
        ("image_mean", r#""image_mean": [0.5]"#),
    ] {
        let json = format!(r#"{{"image_processor_type": "SiglipImageProcessor", {setting}}}"#);
        match configured(&json) {
            Err(ImageError::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{json}: {other:?}"),
        }
    }
    let unknown = configured(r#"{"image_processor_type": "ViTImageProcessor"}"#).unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("`image_processor_type` is \"ViTImageProcessor\""),
        "{unknown}"
    );
}
