//! Pictures of requests: from an address to what the tower takes.

use base64::{
    Engine as _,
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bunny_core::input::image::{DecodeOptions, ImageProcessor, Pixels, decode};

use crate::wire::ApiError;

/// With padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The bytes of a data URL: base64 of either alphabet, white space in it passed over; whatever kind it
/// says it is, the bytes tell.
///
/// # Errors
/// When it is no data URL, or not in base64.
pub(crate) fn data_url(address: &str, param: &str) -> Result<Vec<u8>, ApiError> {
    let head = address.get(..5).unwrap_or_default();
    if !head.eq_ignore_ascii_case("data:") {
        return Err(ApiError::invalid(
            param,
            "pictures are taken as data URLs (`data:image/png;base64,…`); addresses of other servers \
             are fetched only where the server allows their host",
        ));
    }
    let (kind, data) = address.split_once(',').unwrap_or((address, ""));
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err(ApiError::invalid(param, "a data URL of a picture must be in base64"));
    }
    let data: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let alphabet = match data.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    alphabet
        .decode(data)
        .map_err(|_| ApiError::invalid(param, "the picture's base64 is damaged"))
}

/// Decodes and prepares a picture, as the model's own processor says. No word of a decoder goes out.
///
/// # Errors
/// When the bytes are no picture, or it has more than `max_pixels`.
pub(crate) fn prepare(
    bytes: &[u8],
    processor: &ImageProcessor,
    max_pixels: u64,
    param: &str,
) -> Result<Pixels, ApiError> {
    let options = DecodeOptions { max_pixels, ..DecodeOptions::upright() };
    match decode(bytes, options) {
        Ok(picture) => Ok(processor.process(&picture)),
        Err(error) => {
            tracing::debug!("{error}");
            Err(ApiError::invalid(
                param,
                format!("this is no picture that can be read, or it has more than {max_pixels} pixels"),
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
            assert_eq!(data_url(address, "p").unwrap(), bytes, "{address}");
        }
        for address in ["", "data:", "data:,abc", "http://a/b.png", "file:///etc", "data:;base64,é", "data:;base64,a"] {
            assert_eq!(data_url(address, "p").unwrap_err().status, 400, "{address}");
        }
    }
}
