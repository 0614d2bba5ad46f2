//! Pictures of requests: from an address to what the tower takes.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bunny_core::input::image::{DecodeOptions, ImageProcessor, Pixels, decode};

use crate::fetch::Fetcher;

/// With padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The bytes of a picture's address: a data URL, or one that is fetched where there is a fetcher.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn bytes(address: &str, fetcher: Option<&Fetcher>) -> Result<Vec<u8>, String> {
    let is_remote = ["http://", "https://"].iter().any(|scheme| {
        let head = address.get(..scheme.len()).unwrap_or_default();
        head.eq_ignore_ascii_case(scheme)
    });
    match fetcher.filter(|_| is_remote) {
        Some(fetcher) => fetcher.fetch(address),
        None => data_url(address),
    }
}

/// The bytes of a data URL: base64 of either alphabet, white space in it passed over; whatever kind it
/// says it is, the bytes tell.
///
/// # Errors
/// What is wrong, where it is no data URL or not in base64.
fn data_url(address: &str) -> Result<Vec<u8>, String> {
    let head = address.get(..5).unwrap_or_default();
    if !head.eq_ignore_ascii_case("data:") {
        return Err("pictures are taken as data URLs alone (`data:image/png;base64,…`)".into());
    }
    let (kind, data) = address.split_once(',').unwrap_or((address, ""));
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err("a data URL of a picture must be in base64".into());
    }
    let data = data.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let data: Vec<u8> = data.collect();
    let alphabet = match data.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    let bytes = alphabet.decode(data);
    bytes.map_err(|_| "the picture's base64 is damaged".into())
}

/// Whether bytes begin as a file of a kind that is taken. More can be decoded; over a network, the fewer
/// decoders the better.
fn is_taken(bytes: &[u8]) -> bool {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let kinds: [&[u8]; 3] = [b"\xff\xd8\xff", b"\x89PNG", b"GIF8"];
    is_webp || kinds.iter().any(|kind| bytes.starts_with(kind))
}

/// Decodes and prepares a picture, as the model's own processor says.
///
/// # Errors
/// What is wrong, where the bytes are no picture, or it has more than `max_pixels`. No word of a decoder
/// is in it.
pub(crate) fn prepare(
    bytes: &[u8],
    processor: &ImageProcessor,
    max_pixels: u64,
) -> Result<Pixels, String> {
    if !is_taken(bytes) {
        return Err("a picture must be a JPEG, PNG, WebP or GIF".into());
    }
    let options = DecodeOptions {
        max_pixels,
        ..DecodeOptions::upright()
    };
    match decode(bytes, options) {
        Ok(picture) => Ok(processor.process(&picture)),
        Err(error) => {
            tracing::debug!("{error}");
            let most = max_pixels;
            Err(format!(
                "the picture cannot be read, or has more than {most} pixels"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_read_in_both_alphabets_with_white_space_and_without_padding() {
        let bytes = [0xfb, 0xff, 0x01, 0x02];
        for address in [
            "data:image/png;base64,+/8BAg==",
            "data:image/png;base64,+/8BAg",
            "DATA:;BASE64,-_8BAg==",
            "data:whatever/it;x=y;base64,+/8B\nAg = =",
        ] {
            assert_eq!(data_url(address).unwrap(), bytes, "{address}");
        }
        for address in [
            "",
            "data:",
            "data:,abc",
            "http://a/b.png",
            "file:///etc",
            "data:;base64,é",
            "data:;base64,a",
        ] {
            assert!(data_url(address).is_err(), "{address}");
        }
    }

    #[test]
    fn what_is_no_picture_is_told_in_our_own_words() {
        let processor = ImageProcessor::siglip(32);
        let shapes = include_bytes!("../../examples/pictures/shapes.jpg");
        assert!(prepare(shapes, &processor, u64::MAX).is_ok());
        for (bytes, most) in [
            (&shapes[..200], u64::MAX),
            (shapes, 100),
            (b"\x89PNG\r\n", u64::MAX),
            (b"II*\0", u64::MAX),
            (b"", u64::MAX),
        ] {
            let told = prepare(bytes, &processor, most).unwrap_err();
            assert!(told.starts_with("a picture must") || told.starts_with("the picture cannot"));
        }
    }
}
